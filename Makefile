# Everything that people and the continuous integration do with bzz. `make` alone says what there is.
# A target installs what it needs; nothing is used but python3, git, make and the package index.

# The first of these that is new enough. Another one: make install PYTHON=/path/to/python
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$candidate; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
EXTRAS := embedded,celery,docs,dev
# Two makes at once in one clone: the second waits for the first to have installed, where flock exists.
LOCK := $(shell command -v flock >/dev/null 2>&1 && echo flock $(VENV).lock)

# What `make bench` and `make bench-growth` are told instead of --publish, e.g. BENCH="--only get,create --rounds 3"
BENCH ?=
# The port of `make serve`.
PORT ?= 8888
# How many times harder `make torture` makes the tests.
TORTURE ?= 10
# How many processes the tests run in, each with a MongoDB of its own. Most tests wait for something half of the time.
PROCESSES ?= 4
# More arguments for pytest, e.g. make test PYTEST_ARGS="-k diff -x"
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "; print "usage: make TARGET [NAME=VALUE ...]\n"} \
		/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2} \
		END {print "\nA newcomer wants two of them: make serve, make test."}' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: $(STAMP) ## make .venv and install bzz into it, editable, with all extras
	@echo "bzz is installed in $(VENV)."

ifdef LOCKED
$(STAMP): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "bzz needs Python 3.11 or newer, and none is on the PATH."; \
		echo "Say where there is one: make install PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "bzz needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }
	@echo "Installing bzz and what it needs into $(VENV) (a minute or two, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@
else
$(STAMP): setup.cfg pyproject.toml
	@$(LOCK) $(MAKE) --silent --no-print-directory LOCKED=1 $@
endif

.PHONY: serve
serve: $(STAMP) ## run examples/atlas on a MongoDB of its own, on port PORT (8888)
	@PORT=$(PORT) exec $(BIN)/python -m examples.atlas

.PHONY: check
check: lint types imports test docs ## everything that has to be right before a commit is pushed

.PHONY: test
test: lint types imports ## run the quick checks, then all tests; coverage below 95 % of the branches fails
	@rm -f .coverage .coverage.*
	$(BIN)/python -m pytest --cov --cov-report=term -n $(PROCESSES) --dist worksteal $(PYTEST_ARGS)

.PHONY: torture
torture: $(STAMP) ## run the same tests with TORTURE (10) times the load
	BZZ_TORTURE=$(TORTURE) $(BIN)/python -m pytest --timeout=1800 --session-timeout=86400 $(PYTEST_ARGS)

.PHONY: lint
lint: $(STAMP) ## look for mistakes and for formatting that is not ours (ruff)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check

.PHONY: format
format: $(STAMP) ## mend what ruff can mend, and format
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

.PHONY: types
types: $(STAMP) ## check the types (mypy --strict)
	$(BIN)/python -m mypy

.PHONY: imports
imports: $(STAMP) ## check that imports between the rooms point down only (import-linter)
	$(BIN)/lint-imports

.PHONY: docs
docs: $(STAMP) ## build the pages into docs/_build/html and run every example in them
	$(BIN)/python docs/build.py

.PHONY: bench
bench: $(BENCH_STAMP) ## compare bzz with its peers, for docs/performance.rst (20 minutes; BENCH=--quick: one)
	$(BIN)/python -m bench compare $(if $(BENCH),$(BENCH),--publish)

.PHONY: bench-growth
bench-growth: $(BENCH_STAMP) ## measure what grows with what, for docs/performance.rst (8 minutes)
	$(BIN)/python -m bench growth $(if $(BENCH),$(BENCH),--publish)
	$(BIN)/python bench/signals.py

$(BENCH_STAMP): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

.PHONY: up
up: ## start MongoDB, Redis and the atlas with Docker Compose
	PORT=$(PORT) docker compose up --build --detach --wait

.PHONY: down
down: ## stop what `make up` started; its data stays
	docker compose down

.PHONY: clean
clean: ## remove what the other targets made, .venv included; the data of `make serve` in .bzz stays
	rm -rf $(VENV) $(VENV).lock build dist *.egg-info docs/_build htmlcov .coverage .coverage.* \
		bench/.envs bench/out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find bzz tests examples docs bench -name __pycache__ -type d -prune -exec rm -rf {} +
