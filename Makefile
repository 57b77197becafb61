# A thin layer: whatever a target does, its recipe can be typed by hand as well.

PYTHON ?= python3

BIN := .venv/bin
# Made anew when the files that they depend on change: what is installed already stays.
LOCAL := .venv/installed-local
DEV := .venv/installed-dev
PEER := .venv-bench/installed

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NEW_SECRET := $(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(50))'

FIND_PYTHON := command -v $(PYTHON) >/dev/null || { \
	echo 'There is no $(PYTHON) here. Name a Python from 3.11 to 3.13: make PYTHON=python3.13 ...' >&2; exit 1; }

# Settings that need no environment: the service's, without what the tests add.
MANAGE := env DJANGO_SETTINGS_MODULE=tests.service_settings $(BIN)/python manage.py
MAKE_SCHEMA := $(MANAGE) spectacular --validate --fail-on-warn --file
# A service as in production, to be looked at and not to be run.
PRODUCTION := env -i PATH="$$PATH" DEBUG=false ALLOWED_HOSTS=api.example.com TRUSTED_PROXIES=1 \
	EMAIL_URL='smtp://app:secret@smtp.example.com' DEFAULT_FROM_EMAIL='Todo <todo@example.com>' \
	PASSWORD_RESET_URL='https://app.example.com/reset?token={token}' \
	EMAIL_CONFIRMATION_URL='https://app.example.com/confirm?token={token}' \
	SECRET_KEY="$$($(NEW_SECRET))" JWT_SIGNING_KEY="$$($(NEW_SECRET))" \
	DATABASE_URL='postgresql://app:secret@db.example.com/todo?sslmode=verify-full'

# One lock for all platforms and for Python 3.11 to 3.13.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test test-system test-pooled fuzz check audit schema lock serve secret clean bench bench-quick

help:
	@echo 'make run      set everything up and run the development server (PORT=8000)'
	@echo 'make demo     an account with lists and tasks, and how to sign in to it'
	@echo 'make test     run the tests (ARGS="-k cursor" for some of them)'
	@echo 'make fuzz     10,000 and more random requests against each of three models'
	@echo 'make test-system  what needs haproxy or nginx: restarts behind a load balancer, overload, compression'
	@echo 'make test-pooled  the tests again, through PgBouncer; needs pgbouncer'
	@echo 'make check    format, lint, types, import rules, Dockerfile, settings, migrations, schema'
	@echo 'make audit    ask PyPI for known holes in what is installed'
	@echo 'make schema   write openapi.yaml anew, after a change of the API'
	@echo 'make lock     pin the requirements anew, with hashes'
	@echo 'make serve    migrate, and run the production server; reads the environment, not .env'
	@echo 'make secret   print a random secret'
	@echo 'make bench    measure the service beside a FastAPI peer; 25 minutes; needs wrk'
	@echo 'make bench-quick  the same, small and in three minutes'
	@echo 'make clean    remove .venv, .venv-bench and caches; .env and the databases stay'
	@echo
	@echo 'PYTHON=python3.13 chooses the Python that .venv is made with: 3.11 to 3.13.'

run: $(LOCAL) .env
	@$(BIN)/python manage.py migrate --verbosity 0
	@exec $(BIN)/python manage.py runserver

demo: $(LOCAL) .env
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(BIN)/python manage.py seed_demo

test: $(DEV)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 $(ARGS)

test-system: $(DEV)
	$(BIN)/python -m pytest -m system -s tests/system $(ARGS)

test-pooled: $(DEV)
	$(BIN)/python -m tests.pooled $(ARGS)

fuzz: $(DEV)
	FUZZ_RUNS=250 $(BIN)/python -m pytest tests/test_fuzz.py tests/test_devices.py tests/test_devices_with_lists.py $(ARGS)

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(MANAGE) makemigrations --check --dry-run
	$(MANAGE) lintmigrations
	$(MAKE_SCHEMA) .venv/openapi.yaml
	@diff -u openapi.yaml .venv/openapi.yaml || { echo 'openapi.yaml is out of date: run make schema.'; exit 1; }
	$(BIN)/python -m pip check

# Strict: a package that could not be looked up is a failure, and not one without known holes.
audit: $(DEV)
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements.txt

schema: $(DEV)
	$(MAKE_SCHEMA) openapi.yaml

# The .in files name what is wanted; the .txt files, what is installed, to the byte.
lock: $(DEV)
	$(LOCK) requirements.in --output-file requirements.txt
	$(LOCK) requirements-local.in --output-file requirements-local.txt
	$(LOCK) requirements-dev.in --output-file requirements-dev.txt
	$(LOCK) benchmarks/requirements.in --output-file benchmarks/requirements.txt

serve: $(LOCAL)
	@env DEBUG=false $(BIN)/python manage.py migrate --verbosity 0
	@exec env DEBUG=false $(BIN)/python manage.py serve

bench: $(LOCAL) $(PEER)
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(LOCAL) $(PEER)
	$(BIN)/python -m benchmarks --quick $(ARGS)

secret:
	@$(FIND_PYTHON)
	@$(NEW_SECRET)

clean:
	rm -rf .venv .venv-bench .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . '(' -name __pycache__ -o -name node_modules ')' -prune -exec rm -rf {} +

# Made once, never overwritten; readable by its owner alone.
.env:
	@$(FIND_PYTHON)
	@umask 077; key=$$($(NEW_SECRET)) && jwt_key=$$($(NEW_SECRET)) && sed \
		-e "s/^SECRET_KEY=.*/SECRET_KEY=$$key/" \
		-e "s/^JWT_SIGNING_KEY=.*/JWT_SIGNING_KEY=$$jwt_key/" \
		.env.example > .env.new && mv .env.new .env
	@echo 'Made .env from .env.example, with secrets of its own.'

$(BIN)/python:
	@$(FIND_PYTHON)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python 3.11 to 3.13 is needed, and $(PYTHON) is %s.%s. Choose another: make PYTHON=python3.13 ..." % v)'
	@$(PYTHON) -m venv --clear .venv

$(LOCAL): $(BIN)/python requirements.txt requirements-local.txt
	@echo 'Installing requirements-local.txt ...'
	@$(PIP_INSTALL) -r requirements-local.txt
	@touch $@

$(DEV): $(LOCAL) requirements-dev.txt
	@echo 'Installing requirements-dev.txt ...'
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

# Of its own, so that neither the peer nor the service gets the other's versions.
$(PEER): $(BIN)/python benchmarks/requirements.txt
	@echo 'Installing benchmarks/requirements.txt ...'
	@$(BIN)/python -m venv --clear .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@
