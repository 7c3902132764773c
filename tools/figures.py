"""Draw every figure of the book again, each as NAME.png, NAME.svg and NAME.json.

    python -m tools.figures --scale smoke --out FOLDER

Each chapter runs once and leaves all of its figures; `mbml figure NAME` makes a single one.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import papermill

from mbml.figures import FIGURES, SCALES
from tools.first_cell import ROOT


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="laptop")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    # The kernels inherit both: where figures go, and that nobody is there to move them.
    os.environ |= {"MBML_FIGURES": str(args.out.resolve()), "MBML_LIVE": "0"}
    for chapter in dict.fromkeys(FIGURES.values()):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            papermill.execute_notebook(
                ROOT / chapter,
                Path(folder, "executed.ipynb"),
                {"scale": args.scale},
                cwd=(ROOT / chapter).parent,
                kernel_name="python3",
                progress_bar=False,
            )
        for name in (name for name, where in FIGURES.items() if where == chapter):
            print(args.out / f"{name}.png", flush=True)
        print(f"{chapter}: {time.perf_counter() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
