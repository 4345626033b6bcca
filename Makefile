# The few commands a person types. Each sets up what it needs; nothing is to be done by hand before.
# Everything is built in the release profile: one build of the dependencies serves them all.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO_FLAGS := --locked
# The filters are a workspace of their own, with a target directory of its own.
FILTERS := cd filters && $(if $(CARGO_TARGET_DIR),CARGO_TARGET_DIR=$(abspath $(CARGO_TARGET_DIR))/filters) cargo
# Minutes that `make soak` runs, the kills that it makes, and what `make demo` and `make bench` are told.
SOAK_MINUTES ?= 60
SOAK_KILLS ?= 1000
ARGS ?=
# Programs are run as `build` made them: `cargo run -p` would choose other features and compile wasmtime once more.
BIN = $(or $(CARGO_TARGET_DIR),target)/release
# The seed of the random tests. Empty: another one each time; the section's heading says which, so that a failure can be
# repeated (SEED=7 make test-unit).
SEED ?=
DRAWN := $(or $(SEED),$(shell echo $$((RANDOM * 32768 + RANDOM))))

.PHONY: help setup build filters kafka etcd nginx demo test test-unit test-filters test-e2e bench bench-scale bench-fair lint soak clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install or name what is missing on this machine
	@scripts/setup

build: setup filters ## Build target/release/tailmill and the stock filters as target/filters/NAME.wasm
	@cargo build $(CARGO_FLAGS) --release --workspace --bins

filters: setup
	@scripts/build-filters

kafka:
	@scripts/fetch-kafka >/dev/null

etcd:
	@scripts/fetch-etcd >/dev/null

nginx:
	@scripts/fetch-nginx >/dev/null

demo: build kafka ## Show it working, from nothing, in a minute (ARGS=--keep: go on until ctrl-c)
	@$(BIN)/demo $(ARGS)

test: test-unit test-filters test-e2e ## All tests: rooms, filters, and end to end with a real Kafka and etcd

test-unit test-filters test-e2e: export PROPTEST_RNG_SEED := $(DRAWN)

test-unit: build
	@scripts/section 'unit tests, SEED=$(DRAWN)'
	@cargo test $(CARGO_FLAGS) --release --workspace --lib --bins --examples
	@cargo test $(CARGO_FLAGS) --release --workspace --doc --exclude tailmill-tests

test-filters: build
	@scripts/section 'filter tests, SEED=$(DRAWN)'
	@$(FILTERS) test $(CARGO_FLAGS) --release --workspace

test-e2e: build kafka etcd nginx
	@scripts/section 'integration and end-to-end tests, SEED=$(DRAWN)'
	@cargo test $(CARGO_FLAGS) --release --workspace --test '*'

bench: build kafka ## CPU per line beside a bare librdkafka program, in one table (ARGS=--json)
	@$(BIN)/bench $(ARGS)

bench-scale: build kafka ## What 1, 1,000 and 20,000 idle files cost (ARGS=--json)
	@$(BIN)/scale $(ARGS)

bench-fair: build kafka ## What a good entry loses beside slow filters on its shard (ARGS=--json)
	@$(BIN)/fair $(ARGS)

lint: setup ## Formatting, clippy, forbidden arrows, paths in ARCHITECTURE.md
	@scripts/section 'format'
	@cargo fmt --all --check
	@$(FILTERS) fmt --all --check
	@scripts/section 'arrows and paths'
	@scripts/check-arrows
	@scripts/check-paths
	@scripts/section 'clippy'
	@cargo clippy $(CARGO_FLAGS) --release --workspace --all-targets -- -D warnings
	@$(FILTERS) clippy $(CARGO_FLAGS) --release --workspace --all-targets -- -D warnings

soak: build kafka etcd nginx ## Random scripts, rotation, SOAK_KILLS=1000 kills under load, for SOAK_MINUTES=60
	@SOAK_MINUTES=$(SOAK_MINUTES) SOAK_KILLS=$(SOAK_KILLS) scripts/soak

clean: ## Remove what was built here (the cache of Kafka and etcd stays)
	@cargo clean -q
	@$(FILTERS) clean -q
