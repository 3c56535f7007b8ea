# `make sweep` and `make test` work on a fresh machine: they make the environment in .venv first.
# pip, not another installer, and Python 3.11 where there is one: see pyproject.toml on torch's builds.

PYTHON := $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
OUT ?= studies/sweep-neighbors-simulated

.PHONY: sweep test lint env clean

sweep: env  ## The paper's Table 5 on the embedded simulated cohort
	$(BIN)/python experiments/sweep_neighbors.py --out $(OUT)

test: env lint  ## Lint, types, tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

env: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv studies .pytest_cache .mypy_cache .ruff_cache .hypothesis
