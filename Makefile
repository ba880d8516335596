# SPDX-License-Identifier: MIT OR Apache-2.0
#
#   make        the library: target/release/libsnapsend.so and .a, include/snapsend.h
#   make demo   the main job on real files, in a few seconds
#   make test   every test
#   make load   1,000 connections for 30 seconds (LOAD_SECONDS=n), every byte checked
#   make bench  the library beside sendfile, splice and others (BENCH="--quick ..." for its options)

CARGO ?= cargo
LOAD_SECONDS ?= 30
BENCH ?= --quick

.PHONY: all library examples demo test load bench clean

all: library examples

library:
	$(CARGO) build --release

examples: library
	$(MAKE) -C c-examples

demo: examples
	demo/run.sh

load: examples
	demo/load.sh $(LOAD_SECONDS)

bench: library
	$(MAKE) -C benches
	target/benches/bench $(BENCH)

test: examples
	tests/run

clean:
	$(CARGO) clean
