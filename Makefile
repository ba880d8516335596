# SPDX-License-Identifier: MIT OR Apache-2.0
#
#   make        the library: target/release/libsnapsend.so and .a, include/snapsend.h
#   make demo   the main job on real files, in a few seconds
#   make test   every test
#   make load   1,000 connections for 30 seconds (SECONDS=n), every byte checked

CARGO ?= cargo
LOAD_SECONDS ?= 30

.PHONY: all library examples demo test load clean

all: library examples

library:
	$(CARGO) build --release

examples: library
	$(MAKE) -C c-examples

demo: examples
	demo/run.sh

load: examples
	demo/load.sh $(LOAD_SECONDS)

test: examples
	tests/run

clean:
	$(CARGO) clean
