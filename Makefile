# Needs python3 (3.11 to 3.14) and make, nothing else: the set-up brings the rest into .venv.
#
#   make demo ARGS="--for 60 --json"     arguments for `rota demo`
#   make test ARGS="tests/unit -k auth"  arguments for pytest
#   make PYTHON=python3.12 test          another interpreter

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# Where the environment forbids bytecode, every start of `rota` compiles all of its modules, and each test worker all tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv demo test chaos check lint types imports lua bench lock clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z]*\): .*## /  make \1\t/p' Makefile

venv: ## set .venv up, or bring it up to date
	@$(PYTHON) tools/make_venv.py

demo: venv ## a whole fleet on this machine: stores, servers, bots, a status page
	@$(BIN)/rota demo $(ARGS)

test: venv ## all tests, in parallel
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: venv ## break a real installation in every way, and check rota's promises; ARGS="web-killed --ttl 90"
	@$(BIN)/rota chaos $(ARGS)

check: lint types imports lua ## everything that is checked without running it

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy $(wildcard src tests tools bench examples)

imports: venv
	$(BIN)/lint-imports --no-logo

lua: venv
	$(BIN)/python tools/luacheck.py

bench: venv ## measure, and print what was measured
	@$(BIN)/python -m bench $(ARGS)

lock: venv ## write requirements.lock anew from pyproject.toml; ARGS=--upgrade takes the newest versions
	@CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --all-extras --all-build-deps \
		--generate-hashes --allow-unsafe --strip-extras --annotation-style=line \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
		--output-file=requirements.lock $(ARGS) pyproject.toml

clean: ## remove what make and the tools made
	@rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
