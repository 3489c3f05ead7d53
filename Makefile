# `make serve` and `make test` set up what they need; nothing else has to be installed but Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests and measurements start many interpreters, and without compiled modules each takes seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test install check lint demo bench lock clean

serve: install
	$(BIN)/timewell serve

install: $(VENV)/.installed

test: $(VENV)/.dev check
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(VENV)/.dev
	$(BIN)/python examples/tour.py

bench: $(VENV)/.dev
	$(BIN)/python -m loadtest.micro

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Timewell needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.lock
	touch $@

# Writes the lock files anew from the lower bounds in pyproject.toml; they hold for every platform and Python.
lock: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --group build --extra dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --group build --extra postgresql --extra redis pyproject.toml -o requirements-shared.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
