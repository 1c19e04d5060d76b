# Every target makes its own virtual environment in .venv when there is none, and renews it when pyproject.toml changes.
# Another interpreter: make demo PYTHON=python3.12. More arguments for the command: make test ARGS="-k retina".

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# A checkout of github.com/kevinzakka/recurrent-visual-attention, if `make bench` is to measure it beside ours.
RIVAL ?=

# What `make bench` runs, in this order, one module a line with its arguments; benchmarks/README.md says what it measures.
define BENCHMARKS
benchmarks.training.throughput --output benchmarks/results/throughput.json
benchmarks.learning.learning mnist-28 --keep runs/cells
benchmarks.learning.learning cluttered-60-8 --keep runs/cells
benchmarks.learning.estimator_variance --output benchmarks/results/estimator-variance.json
benchmarks.learning.learning cluttered-60-soft
benchmarks.learning.learning benchmarks/recipes/families-60-hard.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-60-relaxed.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-60-soft.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-60-self.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-60-cnn.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-60-mlp.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-60-pathwise.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-60-gumbel.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-100-hard.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-100-relaxed.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-100-soft.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-100-self.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-100-cnn.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/families-100-mlp.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/scores-60-dot.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/scores-60-scaled-dot.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/scores-60-general.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/scores-60-additive.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/scores-60-location.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/scores-60-content.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-60-global.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-60-local-p.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-60-local-m.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-100-global.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-100-local-p.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-100-local-m.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-140-global.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-140-local-p.yaml --keep runs/cells
benchmarks.learning.learning benchmarks/recipes/growth-140-local-m.yaml --keep runs/cells
benchmarks.learning.tables
benchmarks.attention.speed --output benchmarks/results/attention-speed.json
benchmarks.attention.graph_symmetry runs/cells/families-60-self-seed0 --output benchmarks/results/graph-symmetry.json
benchmarks.attention.map_worth runs/cells/families-60-soft-seed0 runs/cells/families-60-self-seed0 runs/cells/families-60-hard-seed0 runs/cells/families-60-relaxed-seed0 runs/cells/families-60-cnn-seed0 --output benchmarks/results/map-worth.json
benchmarks.attention.map_worth --pointing-only --images 2000 runs/cells/scores-60-dot-seed0 runs/cells/scores-60-scaled-dot-seed0 runs/cells/scores-60-general-seed0 runs/cells/scores-60-additive-seed0 runs/cells/scores-60-location-seed0 runs/cells/scores-60-content-seed0 --output benchmarks/results/pointing-scores.json
benchmarks.learning.tables
benchmarks.envs.speed --output benchmarks/results/env-speed.json
benchmarks.envs.learning --output benchmarks/results/env-learning.json
benchmarks.envs.maze --output benchmarks/results/maze-learning.json
benchmarks.envs.ap_gym_learning --output benchmarks/results/ap-gym-learning.json
benchmarks.runtime.speed $(if $(RIVAL),--rival $(RIVAL)) --checkpoint runs/cells/mnist-28-seed0/last.ckpt --output benchmarks/results/runtime-speed.json
benchmarks.runtime.start --checkpoint runs/cells/mnist-28-seed0/last.ckpt --output benchmarks/results/runtime-start.json
benchmarks.runtime.sizes --output benchmarks/results/runtime-sizes.json
benchmarks.runtime.early_exit runs/cells/mnist-28-seed0/last.ckpt runs/cells/cluttered-60-8-seed0/last.ckpt --output benchmarks/results/runtime-exit.json
benchmarks.runtime.parity runs/cells/mnist-28-seed0/last.ckpt runs/cells/cluttered-60-8-seed0/last.ckpt --output benchmarks/results/runtime-parity.json
benchmarks.runtime.gpu --checkpoint runs/cells/mnist-28-seed0/last.ckpt --output benchmarks/results/runtime-gpu.json
benchmarks.runtime.bundled_models --output benchmarks/results/shipped-models.json
benchmarks.serving.cost --output benchmarks/results/serve.json
benchmarks.serving.faults --output benchmarks/results/serve-faults.json
benchmarks.serving.ray --output benchmarks/results/serve-ray.json
endef
export BENCHMARKS

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

bench: $(INSTALLED) ## run the committed benchmarks again, some hours; writes benchmarks/results/
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@set -e; printf '%s\n' "$$BENCHMARKS" | while read -r line; do \
	  echo "== $$line"; $(BIN)/python -m $$line < /dev/null; \
	done

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
