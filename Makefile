# Every target sets up what it needs: its own .venv, with uv if it is there, with pip if not.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := infra/locks/dropchute.txt
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test check hostile faults bench record schema lock clean

help: ## What can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

setup: $(READY) ## The virtual environment, as the lock file says

$(READY): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dropchute needs Python 3.11 or newer; say which: make PYTHON=python3.12 …")'
	@echo "Setting up $(VENV) (once; a few minutes with pip, seconds with uv)"
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV) && \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r $(LOCK) && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

demo: $(READY) ## A messy CSV and a workbook, one question, one chart; no network needed
	@$(BIN)/dropchute demo

test: $(READY) ## Every test, on moto, and on LocalStack and MiniStack, which it installs by itself
	$(BIN)/python -m pytest

check: $(READY) ## Format, lint, types, import rules, generated schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m events.schema.generate --check

hostile: $(READY) ## 75 classes of attack against every tier of the sandbox; ends with a table
	$(BIN)/python -m pytest tests/hostile tests/integration/test_cold_tiers.py --long -s -n 0

faults: $(READY) ## The long versions: workers killed at every step, sheets and queues that fail; ends with a table
	$(BIN)/python -m pytest tests/faults tests/e2e/test_nothing_left_behind.py tests/unit/test_worker_machine.py --long -s -n 0

bench: $(READY) ## The numbers that we promise, measured here
	$(BIN)/python tests/benchmarks/run.py

record: $(READY) ## Ask a real model all that is replayed again (needs OPENAI_BASE_URL, OPENAI_API_KEY and LLM_MODEL)
	$(BIN)/dropchute demo --record
	RECORD_MODEL="$$LLM_MODEL" RECORD_API_KEY="$$OPENAI_API_KEY" $(BIN)/python -m pytest \
		tests/integration/test_analyst.py -k real_model --record-from "$$OPENAI_BASE_URL"
	$(BIN)/python tests/benchmarks/bench_latency.py --record

schema: $(READY) ## Write the JSON Schemas again after a change of events/
	$(BIN)/python -m events.schema.generate

lock: ## Write the lock file again after a change of dependencies (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --group dev --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet --output-file $(LOCK)

clean: ## Remove what was set up
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
