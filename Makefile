# SPDX-License-Identifier: MIT OR Apache-2.0
#
#   make            the library: target/release/libsnapsend.so and .a, include/snapsend.h
#   make demo       serves and checks real files, in a few seconds
#   make shim       target/release/libsnapsend_preload.so, for unmodified binaries
#   make test       every test
#   make load       1,000 connections for 30 seconds (LOAD_SECONDS=n), every byte checked
#   make torture    snapshots under torture (HOURS=n; make test has a short form)
#   make chaos      random calls (OPERATIONS=n; make test has a short form)
#   make differential  compares the shim with the kernel, with random calls, until they differ (DIFFERENTIAL="--seed N")
#   make test-sanitizers  all tests under AddressSanitizer and LeakSanitizer, many under valgrind
#   make test-fuzz  the C calls with arbitrary arguments (FUZZ_SECONDS=n; make test has a short form)
#   make test-kernel  the C tests on a Debian kernel, in qemu (KERNEL=6.1 or 6.12, ARCH=amd64, arm64 or arm64-16k,
#                   TESTS="name..."; without TESTS all of them, which takes half an hour and more)
#   make test-msrv  builds and tests with the oldest Rust that Cargo.toml promises (root; minutes)
#   make test-rpm   the source tarball and the RPM: both are built, the RPM without a network (minutes)
#   make test-models   the models with new random cases (CASES=1000000 of each)
#   make test-mutants  puts errors into the sources, one at a time (PATTERN="text"): the tests must find each
#   make bench      compares the library with sendfile, splice and others: target/bench/results.csv and plots (QUICK=1: a
#                   minute, checks the benchmark; BENCH="--rounds 3 ...": options; best as root, with nothing else running)
#   make samba-module  target/samba/snapsend.so, a module for Debian's smbd (integrations/samba/README.md)
#   make test-samba    its tests, with that smbd
#   make install-samba-module  the module and its manual page (DESTDIR, MANDIR)
#   make nginx-module  target/nginx/ngx_http_snapsend_module.so, a module for Debian's nginx (integrations/nginx/README.md)
#   make test-nginx    its tests, with that nginx
#   make install-nginx-module  the module and its manual page (DESTDIR, MANDIR)
#   make install    libraries, header, snapsend.pc, shim, tools and manual pages (PREFIX, LIBDIR, DESTDIR)
#   make uninstall  removes what install has installed with the same settings
#   make debian     Debian packages, in target/debian
#   make dist       a source tarball with the crates, target/snapsend-VERSION.tar.gz: it builds without git or a network
#   make rpm        RPM packages from that tarball, in target/rpm (rpm/snapsend.spec)
#   make arm64      Debian packages for arm64, in target/arm64, cross-built in a Debian 13 (root, debootstrap)
#   make vendor     the crates, into vendor/, for building without a network
#   make abi        writes the description of the ABI with which later changes are compared
#   make style-check   checks the style of C sources and scripts, and runs shellcheck; make style puts the style right
#
# target/ stands for cargo's target directory: CARGO_TARGET_DIR and build.target-dir of cargo's configuration are
# honoured.

CARGO ?= cargo
CC ?= cc
INSTALL ?= install
LOAD_SECONDS ?= 30
BENCH ?=
BENCH_OUT = $(SNAPSEND_TARGET)/bench$(if $(QUICK),/quick)
HOURS ?= 1
DIFFERENTIAL ?=
OPERATIONS ?= 10000000
FUZZ_SECONDS ?= 3600

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR     ?= $(PREFIX)/bin
MANDIR     ?= $(PREFIX)/share/man
DESTDIR    ?=

VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
SONAME  := libsnapsend.so.$(firstword $(subst ., ,$(VERSION)))

# What the tests and the other makefiles build in, too.
ifndef SNAPSEND_TARGET
SNAPSEND_TARGET := $(shell CARGO='$(CARGO)' build/target-dir)
endif
export SNAPSEND_TARGET

# For another machine cargo builds in a folder of that name.
BUILT    = $(SNAPSEND_TARGET)/$(addsuffix /,$(CARGO_BUILD_TARGET))release
SHIM     = $(SNAPSEND_TARGET)/shim/$(addsuffix /,$(CARGO_BUILD_TARGET))release
STAGED   = $(SNAPSEND_TARGET)/install
DEBS     = $(SNAPSEND_TARGET)/debian
SHARED   = libsnapsend.so.$(VERSION)
EXPORTED = $(shell sed -n 's/^\t\(snapsend_[a-z_]*\);$$/\1/p' snapsend.map)
MANUALS  = $(wildcard man/*.[137])

.PHONY: all library shared shim examples fetch demo load bench torture chaos test test-models test-mutants test-sanitizers test-fuzz samba-module test-samba install-samba-module install uninstall debian vendor abi style style-check differential clean

all: library shim info shared examples

library:
	$(CARGO) build --release
	ln -sf libsnapsend.so $(BUILT)/$(SONAME)

# Built by itself: together with the library it would export that one's symbols too.  And apart from it, or each of
# the two would have to be built again after the other.
shim:
	$(CARGO) build --release -p snapsend-preload --target-dir $(SNAPSEND_TARGET)/shim
	mkdir -p $(BUILT)
	ln -f $(SHIM)/libsnapsend_preload.so $(BUILT)/libsnapsend_preload.so

# As `make install` installs it, with a version on each symbol.  rustc passes the linker a version script of its
# own, and GNU ld takes one only; so this one is linked from the archive.
shared: $(STAGED)/$(SHARED)

$(STAGED)/$(SHARED): $(BUILT)/libsnapsend.a snapsend.map Makefile
	mkdir -p $(STAGED)
	$(CC) $(LDFLAGS) -shared -o $@ -Wl,-soname,$(SONAME) -Wl,--version-script=snapsend.map \
		$(EXPORTED:%=-Wl,-u,%) -Wl,--gc-sections -Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,--as-needed \
		$< -lgcc_s -lpthread -ldl -lm -lc

# Cargo knows when these are out of date; for `sudo make install`, where there may be no cargo, it is enough that they
# are there.
$(BUILT)/libsnapsend.a:
	$(MAKE) library
$(BUILT)/libsnapsend_preload.so:
	$(MAKE) shim

examples: library
	$(MAKE) -C c-examples

# The demonstration's client, which knows nothing of the library.
fetch:
	$(CARGO) build --release -p snapsend-fetch
	mkdir -p $(SNAPSEND_TARGET)/c-examples
	ln -f $(BUILT)/fetch $(SNAPSEND_TARGET)/c-examples/fetch

demo: examples fetch
	demo/run.sh

load: examples fetch
	demo/load.sh $(LOAD_SECONDS)

bench: library
	$(MAKE) -C benches
	mkdir -p $(BENCH_OUT)
	$(SNAPSEND_TARGET)/benches/bench $(if $(QUICK),--quick) --csv $(BENCH_OUT)/results.csv $(BENCH)
	@if command -v python3 >/dev/null; then \
		benches/plot.py $(BENCH_OUT)/results.csv $(BENCH_OUT)$(if $(QUICK),, && benches/aims.py $(BENCH_OUT)/results.csv); \
	else echo "no plots, and no list of the aims: they want python3"; fi

torture: library
	tests/run-stress torture --seconds $$(($(HOURS) * 3600))

chaos: library
	tests/run-stress chaos --operations $(OPERATIONS)

differential: shim
	mkdir -p target/differential
	$(CC) -std=c11 -D_GNU_SOURCE -O1 -g -pthread tests/preload/differential.c -o target/differential/differential
	preload/snapsend-run target/differential/differential --calls 0 $(DIFFERENTIAL)

test-models:
	PROPTEST_CASES=$(or $(CASES),1000000) cargo test --release --lib -- model_

test-mutants:
	tests/run-mutants $(if $(PATTERN),'$(PATTERN)')

test-sanitizers: library
	tests/run-sanitizers

test-fuzz:
	tests/run-fuzzer $(FUZZ_SECONDS)

test: examples fetch shim
	$(MAKE) shared
	tests/run

samba-module: $(STAGED)/$(SHARED)
	integrations/samba/build.sh $<

test-samba: samba-module
	tests/run-samba

# To where smbd looks for modules. The directory is there only if samba-vfs-modules is installed. As with install, what
# has been built is installed.
install-samba-module:
	modules=$$(PATH=$$PATH:/usr/sbin smbd -b | sed -n 's/^ *MODULESDIR: *//p') && [ -n "$$modules" ] && \
	$(INSTALL) -d "$(DESTDIR)$$modules/vfs" "$(DESTDIR)$(MANDIR)/man8" && \
	$(INSTALL) -m 644 target/samba/snapsend.so "$(DESTDIR)$$modules/vfs/" && \
	$(INSTALL) -m 644 integrations/samba/vfs_snapsend.8 "$(DESTDIR)$(MANDIR)/man8/"

.PHONY: nginx-module test-nginx install-nginx-module

nginx-module: $(STAGED)/$(SHARED)
	integrations/nginx/build.sh $<

test-nginx: nginx-module
	tests/run-nginx

# To where nginx looks for modules.
install-nginx-module:
	modules=$$(PATH=$$PATH:/usr/sbin nginx -V 2>&1 | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p') && [ -n "$$modules" ] && \
	$(INSTALL) -d "$(DESTDIR)$$modules" "$(DESTDIR)$(MANDIR)/man8" && \
	$(INSTALL) -m 644 target/nginx/ngx_http_snapsend_module.so "$(DESTDIR)$$modules/" && \
	$(INSTALL) -m 644 integrations/nginx/ngx_http_snapsend_module.8 "$(DESTDIR)$(MANDIR)/man8/"

install: $(STAGED)/$(SHARED) $(BUILT)/libsnapsend_preload.so $(BUILT)/snapsend-info
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/snapsend $(DESTDIR)$(INCLUDEDIR) \
		$(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man3 $(DESTDIR)$(MANDIR)/man7
	$(INSTALL) -m 755 $(STAGED)/$(SHARED) $(DESTDIR)$(LIBDIR)/$(SHARED)
	ln -sf $(SHARED) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libsnapsend.so
	$(INSTALL) -m 644 $(BUILT)/libsnapsend.a $(DESTDIR)$(LIBDIR)/libsnapsend.a
	$(INSTALL) -m 644 include/snapsend.h $(DESTDIR)$(INCLUDEDIR)/snapsend.h
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
		-e 's|@LIBDIR@|$(LIBDIR:$(PREFIX)/%=$${prefix}/%)|' \
		-e 's|@INCLUDEDIR@|$(INCLUDEDIR:$(PREFIX)/%=$${prefix}/%)|' \
		snapsend.pc.in | $(INSTALL) -m 644 /dev/stdin $(DESTDIR)$(LIBDIR)/pkgconfig/snapsend.pc
	$(INSTALL) -m 644 $(BUILT)/libsnapsend_preload.so $(DESTDIR)$(LIBDIR)/snapsend/libsnapsend_preload.so
	sed -e 's|^installed=$$|installed=$(LIBDIR)/snapsend|' preload/snapsend-run | \
		$(INSTALL) -m 755 /dev/stdin $(DESTDIR)$(BINDIR)/snapsend-run
	$(INSTALL) -m 755 $(BUILT)/snapsend-info $(DESTDIR)$(BINDIR)/snapsend-info
	for page in $(MANUALS); do \
		$(INSTALL) -m 644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/ || exit 1; \
	done
	@# The loader finds new libraries in /usr/local/lib by its cache.
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig || true; fi

uninstall:
	rm -f $(DESTDIR)$(LIBDIR)/$(SHARED) $(DESTDIR)$(LIBDIR)/$(SONAME) $(DESTDIR)$(LIBDIR)/libsnapsend.so \
		$(DESTDIR)$(LIBDIR)/libsnapsend.a $(DESTDIR)$(INCLUDEDIR)/snapsend.h \
		$(DESTDIR)$(LIBDIR)/pkgconfig/snapsend.pc $(DESTDIR)$(LIBDIR)/snapsend/libsnapsend_preload.so \
		$(DESTDIR)$(BINDIR)/snapsend-run $(DESTDIR)$(BINDIR)/snapsend-info
	for page in $(MANUALS); do rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page#man/}; done
	-rmdir $(DESTDIR)$(LIBDIR)/snapsend 2>/dev/null
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig || true; fi

# Everything in one place, and from what has been built; dpkg-buildpackage by itself works as it does everywhere.
debian: library shim info
	rm -rf $(DEBS)
	mkdir -p $(DEBS)
	DEB_DESTDIR=$(DEBS) dpkg-buildpackage -us -uc -b -nc -Ppkg.snapsend.rustup \
		--buildinfo-file=$(DEBS)/snapsend.buildinfo --changes-file=$(DEBS)/snapsend.changes \
		--buildinfo-option=-u$(DEBS) --changes-option=-u$(DEBS)
	dh_clean -XCargo.toml.orig

vendor:
	$(CARGO) vendor --locked vendor >/dev/null

abi:
	tests/packaging/abi.sh --write

# Folders whose C sources follow .clang-format. integrations/nginx has nginx's own style, integrations/samba Samba's.
STYLED  ?= benches c-examples tests
SOURCES  = $(shell find $(STYLED) -name '*.[ch]')
# All scripts: they follow shfmt, which indents by tabs, and shellcheck finds nothing in them.
SCRIPTS ?= $(shell grep -rlIE '^\#!.*[ /](ba)?sh$$|^\# shellcheck shell' .ci build debian/tests demo integrations preload tests)

style-check:
	@if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then clang-format --dry-run --Werror $(SOURCES); \
	else echo "SKIP style of C sources: no clang-format 14 (others break lines elsewhere)"; fi
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); \
	else echo "SKIP scripts: no shellcheck"; fi
	@if command -v shfmt >/dev/null; then shfmt -d $(SCRIPTS); \
	else echo "SKIP style of scripts: no shfmt"; fi

style:
	clang-format -i $(SOURCES)
	shfmt -w $(SCRIPTS)

# ---- machines and distributions -----------------------------------------------------------------

.PHONY: info dist rpm arm64 test-kernel test-msrv test-rpm

KERNEL ?= 6.1
ARCH   ?= amd64
TESTS  ?=
DIST    = snapsend-$(VERSION)

# With the shim's own build of the library: without the symbols for C.
info:
	$(CARGO) build --release -p snapsend-info --target-dir $(SNAPSEND_TARGET)/shim
	mkdir -p $(BUILT)
	ln -f $(SHIM)/snapsend-info $(BUILT)/snapsend-info

$(BUILT)/snapsend-info:
	$(MAKE) info

# What git knows, as it lies here.  In the tarball cargo finds the crates by itself.
dist:
	rm -rf $(SNAPSEND_TARGET)/dist
	mkdir -p $(SNAPSEND_TARGET)/dist/$(DIST)
	git ls-files -z | tar -c --null --files-from=- | tar -x -C $(SNAPSEND_TARGET)/dist/$(DIST)
	$(CARGO) vendor --locked $(SNAPSEND_TARGET)/dist/$(DIST)/vendor >/dev/null
	mkdir -p $(SNAPSEND_TARGET)/dist/$(DIST)/.cargo
	cp debian/vendored.toml $(SNAPSEND_TARGET)/dist/$(DIST)/.cargo/config.toml
	sed -i 's/@VERSION@/$(VERSION)/' $(SNAPSEND_TARGET)/dist/$(DIST)/rpm/snapsend.spec
	tar -c --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$$(git log -1 --format=%ct) -C $(SNAPSEND_TARGET)/dist $(DIST) | \
		gzip -n >$(SNAPSEND_TARGET)/$(DIST).tar.gz

# Rust may be from rustup, of which rpm knows nothing.
rpm: dist
	env -u SNAPSEND_TARGET rpmbuild -ta --nodeps --define '_topdir $(SNAPSEND_TARGET)/rpm' $(SNAPSEND_TARGET)/$(DIST).tar.gz

arm64:
	tests/cross-root run 'dpkg-buildpackage -a arm64 -us -uc -b -Pcross,nocheck'
	mkdir -p $(SNAPSEND_TARGET)/arm64/release
	cp $(SNAPSEND_TARGET)/cross/root/*_arm64.deb $(SNAPSEND_TARGET)/arm64/
	cp $(SNAPSEND_TARGET)/cross/root/source/target/aarch64-unknown-linux-gnu/release/*.so $(SNAPSEND_TARGET)/arm64/release/

test-kernel: $(if $(filter amd64,$(ARCH)),library shim)
	tests/run-kernel --arch $(ARCH) $(KERNEL) $(TESTS)

test-msrv:
	tests/run-msrv

test-rpm:
	tests/packaging/rpm.sh

clean:
	$(CARGO) clean
