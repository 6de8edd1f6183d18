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

# The paper's rows on digits, over three seeds; what is done is not done again.
DEFENSES := none e-cla vae-cla rse er-classifier-minus madry trades er-classifier er-trades
SEEDS := 0 1 2
rows: .venv/installed $(foreach defense,$(DEFENSES),$(foreach seed,$(SEEDS),rows/$(defense)-$(seed)/.judged))
	$(BIN)/erkeras table $(foreach defense,$(DEFENSES),$(foreach seed,$(SEEDS),rows/$(defense)-$(seed))) \
	  --pair rows/er-classifier-0 rows/madry-0 --pair rows/er-classifier-minus-0 rows/e-cla-0 \
	  --pair rows/er-trades-0 rows/trades-0

rows/%/.judged: | .venv/installed
	$(eval seed := $(lastword $(subst -, ,$*)))
	$(BIN)/erkeras train --defense $(patsubst %-$(seed),%,$*) --seed $(seed) --output rows/$* --resume
	$(BIN)/erkeras attack rows/$* --attack pgd --attack autoattack --card --resume
	touch $@

clean:
	rm -rf .venv build *.egg-info saved_models/digits-er-classifier saved_models/.digits-er-classifier.training

.venv/installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
