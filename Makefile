# SPDX-License-Identifier: MIT OR Apache-2.0
#
#   make        the library: target/release/libsnapsend.so and .a, include/snapsend.h
#   make demo   the main job on real files, in a few seconds
#   make shim   target/release/libsnapsend_preload.so, for programs that nobody rebuilds
#   make test   every test
#   make load   1,000 connections for 30 seconds (LOAD_SECONDS=n), every byte checked
#   make torture HOURS=n          snapshots under torture for so long (make test has a short form)
#   make chaos OPERATIONS=n       every call at random for so long (make test has a short form)
#   make test-mutants             mistakes put into the sources: the tests must notice each
#   make bench  the library beside sendfile, splice and others: target/bench/results.csv and plots (QUICK=1: a minute, for
#               its sanity; BENCH="--rounds 3 ..." for its options; best as root, on a machine with nothing else to do)

CARGO ?= cargo
LOAD_SECONDS ?= 30
BENCH ?=
BENCH_OUT = target/bench$(if $(QUICK),/quick)
HOURS ?= 1
OPERATIONS ?= 10000000

.PHONY: all library shim examples demo test load bench torture chaos test-mutants clean

all: library shim examples

library:
	$(CARGO) build --release

# Built by itself: together with the library it would export that one's symbols too.
shim:
	$(CARGO) build --release -p snapsend-preload

examples: library
	$(MAKE) -C c-examples

demo: examples
	demo/run.sh

load: examples
	demo/load.sh $(LOAD_SECONDS)

bench: library
	$(MAKE) -C benches
	mkdir -p $(BENCH_OUT)
	target/benches/bench $(if $(QUICK),--quick) --csv $(BENCH_OUT)/results.csv $(BENCH)
	@if command -v python3 >/dev/null; then benches/plot.py $(BENCH_OUT)/results.csv $(BENCH_OUT); \
	else echo "no plots: they want python3"; fi

torture: library
	tests/run-stress torture --seconds $$(($(HOURS) * 3600))

chaos: library
	tests/run-stress chaos --operations $(OPERATIONS)

test-mutants:
	tests/mutants.sh

test: examples shim
	tests/run

clean:
	$(CARGO) clean
