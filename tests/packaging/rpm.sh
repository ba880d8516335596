#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The source tarball builds where there is neither git nor a network, and so do RPM packages, which have the files
# that `make install` has.  By hand (make test-rpm): it builds everything twice.
set -eu
export LC_ALL=C
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
command -v rpmbuild >/dev/null || {
	echo "SKIP: no rpmbuild (Debian's package rpm)"
	exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/snapsend-rpm.XXXXXX")
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)

target=$(build/target-dir)
unset SNAPSEND_TARGET # which the tarball's own make would take for its own
make --no-print-directory dist >/dev/null
# A network namespace with nothing but loopback; a cargo that knows no crates; no git.
mkdir "$work/cargo-home" "$work/bin"
printf '#!/bin/sh\nexit 99\n' >"$work/bin/git"
chmod +x "$work/bin/git"
unshare --map-root-user --net env CARGO_HOME="$work/cargo-home" PATH="$work/bin:$PATH" \
	RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" CARGO="$(command -v cargo)" \
	sh -c 'ip link set lo up && exec "$@"' sh rpmbuild -ta --nodeps --define "_topdir $work/rpm" "$target/snapsend-$version.tar.gz" >"$work/log" 2>&1 ||
	{
		tail -n 40 "$work/log"
		exit 1
	}
echo "ok   the tarball builds without git and network, and so do RPM packages"

# What the packages have together, without documentation.
for package in "$work"/rpm/RPMS/*/*.rpm; do
	rpm -qlp --noartifact "$package" | grep -v -e '^/usr/share/doc' -e '^/usr/share/licenses' -e debug -e build-id || true
done | sed 's/\(\/man\/.*\)\.gz$/\1/' | sort -u >"$work/packaged"
libdir=$(rpm --eval '%{_libdir}')
make --no-print-directory -s install DESTDIR="$work/installed" PREFIX=/usr LIBDIR="$libdir" >/dev/null
(cd "$work/installed" && find . ! -type d) | sed 's/^\.//' >"$work/there"
echo "$libdir/snapsend" >>"$work/there"
sort -u "$work/there" | diff - "$work/packaged" || {
	echo "FAIL < make install has, > the packages have"
	exit 1
}
echo "ok   they have the files that make install has"
