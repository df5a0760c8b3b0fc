# Jachai: the two commands are `make demo` and `make test`. Works with GNU make 3.81 (macOS) and later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo demo-web test lint docs train-env model clean
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.base  ## install Jachai and examine the embedded study: one intact, one tampered
	@rm -rf demo-out
	$(BIN)/jachai demo --out demo-out
	@echo "The same on a page in your browser: make demo-web"

demo-web: $(VENV)/.web  ## the same on the page in your browser, until Ctrl-C
	$(BIN)/jachai demo --web

test: lint  ## everything that must hold: lint, types, import contracts, tests
	$(BIN)/python -m pytest -n 2
	@rm -rf build/notebooks && mkdir -p build/notebooks
	TMPDIR="$(CURDIR)/build/notebooks" $(BIN)/python -m pytest -n 2 --nbmake --nbmake-timeout=600 -o timeout=900 notebooks
	@rm -rf build/notebooks

lint: $(VENV)/.train
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev  ## build the documentation into site/ (works without a network once installed)
	$(BIN)/python -m mkdocs build --strict

train-env: $(VENV)/.train  ## add the training extra (torch)

MODEL_DATA ?= ../shared/data
MODEL_OUT ?= model-out
model: $(VENV)/.train  ## train what ships anew (the search network, the judge of nodules): painters, simulation, training, calibration, export (resumable)
	$(BIN)/jachai dataset index $(MODEL_DATA) --out $(MODEL_OUT)/manifest.jsonl
	$(MAKE) -j2 painter-removal painter-injection
	JACHAI_HOME=$(MODEL_OUT)/home $(BIN)/jachai train dense --data $(MODEL_OUT)/manifest.jsonl --out $(MODEL_OUT)/dense --resume
	JACHAI_HOME=$(MODEL_OUT)/home $(BIN)/jachai train boosting --data $(MODEL_OUT)/manifest.jsonl --simulate 160 --name nodules --out $(MODEL_OUT)/nodules --resume
	mkdir -p $(MODEL_OUT)/dense/second && ln -sfn ../../nodules/simulated $(MODEL_OUT)/dense/second/simulated
	JACHAI_HOME=$(MODEL_OUT)/home $(BIN)/python benchmarks/train_second_stage.py --run $(MODEL_OUT)/dense --data $(MODEL_OUT)/manifest.jsonl
	@echo "The models are in $(MODEL_OUT)/dense/bundle and nodules/bundle, the second look's calibration was printed. To ship them: copy the"
	@echo "bundles to src/jachai/detectors/bundles, and call benchmarks/train_second_stage.py once more with --write."

painter-%: $(VENV)/.train  # one painter of `model`: two of them side by side take as long as one with two threads
	JACHAI_HOME=$(MODEL_OUT)/home $(BIN)/jachai painter train unet-gan --task $* --data $(MODEL_DATA)/ct \
	  --out $(MODEL_OUT)/home/painters/gan-$* --steps 700 --threads 1 --resume

clean:  ## remove everything that was made here
	rm -rf $(VENV) build dist site demo-out .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Jachai needs Python 3.11 or later; say which: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV) || { echo 'No venv module: on Debian and Ubuntu run "apt-get install python3-venv".'; rm -rf $(VENV); exit 1; }

$(VENV)/.base: $(BIN)/python pyproject.toml
	$(PIP) install -e .
	@touch $@

$(VENV)/.web: $(BIN)/python pyproject.toml
	$(PIP) install -e '.[web]'
	@touch $(VENV)/.base $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(PIP) install -e '.[dev]'
	@touch $(VENV)/.base $@

$(VENV)/.train: $(VENV)/.dev constraints.txt
	$(PIP) install -e '.[train]' -c constraints.txt
	@touch $@
