# One command a chore. PYTHON is the interpreter the virtual environment is made from.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help env demo test contract soak check format bench bench-trust bench-prefect bench-tools lock clean
help:
	@echo "make demo    a door, an issuer and a sample night on loopback, and the real flow run on them"
	@echo "make test    the quick tests: .ci/run has the slow ones and those that need servers, too"
	@echo "make contract  the tests of every storage, against the door that CTAFLOWS_TEST_DOOR_URL names"
	@echo "make soak    interruptions by the thousand, many examples, large directories: hours"
	@echo "make check   format, lint, types, import direction"
	@echo "make format  format and mend what can be mended"
	@echo "make bench   transfers beside those of other tools; make bench-tools installs these (Debian)"
	@echo "make bench-trust  what these tools and ctaflows make of a storage that lies"
	@echo "make bench-prefect  what Prefect costs a night"
	@echo "make lock    renew requirements/*.txt (needs the package registry)"

env: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml requirements/dev.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "ctaflows needs Python 3.11 to 3.13; set PYTHON=python3.x (this one is %d.%d)" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: env
	$(BIN)/ctaflows demo

# Which tests, by their marks in pyproject.toml: .ci/run sets "not soak"
TESTS ?= not servers and not slow and not soak

# What is compiled once, tests with their assertions rewritten too, no process compiles again: each of
# those that share the tests (tests/sharing.py) would take 8 s. An empty variable is as none.
test soak: export PYTHONDONTWRITEBYTECODE :=
test: env
	$(BIN)/python -m compileall -q ctaflows flows
	@echo "tests marked: $(TESTS)"
	$(BIN)/python -m pytest -n 2 -m "$(TESTS)"

# docs/contract.md: the door of CTAFLOWS_TEST_DOOR_URL alone, or all servers that are installed here
contract: env
	$(BIN)/python -m pytest tests/contract

# How often a night is interrupted, and how many times the usual number of examples is tried
soak: export CTAFLOWS_TEST_INTERRUPTIONS ?= 2000
soak: export CTAFLOWS_TEST_EXAMPLES ?= 30
soak: env
	$(BIN)/python -m compileall -q ctaflows flows
	$(BIN)/python -m pytest -n 2 --timeout 0 -m "soak or repeats"

check: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# WORK="get-small put-large:nginx" chooses works, BENCH="--quick" or "--write-docs" how they are done
bench: env
	$(BIN)/python -m benchmarks.transfers $(WORK) $(BENCH)

# BENCH="--tools ctaflows,curl --cases flip,cut -v" chooses, BENCH=--help tells all
bench-trust: env
	$(BIN)/python -m benchmarks.trust $(BENCH)

bench-prefect: env
	$(BIN)/python -m benchmarks.prefect $(WORK) $(BENCH)

bench-tools:
	sh benchmarks/install-tools.sh

# LOCK_FLAGS=--upgrade takes the newest of everything; without it what is locked stays
# --universal: one file for every Python the project supports; no address is written into it
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
	  --generate-hashes --no-header $(LOCK_FLAGS) \
	  --output-file requirements/dev.txt pyproject.toml

clean:
	rm -rf $(VENV) $(VENV)-lock build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
