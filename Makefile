# Every target does its own set-up; all can be run again, from any state.
.PHONY: help setup demo test test-quick test-roles test-e2e test-conformance test-aws test-browser lint format lock clean

VENV := .venv
RUN := $(VENV)/bin
# One more than there are cores, since some tests wait; each takes five seconds to begin.
WORKERS := $(shell n=$$(nproc); echo $$((n < 7 ? n + 1 : 8)))
# Where the environment forbids caches, each process of the tests would compile labtool and all tests again.
unexport PYTHONDONTWRITEBYTECODE
# Whole stretches to each process: what a module's or a folder's tests share is made once, not in each of them.
PARALLEL := -n $(WORKERS) --dist worksteal
say = @printf '\n\033[1m==> %s\033[0m\n' "$(1)"

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## System packages, .venv, host image; a second call takes a second
	@sh tools/setup.sh

demo: setup ## Hosts, a three-broker Kafka cluster, load, a profile and its report, on this machine
	@sh tools/demo.sh

test: setup ## Lint and all tests: quick, browser, roles, end to end
	$(call say,lint)
	@$(MAKE) --no-print-directory run-lint
	$(call say,tests that need no hosts)
	@$(RUN)/pytest -q $(PARALLEL) -m "not hosts and not browser"
	$(call say,the report in a browser)
	@$(RUN)/pytest -q -m browser
	$(call say,roles and end to end: real hosts and brokers)
	@$(RUN)/pytest -v -m hosts -n 2 --dist loadfile --no-loadscope-reorder --durations 20

test-quick: setup-python ## The quick tests: under a minute, no hosts needed
	@$(RUN)/pytest -q $(PARALLEL) -m "not hosts and not browser and not slow"

test-roles: setup ## The role tests alone
	@$(RUN)/pytest -v -m hosts tests/roles

test-e2e: setup ## The end-to-end tests alone
	@$(RUN)/pytest -v -m hosts tests/e2e

test-conformance: setup ## What a program on a host sees, in the local cloud
	@$(RUN)/pytest -v -m "conformance" tests/conformance

test-aws: setup-python ## The same on AWS: says calls and price first, and asks
	@$(RUN)/python tools/conformance_aws.py

test-browser: setup ## The report in a browser
	@$(RUN)/pytest -v -m browser

lint: setup-python run-lint ## ruff, mypy, yamllint, ansible-lint

.PHONY: run-lint lint-ansible lint-types lint-yaml setup-python
run-lint:
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	@$(MAKE) --no-print-directory -j 2 --output-sync lint-ansible lint-types lint-yaml

# The first two take a core each, for half a minute and more.
lint-ansible:
	PATH="$(CURDIR)/$(RUN):$$PATH" $(RUN)/ansible-lint --offline

lint-types:
	$(RUN)/mypy

lint-yaml:
	$(RUN)/yamllint --strict .

setup-python:
	@sh tools/setup.sh python

format: setup-python ## Format the Python code
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

lock: setup-python ## Resolve the dependencies again into requirements.lock
	$(RUN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --extra dev --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links -o requirements.lock pyproject.toml

clean: ## End the local cloud and remove what was built here; runs/ stays
	@if [ -x $(RUN)/labtool ]; then $(RUN)/labtool cloud stop; fi
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
