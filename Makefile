# mbml: what a reader or an author types. `make` lists it.
PYTHON ?= python3
VENV   ?= .venv
SCALE  ?= laptop
PORT   ?= 8000
BIN    := $(VENV)/bin

# Chapters are computed on the CPU with one thread, whatever the machine has: so the numbers in the
# pages are the same ones everywhere, and two chapters run at once on two cores.
CHAPTERS_RUN := OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
# A figure that moves leaves its live twin out where nobody can use it: in pages and in git. The
# tests let it in, so that an error in it is noticed.
STILL := MBML_LIVE=0

# What is up to date is decided by content: each stamp carries a checksum of all that it rests on.
sum      = $(shell find $(1) -type f ! -path '*/.*/*' ! -path '*/__pycache__/*' ! -path '*.egg-info/*' \
             2>/dev/null | LC_ALL=C sort | xargs cksum | cksum | cut -d' ' -f1)
ENV_SUM  := $(call sum,pyproject.toml requirements.txt)
CODE_SUM := $(call sum,pyproject.toml requirements.txt mbml results)
PAGE_SUM := $(call sum,pyproject.toml requirements.txt mbml results book _config.yml _toc.yml)
INSTALLED := $(VENV)/.installed-$(ENV_SUM)
CACHE     := _build/.code-$(CODE_SUM)
PAGES     := _build/.pages-$(PAGE_SUM)

.DEFAULT_GOAL := help
.PHONY: help book test chapters serve lab figures refresh clean test-oldest chromium

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## */|/' | awk -F'|' '{printf "make %-13s %s\n", $$1, $$2}'

book: $(PAGES)  ## make the environment, execute every chapter, build _build/html/index.html
	@echo "The book: _build/html/index.html"

# Chapters run once for all tests: nbval runs them, compares what they print with what is committed
# and puts what came out into the execution cache; the pages are built from there (`make book`,
# called by the tests of the pages) and opened in the browser.
test: $(CACHE) chromium  ## run every test: the package, the chapters, the pages in a browser
	@status=0; \
	$(MAKE) --no-print-directory chapters || status=1; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope tests || status=1; \
	exit $$status

chapters: $(CACHE)  ## run the chapters and compare their numbers (CHAPTERS=... for some)
	$(CHAPTERS_RUN) $(BIN)/python -m pytest -n 2 --dist loadscope -p tests.book.fill_cache \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout 300 \
	  --nbval-sanitize-with tests/book/sanitize.cfg $(or $(CHAPTERS),book)

serve: $(PAGES)  ## read the book at http://localhost:8000 (PORT=...)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(INSTALLED)  ## open the chapters in JupyterLab, where the figures are live
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/book

figures: $(INSTALLED)  ## draw every figure again: SCALE=smoke, laptop or paper
	$(BIN)/python -m tools.figures --scale $(SCALE) --out _build/figures/$(SCALE)

refresh: $(INSTALLED)  ## execute the chapters in place, ready to commit (CHAPTERS=... for some)
	$(CHAPTERS_RUN) $(STILL) $(BIN)/python -m tools.refresh $(CHAPTERS)

clean:  ## remove what was built (the environment stays: rm -r .venv removes it)
	rm -rf _build
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

test-oldest: .venv-oldest/.oldest  ## optional: the package's own tests on torch 2.6, the oldest promised
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 --dist loadscope tests \
	  --ignore tests/book --ignore tests/test_commands.py

chromium: $(INSTALLED)
	@$(BIN)/python -m tools.chromium

$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("mbml needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@rm -f $(VENV)/.installed-* && touch $@

.venv-oldest/.oldest: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check \
	  -e . "torch==2.6.*" "torchvision==0.21.*" ipykernel beautifulsoup4 pytest pytest-xdist
	@touch $@

# The cache knows a chapter's own cells, not the package behind them, so it is dropped whenever the
# package, the kept results or the environment change.
$(CACHE): $(INSTALLED)
	@rm -rf _build/.jupyter_cache _build/.code-* && mkdir -p _build && touch $@

# Always from a clean tree: a second build over the first would pass over a broken page in silence.
$(PAGES): $(CACHE)
	@rm -rf _build/html _build/.doctrees _build/jupyter_execute _build/.pages-*
	$(CHAPTERS_RUN) $(STILL) $(BIN)/jupyter-book build -W -n --keep-going .
	@touch $@
