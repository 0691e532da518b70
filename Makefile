# Every target creates what it needs, including .venv.
# `make demo` installs only what CPU serving and the demo page need; the other targets install everything.

PYTHON ?= python3
PORT   ?= 3000
SECONDS ?= 600
JOBS   ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --constraint constraints.txt

DEMO_READY := $(VENV)/.installed-demo
DEV_READY  := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format train loop notebooks bench fuzz soak audit openapi clean

help:  ## Print this list
	@echo "make TARGET [PORT=$(PORT)] [PYTHON=$(PYTHON)] [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(DEMO_READY)  ## Serve the starter models and the demo page (PORT=3000)
	@echo "Demo page  http://localhost:$(PORT)/ui"
	@echo "API        http://localhost:$(PORT)/docs"
	@echo "Metrics    http://localhost:$(PORT)/metrics"
	@$(BIN)/percept serve --port $(PORT) $(ARGS)

# One thread for the networks in each process: with more, trainings beside each other get in each other's way.
test: $(DEV_READY)  ## Run every test, in JOBS=2 processes (ARGS="-m 'not slow'" skips the slow ones)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(DEV_READY)  ## Check style, formatting, types and imports between packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(DEV_READY)  ## Format the code and fix what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

train: $(DEV_READY)  ## Train a small tagger and write its bundle, in seconds on a CPU
	@$(BIN)/percept fit tagging -c configs/vision/tagging_smoke.yaml $(ARGS)

loop: $(DEV_READY)  ## Play a service that learns what it is newly asked, in some minutes (ARGS=--small)
	@$(BIN)/python examples/loop/loop.py $(ARGS)

notebooks: $(DEV_READY)  ## Run the case studies and write them as pages, in minutes (ARGS=FILE for one)
	@$(BIN)/jupyter nbconvert --execute --CoalesceStreamsPreprocessor.enabled=True --to html --output-dir runs/notebooks $(or $(ARGS),examples/notebooks/*.ipynb)

bench: $(DEV_READY)  ## Compare speed with other stacks, in 25 minutes (QUICK=1: in 3)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

fuzz: $(DEV_READY)  ## Fuzz the services: 10,000 requests, 100,000 images, costs (ARGS="--seed 2" for others)
	@$(BIN)/python -m tests.fuzz $(ARGS)

soak: $(DEV_READY)  ## Send good and hostile traffic, kill workers and swap bundles (SECONDS=600)
	@$(BIN)/python -m tests.soak --seconds $(SECONDS) $(ARGS)

audit: $(DEV_READY)  ## Write SBOMs and look up known vulnerabilities (needs the network)
	@$(BIN)/python -m tests.audit $(ARGS)

openapi: $(DEV_READY)  ## Rewrite docs/openapi.json after changing routes
	@env -i PATH="$$PATH" HOME="$$HOME" $(BIN)/python -m scripts.main openapi docs/openapi.json

clean:  ## Delete .venv, caches and build leftovers; keeps runs/ and models/
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# If a stamp is older than the dependency lists, something may have to be installed.
$(DEMO_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing what serving and the demo page need into $(VENV) ..."
	@$(PIP) --editable '.[demo]'
	@touch $@

$(DEV_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing everything for training and testing into $(VENV), including torch; this takes a few minutes ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(DEMO_READY)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or set PYTHON=/path/to/python."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Percept needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Choose a newer one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module failed, see above (on Debian: apt install python3-venv)."; exit 1; }
