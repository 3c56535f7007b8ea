# `make sweep` and `make test` work on a fresh machine: they make the environment in .venv first.
# pip, not another installer, and Python 3.11 where there is one: see pyproject.toml on torch's builds.

PYTHON := $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
OUT ?= studies/sweep-neighbors-simulated

.PHONY: sweep test lint verify env clean

sweep: env  ## The paper's Table 5 on the embedded simulated cohort
	$(BIN)/python experiments/sweep_neighbors.py --out $(OUT)

test: env lint  ## Lint, types, tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

PROOFS := ray_up_aws two_hosts head_killed storage_faults slots autoscaling slurm security chaos

verify: env  ## Long proofs on hosts of this machine (Linux, root): their figures go to proofs/results
	set -e; for proof in $(PROOFS); do echo "== $$proof"; $(BIN)/python proofs/$$proof.py; done

env: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv studies .pytest_cache .mypy_cache .ruff_cache .hypothesis
