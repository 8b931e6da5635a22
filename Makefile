# Two commands matter: `make demo` and `make test`. Both set up everything from a bare checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo

.PHONY: demo answer docs test test-all coverage check format bench clean help

help:
	@echo "make demo    compare five activations on handwritten digits, write $(DEMO)/report.html"
	@echo "make answer  test what is said about activations in LSTMs, a quarter of an hour"
	@echo "make docs    build the site, docs/_build/index.html"
	@echo "make test    run the tests"
	@echo "make test-all   the same with the optional packages; make coverage: what the tests reach"
	@echo "make check   format, lint, types, layers, fast laws"
	@echo "make clean   remove $(VENV), runs and caches"

# The install is done again when what it installs has changed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("anygate needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[lab,dev]'
	@touch $@

demo: $(READY)
	$(BIN)/anygate compare tanh relu leaky_relu hard_tanh sigmoid --out $(DEMO)

answer: $(READY)
	$(BIN)/python -m studies run --quick

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[lab,dev,docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2

# With Ray, Dask, Lightning and rliable, which `make test` leaves out, and four times as many drawn
# examples.
test-all: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[lab,dev,all-tests]'
	$(BIN)/python -m pytest --numprocesses 2 --hypothesis-profile=thorough

coverage: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --cov=anygate --cov-report=term:skip-covered

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_parse.py tests/test_program.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
