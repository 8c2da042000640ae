# Two commands that do all their own set-up: `make toptagging` and `make test`; `make test-all` runs all tests.
# Another torch: make TORCH=torch==2.11.0 toptagging    Another Python: make PYTHON=python3.12 test
PYTHON ?= python3
TORCH ?= torch==2.13.0
XFORMERS ?= xformers==0.0.35
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
ARGS ?=
# One process for each core, and no threads beside it.
WORKERS ?= auto
LINT = $(BIN)/ruff check . && $(BIN)/ruff format --check .
# Bytecode is kept, even where the environment says not to: tests start many programs.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal
COVERAGE = --cov=lgatr --cov-report=term-missing:skip-covered --cov-fail-under=97
TOOK = echo "make $@: $$(( $$(date +%s) - start )) seconds"

.DEFAULT_GOAL := help
.PHONY: help toptagging test types test-all slow docs lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

# Each stamp is renewed when what it was made from changes, and carries the torch it was made for.
STAMP := $(VENV)/stamp-$(subst =,-,$(TORCH))-$(subst =,-,$(XFORMERS))

$(STAMP)-base:
	@echo "Creating $(VENV) with $(TORCH) and $(XFORMERS)"
	@$(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/stamp-*
	@# torch first and by version: left to a dependency, pip would take a build with gigabytes of CUDA
	@$(PIP) numpy $(TORCH)
	@$(PIP) --no-deps $(XFORMERS)
	@touch $@

$(STAMP)-experiments: $(STAMP)-base pyproject.toml
	@echo "Installing what the experiments need"
	@$(PIP) $(TORCH) --editable '.[experiments]'
	@touch $@

$(STAMP)-test: $(STAMP)-base pyproject.toml
	@echo "Installing what the tests need"
	@$(PIP) $(TORCH) --editable '.[test]'
	@touch $@ $(STAMP)-experiments

toptagging: $(STAMP)-experiments ## train, test and report a top tagger on the jets shipped here
	@$(BIN)/python run.py experiment=toptagging attention=xformers $(ARGS)

test: $(STAMP)-test ## lint and run the tests, all but the slow ones: minutes
	@start=$$(date +%s); $(LINT) && $(PYTEST) $(ARGS) && $(TOOK)

test-all: $(STAMP)-test ## lint, types, all tests, and 97 % of the lines of lgatr/ covered by them
	@# Tracing lines takes half as long again; tests of other packages add no lines, and few slow ones do.
	@start=$$(date +%s); $(LINT) && $(BIN)/mypy && \
		$(PYTEST) $(COVERAGE) tests/lgatr tests/project $(ARGS) && \
		$(PYTEST) --durations=25 -m "slow or not core" $(ARGS) && $(TOOK)

types: $(STAMP)-test ## check types
	@$(BIN)/mypy

slow: $(STAMP)-test ## run the slow tests alone
	@$(PYTEST) -m slow $(ARGS)

docs: $(STAMP)-test ## build the site into docs/_build/html, running its notebooks
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lint: $(STAMP)-test ## format, and fix what can be fixed
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean: ## remove the virtual environment and caches
	@rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache *.egg-info
