# Every target works alone in a fresh clone: it makes .venv and installs the locked packages first when that is needed.
# A Python >= 3.11 with its venv module is all that must be there. PYTHON=/path/to/python chooses one.

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-input
COMPILE := $(BIN)/python -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --build-deps-for editable
CHECKED := src tests $(wildcard bench docs)

# Labelled recordings for the tests that are scored on them: make test DATA=DIR. ARGS goes to pytest as it is.
PYTEST := $(BIN)/python -m pytest $(if $(DATA),--data=$(DATA)) $(ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check lint types layers sizes e2e long bench lock

help:
	@echo "make setup   everything that developing needs, in $(VENV)"
	@echo "make demo    the demonstration: a real system is broken, the faults are found"
	@echo "make test    unit and contract tests"
	@echo "make check   ruff, mypy, layers, sizes, then make test"
	@echo "make e2e     real processes and sockets, and the slow tests"
	@echo "make long    ten minutes of full load, three virtual days, 100,000 broken payloads"
	@echo "make bench   benchmarks; ratios within one run"
	@echo "make lock    write the lock files anew (keeps what still fits; delete a lock file to start from nothing)"

setup: $(VENV)/.dev

demo: $(VENV)/.runtime
	$(BIN)/dsl telemetry demo-8020

test: $(VENV)/.dev
	$(PYTEST) -m "not e2e and not slow and not long"

check: lint types layers sizes test

lint: $(VENV)/.dev
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

sizes: $(VENV)/.dev
	$(BIN)/python tests/sizes.py src

e2e: $(VENV)/.dev
	$(PYTEST) -m "(e2e or slow) and not long"

long: $(VENV)/.dev
	$(PYTEST) -m long

bench: $(VENV)/.dev
	$(BIN)/python -m bench

lock: $(VENV)/.dev
	$(COMPILE) --extra test --extra dev -o requirements-dev.lock pyproject.toml
	$(COMPILE) -c requirements-dev.lock -o requirements.lock pyproject.toml

# ---------------------------------------------------------------- the environment

PROBE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

$(BIN)/python:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python); do \
		if "$$python" -c '$(PROBE)' 2>/dev/null; then \
			echo "$$("$$python" --version) ($$python): making $(VENV)"; \
			exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "$(or $(PYTHON),python3): no Python >= 3.11 with the venv and ensurepip modules. Install one (Debian: python3-venv) or name it:" \
		"make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1

# What running needs. The second step puts the package itself into the environment, from this folder.
$(VENV)/.runtime: requirements.lock pyproject.toml src/dslmodel/__init__.py | $(BIN)/python
	@echo "installing what dslmodel needs (requirements.lock)"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# What checking needs, a superset with the same versions.
$(VENV)/.dev: requirements-dev.lock pyproject.toml src/dslmodel/__init__.py | $(BIN)/python
	@echo "installing what dslmodel and its checks need (requirements-dev.lock)"
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $(VENV)/.runtime $@
