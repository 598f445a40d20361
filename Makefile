# Everything starts here: `make up` runs the service, `make test` and `make lint` check it. Needs Python 3.11 and, for
# `make up` and `make test`, Java 17 with Maven or a Docker engine. The rest comes by itself. The service that `make up` starts
# does not outlive make: killing make kills it.

.DEFAULT_GOAL := help
.PHONY: help up test lint audit bench clean

ENV := .venv/.complete

help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST)

up: $(ENV) ## the whole service on this machine; Ctrl-C stops it, data stay in ./var
	@exec .venv/bin/python deploy/local/bound.py $$PPID 9 -1 -1 .venv/bin/restante up

test: $(ENV) ## the tests; with TEST_LONG=1 also those that hurt whole services for minutes
	@exec .venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(ENV) ## style, types, and which package may import which
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

audit: $(ENV) ## known weaknesses of the packages in uv.lock; says so where it cannot look
	@exec .ci/audit

bench: $(ENV) ## what this machine does
	@exec .venv/bin/python -m tests.benchmarks.run

clean: ## remove the environment and the caches; data in ./var stay
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ENV): pyproject.toml uv.lock .ci/install
	@.ci/install
	@touch $@
