# Everything starts here. Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A folder with cvppp/, cityscapes/, ... to test on real images; tests that lack their data skip and say so.
export PANEMBED_DATA ?=

.PHONY: setup demo test quick lint bench reproduce table-a table-b clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("panembed needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: setup  ## train on the sample nuclei, score, predict, draw
	$(BIN)/panembed demo --output demo --overwrite

test: setup lint  ## everything that must pass
	$(BIN)/python -m pytest -n 2 --dist loadfile

quick: setup  ## the core of the tests, for the inner loop
	$(BIN)/python -m pytest -n 2 --dist loadfile tests -m 'not slow and not data'

bench: setup  ## measure against the alternatives, write docs/benchmarks.md; MODEL=RUN adds mean shift on the embeddings of a leaf model that groups by it
	$(BIN)/python -m benchmarks $(if $(MODEL),--model $(MODEL))

reproduce: table-a table-b  ## the tables of docs/experiments.md; stopped at any moment, it goes on where it was

table-a: HOURS := 4 to 7 hours
table-b: HOURS := 5 to 10 hours
table-a table-b: table-%: setup
	@test -d "$(PANEMBED_DATA)/cvppp" || { echo 'make $@ needs the leaf images: set PANEMBED_DATA to a folder that holds cvppp/A1, found "$(PANEMBED_DATA)"' >&2; exit 2; }
	@echo 'expect $(HOURS) on two CPU cores; once runs are done, panembed experiment --dry-run tells it better' >&2
	$(BIN)/panembed experiment experiments/$@.yaml --data "$(PANEMBED_DATA)/cvppp" --output runs/experiments/$@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
