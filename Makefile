# make demo    the whole way on an example shop: raw data, dbt build, materialize, online and training features; with
#              TARGET=postgres on a private PostgreSQL, with TARGET=spark on a private Spark (needs Java 17)
# make stream-demo   features that follow their events: a private broker, a producer, the stream, a reader
# make test    lint, then the whole test suite; what runs on Spark, too, once make test-spark has installed that
# make test-spark   the tests that run on Spark (needs Java 17)
# make diff    what changed in the example's features since SINCE (a git revision; default the commit before)
# make feast   an environment with Feast, for the tests of moving from it (make test makes it too)
# Needs Python 3.11 or newer; everything else goes into .venv, and Feast into .venv-feast.

PYTHON ?= python3
VENV := .venv
FEAST := .venv-feast
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --quiet --disable-pip-version-check
PIP := $(BIN)/python $(INSTALL) --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo stream-demo test test-spark feast lint format diff stop clean

help:
	@echo "make demo     run the example: raw data, dbt build, materialize, then features online and for training"
	@echo "make stream-demo  events, and features that follow them within a second: broker, producer, stream, reader"
	@echo "make stop     stop the private Redis that the demo started; its data stays in dbt_project/.redis/"
	@echo "make test     lint, then the whole test suite"
	@echo "make test-spark  the tests that run on Spark: a few minutes, and 700 MB to install once; needs Java 17"
	@echo "make feast    install Feast into $(FEAST), for the tests of moving from it; make test does too"
	@echo "make lint     ruff: rules and format"
	@echo "make format   let ruff mend what it can"
	@echo "make diff     what changed in the example's features since SINCE=HEAD~1"
	@echo "make clean    remove all that the above made, $(VENV) and $(FEAST) too"

TARGET ?= dev
demo: $(VENV)/.demo$(if $(filter-out dev,$(TARGET)),-$(TARGET))
	@$(BIN)/python dbt_project/demo.py --target $(TARGET)

stream-demo: $(VENV)/.demo-stream-demo
	@$(BIN)/python dbt_project/stream_demo.py

SINCE ?= HEAD~1

# Needs no warehouse: without one, models are compiled against an empty DuckDB in memory.
diff: $(VENV)/.demo
	@cd dbt_project && $(CURDIR)/$(BIN)/dbt --quiet deps --project-dir . --profiles-dir .
	@$(BIN)/feature-store diff $(SINCE) --project-dir dbt_project

stop:
	@if [ -x $(BIN)/feature-store ]; then $(BIN)/feature-store redis stop --project-dir dbt_project; else echo "Nothing runs: there is no $(VENV)."; fi
	@if [ -f $(VENV)/.demo-postgres ]; then $(BIN)/python dbt_project/private_postgres.py stop; fi
	@if [ -d dbt_project/.spark ]; then $(BIN)/python dbt_project/private_spark.py stop; fi

# Files in the order of tests/conftest.py: the longest first; a worker more than the two cores that there may be, as streams and
# failovers are waited for. Tests start many a Python, which would compile all of it anew.
test: lint feast
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder$(if $(wildcard $(VENV)/.spark), -m 'not soak')

test-spark: $(VENV)/.spark
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m 'spark and not soak'

feast: $(FEAST)/.installed

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: stop
	rm -rf $(VENV) $(FEAST) .pytest_cache .ruff_cache .hypothesis
	cd dbt_project && rm -rf .redis .postgres .spark .feature_store raw target logs .dbt_packages .user.yml package-lock.yml shop.duckdb*

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is %d.%d. Name another with: make PYTHON=python3.12 ..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

# Installed again whenever what is asked for changes, and always in the versions that the suite was run with.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (a minute or so, once) ..."
	@$(PIP) --editable '.[demo]'
	@touch $@

# With what another warehouse than a DuckDB file needs.
$(VENV)/.demo-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), with the extra $* (a minute or so, once) ..."
	@$(PIP) --editable '.[demo,$*]'
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), with what the tests need (a minute or so, once) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo $(VENV)/.demo-postgres $(VENV)/.demo-stream-demo

$(VENV)/.spark: pyproject.toml constraints.txt | $(VENV)/.dev
	@echo "Installing Spark into $(VENV) (700 MB, a minute or two, once) ..."
	@$(PIP) --editable '.[dev,spark]'
	@touch $@ $(VENV)/.demo-spark

# Feast asks for versions that dbt and DuckDB do not, so it has an environment of its own.
$(FEAST)/.installed: constraints-feast.txt | $(BIN)/python
	@echo "Installing Feast into $(FEAST) (a minute or two, once) ..."
	@$(PYTHON) -m venv $(FEAST)
	@$(FEAST)/bin/python $(INSTALL) --constraint constraints-feast.txt 'feast[duckdb,postgres,redis]'
	@touch $@
