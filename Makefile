# The one entry. `make help` lists the targets.
SHELL := /bin/bash
PY := .venv/bin/python
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Real data beside the checkout is used when it is there; otherwise the data set inside scikit-learn is.
ifeq ($(CONSILIUM_DATA),)
ifneq ($(wildcard ../shared/data/README.md),)
export CONSILIUM_DATA := $(abspath ../shared/data)
endif
endif
STUDY ?= $(if $(CONSILIUM_DATA),histology,cytology)

.PHONY: help demo demo-check test check fmt messages prove bench clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/installed: pyproject.toml constraints.txt setup.py
	@start=$$(date +%s); test -x $(PY) || python3 -m venv .venv; \
	$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]' && echo $$(( $$(date +%s) - start )) > $@

demo: .venv/installed ## the main job on this machine, then stay up (STUDY=cytology|heart|histology|dermoscopy|hotline, HAND=riverside)
	@$(PY) -m infra.demo up --study $(STUDY) $(if $(HAND),--by-hand $(HAND))

demo-check: .venv/installed ## the same headless, asserts, stops all, writes var/demo/report.json
	@$(PY) -m infra.demo check --study $(STUDY)

test: .venv/installed ## every test: SQLite first, then PostgreSQL and a broker where they answer
	@$(PY) -m tests.legs

check: .venv/installed ## lint, types, import contracts, migrations
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) manage.py makemigrations --check --dry-run --settings infra.settings.test

fmt: .venv/installed ## format and fix what can be fixed
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

messages: .venv/installed ## bring the Chinese catalogues up to date; names what is not translated
	@$(PY) -m infra.messages

prove: .venv/installed ## every claim as figure, bound, PASS or FAIL (TOPIC=main-job, FULL=1 for all of it)
	@$(PY) -m tests.prove $(TOPIC) $(if $(FULL),--full)

bench: .venv/installed ## measurements as ratios (TOPIC=main_job)
	@$(PY) -m tests.bench.$(or $(TOPIC),main_job)

clean: ## remove what the demo and the tests wrote
	rm -rf var .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
