# make run     a first pipeline, from nothing but Python
# make check   lint, types, layers, house rules
# make test    the tests
# make bench   the numbers, beside their yardsticks
# make docs    the pages that are printed from the code
# make clean   remove everything that was made here

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run check lint types wheel test bench docs clean
.DELETE_ON_ERROR:

run: $(VENV)/.installed
	$(BIN)/headway run examples/hello.yml

check: lint types

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pytest tests/test_tidy.py

types: $(VENV)/.installed-dev
	$(BIN)/mypy

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --wheel

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n 2 --dist worksteal

bench: $(VENV)/.installed
	$(BIN)/python -m bench

docs: $(VENV)/.installed
	$(BIN)/python -m headway.core.printed > docs/states.md
	$(BIN)/python -m headway.projections.causes > docs/causes.md

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed again only when what is declared changes: the code itself is linked, not copied.

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Headway needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo "this Python cannot make virtual environments; install its venv package (python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
