# Fenghuo: `make demo` shows it, `make test` proves it; both set up all that they need.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint bench services services-stop lock clean

help:
	@echo "make demo       see it: a reactor loses its cooling, people are told (2 minutes on a fresh machine)"
	@echo "make test       prove it: style, types, rules of import, all short tests"
	@echo "make test-long  the same and the long runs (hundreds of kills, deep fuzzing)"
	@echo "make bench      measure it: prints a table, writes build/bench.json"
	@echo "make services   start Kafka, PostgreSQL, mosquitto and InfluxDB on this machine, to try things on; make services-stop"
	@echo "make lock       renew requirements/*.txt from pyproject.toml"

.venv/base: requirements/base.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.venv/dev: .venv/base requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: .venv/base
	$(BIN)/fenghuo demo

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  # in two processes: the tests wait for servers more than they compute
	$(BIN)/pytest -n 2 --dist worksteal -m "not long"

test-long: lint
	$(BIN)/pytest

bench: .venv/dev
	$(BIN)/python -m bench

services: .venv/dev
	@$(BIN)/python -m deploy.dev.services start $(if $(SLOTS),--slots $(SLOTS))

services-stop: .venv/dev
	@$(BIN)/python -m deploy.dev.services stop

lock:
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header pyproject.toml --group build -o requirements/base.txt
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header pyproject.toml --group dev -o requirements/dev.txt

clean:
	@test ! -e build/services.json || $(MAKE) services-stop
	rm -rf .venv build
