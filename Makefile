# Everything a user needs is `make demo` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KEEP ?=
DATA ?=
BACKEND ?=

# Whatever starts a Python, and tests start hundreds, compiles all that it imports anew where this is set.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-quick test-long check bench pictures clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which with PYTHON=..."; exit 1; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed ## install the package and its tools into .venv

demo: install ## stream synthetic runs through a real Airflow; KEEP=1 leaves it running; DATA=FILE.csv takes CMS events; BACKEND=condor runs on an HTCondor pool, BACKEND=kubernetes on a cluster
	@PYTHONPATH=examples $(BIN)/python -m demo $(if $(KEEP),--keep) $(if $(DATA),--data '$(DATA)') $(if $(BACKEND),--backend '$(BACKEND)')

check: install ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-quick: install ## what is quick enough for every save
	$(BIN)/python -m pytest -q -m "not airflow and not condor and not influx and not postgres and not kubernetes and not long" -x -n 2 --ignore tests/examples --ignore tests/docs \
		--ignore tests/jobsets --ignore-glob "tests/backends/test_local*.py" --ignore tests/ledger/test_concurrency.py

test: check ## every test but the long ones
	$(BIN)/python -m tests.influx build
	$(BIN)/python -m tests.cluster build
	$(BIN)/python -m tests.stages

test-long: install ## the long ones
	$(BIN)/python -m pytest -m long

bench: install ## ratios beside a peer
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.ledger
	$(BIN)/python -m benchmarks.ledger --postgres
	$(BIN)/python -m benchmarks.grouping
	$(BIN)/python -m benchmarks.grouping --postgres
	PYTHONPATH=examples $(BIN)/python -m benchmarks.condor
	PYTHONPATH=examples $(BIN)/python -m benchmarks.kubernetes
	PYTHONPATH=examples $(BIN)/python -m benchmarks.mirror
	PYTHONPATH=examples $(BIN)/python -m benchmarks.announcing
	$(BIN)/python -m benchmarks.parsing
	$(BIN)/python -m benchmarks.starting
	$(BIN)/python -m benchmarks.page

pictures: install ## make the pictures of Airflow's UI in docs/pictures anew
	$(BIN)/python -m tests.browser

clean: ## remove what the demo and the installation made
	rm -rf .demo $(VENV)
