# Each target makes .venv where there is none, and installs into it again when setup.cfg has changed.
PYTHON ?= python3
BIN := .venv/bin
# One more than there are processors: some tests wait for other processes.
TESTERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: demo test lint bench clean

demo: .venv/installed
	$(BIN)/erkeras train --dataset digits --baseline --output saved_models/digits-er-classifier --resume

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --maxprocesses 8 --dist worksteal

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/train_step.py

clean:
	rm -rf .venv build *.egg-info saved_models/digits-er-classifier saved_models/.digits-er-classifier.training

.venv/installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
