# Everything runs in .venv, which is made on first use. `make help` lists what there is.
# PYTHON=... chooses the interpreter (3.11 or newer); ARGS=... goes to the command that a target runs.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS   ?=
# A file's tests stay together, in order; ARGS="-n 0" runs all in one process.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test slow campaign lint fuzz bench-wire bench-speed bench-identity clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: $(VENV)/.nodes ## a cluster on this machine: watch a model being sped up (ARGS="--prompt ...")
	@$(BIN)/dsdp demo $(ARGS)

test: $(VENV)/.tests ## the tests, in under ten minutes on two cores (ARGS="tests/test_cli.py")
	$(PYTEST) $(ARGS)

slow: $(VENV)/.tests ## tests that take over twenty seconds each
	$(PYTEST) -m slow $(ARGS)

campaign: $(VENV)/.tests ## long campaigns
	$(PYTEST) -m campaign $(ARGS)

lint: $(VENV)/.tests ## ruff
	$(BIN)/ruff check .

fuzz: $(VENV)/.fuzz ## the decoder under a coverage-guided fuzzer (ARGS="-max_total_time=600")
	$(BIN)/python -m tests.fuzz.decoder tests/fuzz/corpus $(ARGS)

bench-wire: $(VENV)/.tests ## bytes and time per round, without a model
	@$(BIN)/dsdp bench wire $(ARGS)

bench-speed: $(VENV)/.tests ## tokens per second beside transformers (ARGS="--prompts FILE.jsonl")
	@$(BIN)/dsdp bench speed $(ARGS)

bench-identity: $(VENV)/.tests ## every stream against the target alone (ARGS="--prompts FILE.jsonl")
	@$(BIN)/dsdp bench identity $(ARGS)

clean: ## remove what was made here; pulled models stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade 'pip>=24.1'  # older ones cannot report the progress of a download
	@touch $@

$(VENV)/.nodes: $(VENV)/.made pyproject.toml
	@echo "installing what a node needs ..."
	@$(PIP) -e '.[nodes,models]'
	@touch $@

$(VENV)/.tests: $(VENV)/.made pyproject.toml
	@echo "installing what the tests need, PyTorch included; this takes a few minutes ..."
	@$(PIP) -e '.[nodes,torch,bench,test]'
	@touch $@ $(VENV)/.nodes

$(VENV)/.fuzz: $(VENV)/.tests
	@$(PIP) 'atheris>=3.0'
	@touch $@
