"""`python -m mbml` is `mbml`."""

import sys

from mbml.cli import main

sys.exit(main())
