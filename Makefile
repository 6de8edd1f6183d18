# Each target makes .venv where there is none, and installs into it again when setup.cfg has changed.
# The text after ## is what `make help` says.
PYTHON ?= python3
BIN := .venv/bin
# One more than there are processors: some tests wait for other processes.
TESTERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: help demo test slow lint docs bench clean

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## trains on scikit-learn's digits, attacks, exports: 1 minute on 2 cores
	$(BIN)/erkeras train --dataset digits --baseline --output saved_models/digits-er-classifier --resume

test: .venv/installed ## runs the tests
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --maxprocesses 8 --dist worksteal

slow: .venv/installed ## runs the tests that take longest, which make test leaves out
	$(BIN)/python -m pytest -m slow --numprocesses $(TESTERS) --maxprocesses 8 --dist worksteal

lint: .venv/installed ## runs ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs ## builds the documentation's site into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: .venv/installed ## measures the training step against PyTorch
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/train_step.py

clean: ## deletes .venv, build and the demo's model
	rm -rf .venv build *.egg-info saved_models/digits-er-classifier saved_models/.digits-er-classifier.training

.venv/installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@
