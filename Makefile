# Every recipe that CI or a person runs. `make` alone lists them.
# A fresh machine needs Rust, gcc and g++, make, Python 3 with pip and venv; `setup` brings the rest,
# pinned and hash-checked, into .tools, .venv and the user's cache.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
CARGO ?= cargo
export PATH := $(CURDIR)/.tools/bin:$(PATH)
# One profile for demo and tests: built once.
BUILD := $(CARGO) build --locked --workspace --bins

.DEFAULT_GOAL := help
.PHONY: help setup setup-test build demo test soak conformance scoreboard bench check-outputs fuzz fuzz-corpus lint release train eval-model test-training clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Fetch ONNX Runtime, the text detector and (where missing) CMake
	$(PYTHON) tools/setup.py

setup-test: setup .venv/.done ## Setup plus the senders that the tests drive (pynetdicom)

.venv/.done: tests/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	touch $@

build: setup ## Build every binary
	$(BUILD)

demo: build ## The whole path on loopback: STUDY=dir sends your films, SERVE=1 keeps it up
	target/debug/cloister demo $(if $(STUDY),--study "$(STUDY)") $(if $(SERVE),--serve)

test: setup-test ## All tests, real senders included; prints SKIPPED where a tool is missing
	$(BUILD)
	$(CARGO) test --locked --workspace

soak: setup-test ## Twenty kill runs
	$(BUILD)
	CLOISTER_KILL_RUNS=20 $(CARGO) test --locked -p cloister-tests --test kill -- --nocapture

conformance: setup-test ## The whole conformance suite against our DICOM port (about 2 minutes)
	$(BUILD)
	.venv/bin/python conformance/selftest.py
	.venv/bin/python conformance/receivers.py run cloister --binaries target/debug --jobs 2

scoreboard: setup-test ## The suite against every receiver found here; writes conformance/SCOREBOARD.md
	$(BUILD)
	.venv/bin/python conformance/receivers.py score --binaries target/debug

bench: release setup-test ## Time C-STORE beside the receivers that are installed
	.venv/bin/python bench/cstore.py --binaries target/release

check-outputs: build setup-test ## De-identify ../shared/data/dicom; every clean file against pydicom and dciodvfy
	rm -rf target/outputs && mkdir -p -m 700 target/outputs
	target/debug/cloister keys pseudonym --out target/outputs/key
	target/debug/cloister deidentify --in ../shared/data/dicom --out target/outputs/clean \
		--key target/outputs/key --report target/outputs/report.jsonl
	.venv/bin/python tools/check_outputs.py --in ../shared/data/dicom --out target/outputs/clean \
		--report target/outputs/report.jsonl --jobs 2

FUZZ_TARGETS := pdu request command_set references data_set charset frame gate pixels
SECONDS_EACH ?= 60
fuzz: ## Fuzz the readers of hostile bytes, SECONDS_EACH a target (needs a nightly toolchain and cargo-fuzz)
	for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/corpus/$$target; \
		$(PYTHON) -m zipfile -e fuzz/corpus/$$target.zip fuzz/corpus/$$target; \
		$(CARGO) +nightly fuzz run -s none $$target -- -max_total_time=$(SECONDS_EACH) -rss_limit_mb=1024; done

fuzz-corpus: ## Minimize what fuzzing has found, and pack it for the repository
	for target in $(FUZZ_TARGETS); do \
		rm -rf fuzz/corpus/.least && mkdir fuzz/corpus/.least; \
		$(CARGO) +nightly fuzz run -s none $$target -- -merge=1 fuzz/corpus/.least fuzz/corpus/$$target; \
		$(PYTHON) tools/pack_corpus.py fuzz/corpus/.least fuzz/corpus/$$target.zip; done
	rm -rf fuzz/corpus/.least

lint: setup ## Format, clippy at -D warnings, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

release: setup ## Optimised binaries under target/release
	$(CARGO) build --locked --workspace --bins --release

train: build ## Train and evaluate the reference bundle into training/runs (needs ../shared/data/cxr)
	$(MAKE) -C training train

eval-model: build ## Print the model card's tables, measured again; fails where a figure is not reproduced
	$(MAKE) -C training eval-model

test-training: ## Tests of the training package (installs PyTorch)
	$(MAKE) -C training test

clean: ## Remove what was built here (the cache stays)
	rm -rf target .venv .tools demo-state
