# The one set of commands, for people and for CI. `make help` lists them.

PYTHON ?= python3.11
ifeq ($(shell command -v $(PYTHON)),)
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
OPERATOR ?= demo
export KEEPLINE_OPERATOR := $(OPERATOR)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What `make run` needs besides, by the engine that it is to compute on.
ENGINE_READY := $(if $(filter spark,$(KEEPLINE_COMPUTE)),$(VENV)/.spark-ready)
# Nothing here phones home.
export DO_NOT_TRACK := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export GX_ANALYTICS_ENABLED := false
export SCARF_NO_ANALYTICS := true

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-spark run test test-fast test-spark test-deep lint format airflow doctor bench bench-full bench-simulator bench-window bench-said bench-kindness wheel generate lock stop clean

help: ## Show these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.run-ready ## Install what keepline runs on, from the hash-pinned lock
setup-dev: $(VENV)/.dev-ready ## Install what the tests and the linters need, too
setup-spark: $(VENV)/.spark-ready ## Install Spark and Java, for KEEPLINE_COMPUTE=spark

$(VENV)/.run-ready: requirements.lock pyproject.toml
	@PYTHON=$(PYTHON) sh bin/system-packages python3-venv libgomp1
	@echo "setting up $(VENV) from requirements.lock (about 200 packages, a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready requirements-dev.lock
	@sh bin/system-packages chromium mariadb-server-core
	@$(BIN)/pip install -qq --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

# What the benchmark compares with; none of it may disturb what keepline runs on.
$(VENV)-bench/.ready: requirements-bench.lock
	@test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/pip install -qq --no-deps --require-hashes -r requirements-bench.lock || \
		echo "some rivals cannot be installed: the table will say so"
	@touch $@

$(VENV)/.spark-ready: $(VENV)/.run-ready requirements-spark.lock
	@sh bin/system-packages openjdk-17-jre-headless
	@echo "adding Spark to $(VENV) from requirements-spark.lock (450 MB, a minute or two) ..."
	@$(BIN)/pip install -qq --no-deps --require-hashes -r requirements-spark.lock
	@touch $@

run: $(VENV)/.run-ready $(ENGINE_READY) ## Publish a risk table: the last business day, then the next one each time (OPERATOR=demo)
	@$(BIN)/keepline run

test: $(VENV)/.dev-ready ## Run all tests
	@$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.dev-ready ## Run the tests that need no server (under a minute)
	@$(BIN)/pytest -q -m fast

test-spark: $(VENV)/.dev-ready $(VENV)/.spark-ready ## Run the tests of Spark; its cluster, too, with HYPOTHESIS_PROFILE=deep
	@$(BIN)/pytest -q -m spark

test-deep: $(VENV)/.dev-ready ## Run all tests, with every kill, fault and generated case (an hour or more)
	@HYPOTHESIS_PROFILE=deep $(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev-ready ## ruff, mypy --strict, sqlfluff (dbt templater), import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	@sh bin/sqlfluff lint

format: $(VENV)/.dev-ready ## Format Python and SQL
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@sh bin/sqlfluff fix

airflow: $(VENV)/.run-ready ## Start Airflow with the DAGs loaded and print its URL
	@$(BIN)/keepline airflow

doctor: $(VENV)/.run-ready ## Check this machine, the settings and the connections
	@$(BIN)/keepline doctor

bench: $(VENV)/.dev-ready $(VENV)-bench/.ready ## Measure every stage against its limit, into bench/README.md (a quarter of an hour)
	@$(BIN)/python -m bench

bench-full: $(VENV)/.dev-ready $(VENV)-bench/.ready ## The same at the sizes of an operator (two hours)
	@$(BIN)/python -m bench --full

bench-simulator: $(VENV)/.dev-ready ## Measure the simulator against gzip (a minute)
	@$(BIN)/python -m bench.simulator

bench-window: $(VENV)/.dev-ready ## Measure a business day on one and on ten times the history (ten minutes)
	@$(BIN)/python -m bench.daily_window

bench-said: $(VENV)/.dev-ready ## Compare how many the tiers say will leave with how many do (ten minutes)
	@$(BIN)/python -m bench.said_and_came

bench-kindness: $(VENV)/.dev-ready ## Measure what an operator's own users notice of an extraction (eight minutes)
	@$(BIN)/python -m bench.kindness

wheel: $(VENV)/.run-ready ## Build dist/keepline-*.whl, which needs no checkout
	@rm -rf build dist
	@$(BIN)/pip wheel -q --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build

generate: $(VENV)/.run-ready ## Write staging models, the contract's lock and the dictionary from their YAML
	@$(BIN)/keepline generate

lock: ## Resolve requirements*.in again (needs uv)
	@uv pip compile requirements.in -o requirements.lock --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --quiet --upgrade
	@uv pip compile requirements-dev.in -o requirements-dev.lock --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --quiet --upgrade
	@uv pip compile requirements-spark.in -o requirements-spark.lock --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --quiet --upgrade
	@uv pip compile requirements-bench.in -o requirements-bench.lock --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --quiet --upgrade

stop: ## Stop the embedded PostgreSQL; everything stays for the next run
	@test ! -x $(BIN)/keepline || $(BIN)/keepline stop

clean: ## Stop the embedded PostgreSQL and throw away .keepline
	@test ! -x $(BIN)/keepline || $(BIN)/keepline clean --yes
