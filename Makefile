# One entry point per task, the same here and in continuous integration.
# A bare checkout, Python 3.11 or newer and make are enough: the rest is fetched into .venv.

VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
READY  := $(VENV)/.ready
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
# The example of the guide 'Write a transport'; it is tested like a plugin.
EXAMPLE := examples/kombu_files
PROJECTS := pyproject.toml $(PLUGINS:=/pyproject.toml) $(EXAMPLE)/pyproject.toml

# Test files run side by side in so many processes, each with brokers of its own: they mostly wait.
WORKERS ?= 3

BROKER ?= memory
ifeq ($(BROKER),memory)
CONTRACT := tests/contract
else
CONTRACT := $(wildcard plugins/*/tests/test_$(subst -,_,$(BROKER))_contract.py \
                       examples/*/tests/test_$(subst -,_,$(BROKER))_contract.py)
endif

.DEFAULT_GOAL := help
.PHONY: help sync brokers demo test check format contract fuzz oracle differential bench clean

help:            ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12

sync: $(READY)   ## make or refresh .venv: the core, all plugins, all tools

# The first interpreter that is new enough.
$(READY): $(PROJECTS)
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    python=; \
	done; \
	test -n "$$python" || { echo 'Python 3.11 or newer is needed' >&2; exit 1; }; \
	test -x $(BIN)/python || $$python -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --group dev -e '.[testing]' $(addprefix -e ./,$(PLUGINS) $(EXAMPLE))
	@touch $@

brokers:
	@tools/install_brokers.sh

demo: $(READY)   ## the tour: in this process, then several processes over a file, and over Redis
	$(BIN)/python examples/demo.py

test: $(READY) brokers  ## everything, on real brokers
	$(PYTEST) --numprocesses=$(WORKERS) --dist=loadfile

check: $(READY)  ## lint, format, types and the tests that need no broker
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYTEST) tests/unit tests/contract tests/fuzz plugins -m 'not broker' -q

format: $(READY) ## let ruff fix and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

contract: $(READY)  ## the contract kit on one broker: make contract BROKER=redis
	$(PYTEST) $(CONTRACT)

fuzz: $(READY)   ## many examples of what no code expects: minutes
	$(PYTEST) tests/fuzz $(wildcard plugins/*/tests/test_*_fuzz.py) --hypothesis-profile=fuzz --timeout=1800

oracle: $(READY) ## compare the emulation with RabbitMQ
	$(PYTEST) tests/integration -k oracle

PROGRAMS ?= 1000
differential: $(READY) brokers  ## random programs on RabbitMQ, memory, Redis: PROGRAMS=20000 SEED=1
	$(BIN)/python -m tests.integration.differential.long_run --programs $(PROGRAMS) $(if $(SEED),--seed $(SEED))

bench: $(READY)  ## measure, beside kombu
	$(BIN)/python benchmarks/run.py

clean:           ## remove .venv and what was built
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache
