# Each target makes .venv where there is none, and installs into it again when setup.cfg has changed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench rows clean

demo: .venv/installed
	$(BIN)/erkeras train --dataset digits --baseline --output saved_models/digits-er-classifier --resume

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/train_step.py

# The paper's rows over three seeds, each attacked by PGD and AutoAttack; what is done is not done again.
DATASET ?= digits
EPOCHS ?=
DEFENSES := none e-cla vae-cla rse er-classifier-minus madry trades er-classifier er-trades
SEEDS ?= 0 1 2
FOLDER := rows/$(DATASET)
MODELS := $(foreach defense,$(DEFENSES),$(foreach seed,$(SEEDS),$(FOLDER)/$(defense)-$(seed)))
first = $(FOLDER)/$(1)-$(firstword $(SEEDS))
rows: .venv/installed $(addsuffix /.judged,$(MODELS))
	$(BIN)/erkeras table $(MODELS) --pair $(call first,er-classifier) $(call first,madry) \
	  --pair $(call first,er-classifier-minus) $(call first,e-cla) --pair $(call first,er-trades) $(call first,trades)

$(FOLDER)/%/.judged: | .venv/installed
	$(eval seed := $(lastword $(subst -, ,$*)))
	$(BIN)/erkeras train --dataset $(DATASET) --defense $(patsubst %-$(seed),%,$*) --seed $(seed) --restarts 1 \
	  $(if $(EPOCHS),--epochs $(EPOCHS)) --output $(@D) --resume
	$(BIN)/erkeras attack $(@D) --attack pgd --attack autoattack --card --resume
	touch $@

clean:
	rm -rf .venv build *.egg-info saved_models/digits-er-classifier saved_models/.digits-er-classifier.training

.venv/installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
