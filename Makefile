# Everything a contributor does, by verb. `make demo` and `make test` install what they need themselves.
# Each recipe is one line or a few: the program that it starts describes what it does.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A service may have no HOME; Go and the caches need one.
ifeq ($(HOME),)
export HOME := $(shell echo ~)
endif
# The rule of sandbox/host/cache.py, for make; .ci/environment has it for the shell. Change all three together.
CACHE := $(or $(SERIN_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/serin)
UV := $(CACHE)/uv-$(shell sed -n 's/^uv==//p' requirements/bootstrap.in)/bin/uv
BIN := .venv/bin
PYTHON := $(BIN)/python
# The tier of `make sandbox`: full, or api for etcd, the API server and Prometheus only.
TIER ?= full
# The gateway of the sandbox, contour or traefik; `python -m sandbox up` reads it. Empty: as it runs, else contour.
GATEWAY ?=
export GATEWAY
# More arguments for pytest: make test PYTEST='-k lease -x'
PYTEST ?=
# Processes that run the tests of `make test`; each starts API servers of its own. 0: in pytest's own process, for --pdb.
JOBS ?= 2
# The module that plays the demo, and the one that runs the benchmarks.
DEMO ?= examples.demo
BENCH ?= bench

export UV
export UV_SYSTEM_CERTS := 1
# Reached without a proxy: this machine, and its sandbox's node in each network that it may get (sandbox/node/network.py).
comma := ,
NODES := $(foreach octet,213 214 219 231 237 83,10.$(octet).0.2 10.$(octet).0.0/16)
LOCAL := $(sort $(subst $(comma), ,$(NO_PROXY) $(no_proxy)) localhost 127.0.0.1 ::1 $(NODES))
export NO_PROXY := $(subst $() ,$(comma),$(LOCAL))
export no_proxy := $(NO_PROXY)
# Source roots: operator/ for the package serin, this folder for every other package.
export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)

FAST_TESTS := tests/unit tests/stories tests/contract tests/integration sandbox/tests model_server/tests examples/tests
E2E_TESTS := tests/e2e model_server/tests/slow

.PHONY: help demo test check e2e faults sandbox down crds fmt bench bench-decision decision-rows decision-trials bench-latency bench-measurement bench-model-server bench-rollback bench-switching bench-gateways environment

help:
	@echo "Serin: canary rollouts of LLMs on Kubernetes. Verbs:"
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: environment ## a real cluster, a real model, one good canary and one bad one, in minutes
	@$(PYTHON) -m $(DEMO)

test: environment ## unit, story, contract and integration tests, the latter on a real API server
	@$(PYTHON) -m sandbox build --tier api
	@$(PYTHON) .ci/provide.py helm
	@$(PYTHON) -m pytest -n $(JOBS) --dist worksteal --ignore model_server/tests/slow $(PYTEST) $(FAST_TESTS)

check: environment ## secret scan, lint, format, types, contracts, drift of generated files, in this order
	@$(PYTHON) .ci/secret_scan.py
	@echo "check: lint" && $(BIN)/ruff check --quiet
	@echo "check: format" && $(BIN)/ruff format --check --quiet
	@echo "check: types" && $(BIN)/mypy
	@echo "check: contracts" && $(BIN)/lint-imports
	@$(PYTHON) .ci/provide.py helm kubectl
	@$(PYTHON) -m pytest -q tests/contract
	@echo "check: drift" && $(PYTHON) -m serin.api --check crds charts/serin-crds/templates
	@$(PYTHON) -m docs.reference.generate --check

e2e: environment ## end-to-end tests on the whole sandbox; starts it, and ends it if it was not running
	@.ci/e2e $(PYTEST) $(E2E_TESTS)

sandbox: environment ## the cluster only; TIER=api for etcd, API server and Prometheus; GATEWAY=traefik
	@$(PYTHON) -m sandbox up --tier $(TIER)

down: ## end the sandbox and remove every trace of it but the cache
	@$$(test -x $(PYTHON) && echo $(PYTHON) || echo python3) -m sandbox down

crds: environment ## write crds/, charts/serin-crds/ and docs/reference/ from the code
	@$(PYTHON) -m serin.api crds charts/serin-crds/templates
	@$(PYTHON) -m docs.reference.generate

fmt: environment ## format the code and fix what lint can fix
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet

faults: environment ## canaries on a real vLLM whose requests hang, vanish or are not found, and canaries at equal load; about twenty minutes
	@$(PYTHON) -m pytest -q -n 0 $(PYTEST) tests/faults

bench: environment ## benchmarks of processor time; bench-decision, -measurement, -latency, -rollback, -switching, -gateways, -model-server: see the Makefile
	@$(PYTHON) -m $(BENCH)

# The decision engine against its limits and the rules of others; fails if one is exceeded; writes
# bench/decision/results.md. Beside it all two hundred rollouts of identical canaries, of which `make test` plays a
# quarter: they are not compiled, so they keep one processor busy for minutes.
bench-decision: environment
	@$(MAKE) --no-print-directory --jobs=2 decision-rows decision-trials

decision-rows:
	@$(PYTHON) -m bench.decision

decision-trials:
	@SERIN_TRIALS=all $(PYTHON) -m pytest -q tests/stories/test_two_hundred.py

# What was measured at an early commit, again, with the figures of then beside it, about fifteen minutes; writes
# bench/measurement/results.md.
bench-measurement: environment
	@$(PYTHON) -m bench.measurement

# The cost of the middleware for a real vLLM, alone, with a prompt and with checks, half an hour; writes
# bench/model_server/results.md.
bench-model-server: environment
	@$(PYTHON) -m bench.model_server

# How long a bad canary still gets requests, on the sandbox, about half an hour; writes bench/rollback/results.md.
bench-rollback: environment
	@$(PYTHON) -m bench.rollback

# How long a split takes to reach sixteen pods, on the sandbox, two minutes; writes bench/switching/results.md.
bench-switching: environment
	@$(PYTHON) -m bench.switching

# Failed requests at weight changes, and time-outs, on the sandbox's gateway, about five minutes; with GATEWAY=traefik on
# Traefik; writes bench/gateways/<gateway>.md.
bench-gateways: environment
	@$(PYTHON) -m bench.gateways

# Example 04 on a real vLLM: a canary that is only slower is rolled back, about four minutes on the sandbox.
bench-latency: environment
	@$(PYTHON) -m bench.latency

environment:
	@.ci/environment
