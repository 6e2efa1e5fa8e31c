# Each target sets up what it needs, on a fresh Debian machine with git and a Rust toolchain.

SHELL := bash
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
TOOLS := $(CURDIR)/.tools
DENY := 0.20.2

# Sandboxes need root: where you are not, what starts them does so by sudo.
ifneq ($(shell id -u),0)
ROOT := sudo --preserve-env
HOST := $(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export CARGO_TARGET_$(HOST)_RUNNER := $(ROOT)
endif

.PHONY: help run demo test check sdk durability vm bench fuzz clean

help:
	@echo "make run    build virga, start it, deploy and invoke examples/hello, keep serving until Ctrl-C"
	@echo "make demo   the same, but stop after the answer"
	@echo "make test   every check and every test"
	@echo "make vm     run the sandbox's tests in a virtual machine, under control groups of version 2"
	@echo "make durability  kill virga a hundred times while it accepts events, and count the lost ones"
	@echo "make bench  measure virga beside its peers"
	@echo "make fuzz   feed many strange bytes to the parsers (needs a nightly toolchain)"

run:
	@scripts/setup build
	@cargo build --profile quick --locked --package server --bin virga
	@scripts/run $(TARGET)/quick/virga

demo:
	@scripts/setup build
	@cargo build --profile quick --locked --package server --bin virga
	@scripts/run $(TARGET)/quick/virga --once

test: check
	@scripts/setup build test nats $(TOOLS)
	cargo test --workspace --locked
	@$(MAKE) --no-print-directory sdk

# Words that the project has replaced, formatting, lints, licences and sources of dependencies.
check:
	@scripts/setup build deny $(TOOLS) $(DENY)
	python3 scripts/words
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(TOOLS)/bin/cargo-deny check bans licenses sources

# The official clients, every command of the documentation, and an attacker, against the real binary.
sdk:
	@scripts/setup build test clients $(TOOLS)
	@# For the whole workspace, as the tests before it: another choice of packages has other features, and would be compiled again.
	cargo build --workspace --locked --bin virga
	VIRGA=$(TARGET)/debug/virga NODE_MODULES=$(TOOLS)/node/node_modules \
	  $(ROOT) $(TOOLS)/clients/bin/python -m pytest -p no:cacheprovider tests/sdk tests/docs tests/security

# The promise that an accepted event is never lost, checked over a hundred kills.
durability:
	@scripts/setup build test
	VIRGA_DURABILITY_KILLS=$(or $(KILLS),100) cargo test --locked --package server --test it -- durability:: --nocapture

# The sandbox under control groups of version 2 and Debian's kernel, in a virtual machine.
VM_TESTS ?= limits:: user:: zygotes:: runtime::function_runs_unprivileged runtime::each_failure runtime::processes_files \
  scaling::idle_instances lifecycle::everything_survives lifecycle::sigterm
vm:
	@scripts/setup build vm
	cargo test --locked --package server --test it --no-run --message-format json | jq -r 'select(.target.name == "it") | .executable | strings' \
	  >$(TARGET)/tests-binary
	$(ROOT) tests/vm/run $(TOOLS)/vm $(TARGET)/debug/virga "$$(cat $(TARGET)/tests-binary)" $(VM_TESTS)

bench:
	@scripts/setup build bench $(TOOLS)
	cargo build --release --locked --package server --bin virga --example baseline
	@mkdir -p bench/out
	$(ROOT) $(TOOLS)/peers/bin/python bench/run.py --virga $(TARGET)/release/virga --baseline $(TARGET)/release/examples/baseline \
	  --venv $(TOOLS)/peers --out bench/out/results.json

# The fuzz tests of `make test`, with more executions; then libFuzzer.
fuzz:
	@scripts/setup build fuzz $(TOOLS)
	FUZZ_EXECUTIONS=$(or $(FUZZ_EXECUTIONS),200000) cargo test --locked --workspace fuzzed_
	@mkdir -p fuzz/corpus/request
	PATH="$(TOOLS)/bin:$$PATH" cargo +nightly fuzz run request fuzz/corpus/request fuzz/seeds/request -- -max_total_time=$(or $(FUZZ_SECONDS),60)

clean:
	rm -rf target .tools .virga bench/out fuzz/target
