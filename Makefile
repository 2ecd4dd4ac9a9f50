# Every target sets up what it needs first; setup is quick when nothing changed.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
ARGS ?=
# Tests of one file stay together, since they share a database and what was loaded into it.
TWO_AT_A_TIME := --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Long versions of tests have deadlines of their own.
AS_LONG_AS_IT_TAKES := --timeout 0

.PHONY: help setup demo test unit integration e2e chaos exact fuzz screenshots soak bench bench-answers bench-hostile bench-ingest bench-isolation bench-reports lint format types contracts check lock clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## build .venv from the lock
	@ops/setup.sh

demo: setup  ## run the whole system on embedded parts with realistic data; ARGS="--days 30" passes options
	@$(BIN)/troupe demo $(ARGS)

test: setup  ## run the unit and integration tests
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) tests/unit tests/integration $(ARGS)

unit: setup  ## run the tests without any input or output
	$(BIN)/python -m pytest tests/unit $(ARGS)

integration: setup  ## run the tests against real PostgreSQL, SFTP, SMTP and identity provider
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) tests/integration $(ARGS)

e2e: setup  ## run the whole system and a browser against it (installs Chromium, Node.js and mail servers when root on Debian)
	ops/install_browser.sh
	ops/install_node.sh
	ops/install_network.sh
	ops/install_mail.sh
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/e2e $(ARGS)

chaos: setup  ## kill, stop, cut and restart for as long as it takes to be sure (about half an hour)
	ops/install_network.sh
	$(BIN)/python -m pytest $(AS_LONG_AS_IT_TAKES) tests/chaos $(ARGS)

fuzz: setup  ## the program against its own OpenAPI documents, ten minutes for each
	TROUPE_FUZZ_SECONDS=600 $(BIN)/python -m pytest $(AS_LONG_AS_IT_TAKES) tests/integration/tenancy/test_schemas.py $(ARGS)

exact: setup  ## compare 1,000 random questions with a reading of the raw events
	TROUPE_TEST_RANGES=1000 $(BIN)/python -m pytest $(AS_LONG_AS_IT_TAKES) tests/integration/analytics/test_exact_answers.py $(ARGS)

screenshots: setup  ## take pictures of every page of the dashboard into docs/screenshots
	ops/install_browser.sh
	$(BIN)/python -m ops.screenshots $(ARGS)

soak: setup  ## run under overload for minutes and watch memory
	$(BIN)/python -m pytest $(AS_LONG_AS_IT_TAKES) tests/soak $(ARGS)

bench: setup  ## measure durable jobs beside their peers, which it installs; ARGS="--help" lists options
	$(BIN)/python -m ops.bench.jobs $(ARGS)

bench-answers: setup  ## measure answers beside a first version's, which it installs; ARGS="--help" lists options
	$(BIN)/python -m ops.bench.answers $(ARGS)

bench-hostile: setup  ## measure what good clients notice of 2,000 slow and hostile ones
	$(BIN)/python -m ops.bench.hostile $(ARGS)

bench-ingest: setup  ## measure loading days beside dlt, which it installs; ARGS="--help" lists options
	$(BIN)/python -m ops.bench.ingest $(ARGS)

bench-isolation: setup  ## measure what the dashboard notices of ingestion, and of a data group gone wrong
	$(BIN)/python -m ops.bench.isolation $(ARGS)

bench-reports: setup  ## measure writing and sending reports, and what the dashboard notices of it
	$(BIN)/python -m ops.bench.reports $(ARGS)

lint: setup  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## rewrite the code as ruff would have it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup  ## mypy, strict
	$(BIN)/mypy

contracts: setup  ## the layers of the architecture
	$(BIN)/lint-imports

check: lint types contracts  ## all static checks

lock: setup  ## resolve the dependencies anew; the files carry hashes and no registry address
	ops/lock.sh

clean:  ## remove what setup and the tests made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
