# Every target makes its own virtual environment in .venv when there is none, and renews it when pyproject.toml changes.
# Another interpreter: make demo PYTHON=python3.12. More arguments for the command: make test ARGS="-k retina".

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# A checkout of github.com/kevinzakka/recurrent-visual-attention, if `make bench` is to measure it beside ours.
REFERENCE ?=

# Small kernels on few cores: threads that wait must sleep. Spinning ones make them up to ten times slower.
export OMP_WAIT_POLICY ?= passive
export KMP_BLOCKTIME ?= 0
export GOMP_SPINCOUNT ?= 0
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

# How many processes share the tests. Each imports torch and holds up to 3 GiB.
WORKERS ?= 2
# A file's tests stay together, as they share its fixtures, and files come in their order: the small ones last.
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-fast serve check bench
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) ## train, evaluate, export and classify on real images; writes demo/ with an index.html
	$(BIN)/glimpse demo $(ARGS)

test: $(INSTALLED) ## run the tests
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-fast: $(INSTALLED) ## run the tests that are neither slow nor start a Python process, in less than two minutes
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow and not child' $(ARGS)

serve: $(INSTALLED) ## answer requests over HTTP with the models that come with Glimpse; others: make serve ARGS=model.onnx
	$(BIN)/glimpse serve $(ARGS)

check: $(INSTALLED) ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(INSTALLED) ## run the benchmarks of benchmarks/suite.toml again, some hours; one: make bench ARGS=NAME
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks.harness.suite $(if $(REFERENCE),--reference $(REFERENCE)) $(ARGS)

# An environment that somebody made by hand is completed, never replaced.
$(INSTALLED): pyproject.toml
	@python='$(PYTHON)'; again='make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12'; \
	test ! -x $(BIN)/python || python=$(BIN)/python; \
	command -v "$$python" > /dev/null || { \
	  echo "Glimpse needs Python 3.11 or later, and no '$$python' was found; name one that is there: $$again" >&2; \
	  exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Glimpse needs Python 3.11 or later, and '$$python' is $$("$$python" --version 2>&1);" \
	    "remove $(VENV) if it is there and name a later one: $$again" >&2; \
	  exit 1; }
	test -x $(BIN)/pip || '$(PYTHON)' -m venv $(VENV)
	@echo "installing Glimpse and what it needs into $(VENV); the first time takes some minutes"
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
