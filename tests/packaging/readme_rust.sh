#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The program in Rust of README.md, as it stands there: a crate that depends on this one compiles it, and it sends
# what it should.
#
#   tests/packaging/readme_rust.sh TARGET-FOLDER
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
command -v python3 >/dev/null || {
	echo "SKIP: no python3"
	exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
awk '/^```rust$/ { on = 1; next } /^```$/ { if (on) exit } on' "$root/README.md" >"$work/src/main.rs"
grep -q 'fn send_whole(' "$work/src/main.rs"
cat >"$work/Cargo.toml" <<CRATE
[package]
name = "readme"
edition = "2024"
[dependencies]
snapsend = { path = "$root", default-features = false }
[workspace]
CRATE
# Of the crates that this one is locked to.
cp "$root/Cargo.lock" "$work/"
cd "$work"
# It has no server: this one takes a connection, and says what came.
python3 - >"$work/received" <<'CODE' &
import socket
listener = socket.create_server(("127.0.0.1", 0))
with open("port.new", "w") as file:
    print(listener.getsockname()[1], file=file)
import os
os.rename("port.new", "port")
listener.settimeout(200)
connection, _ = listener.accept()
while part := connection.recv(65536):
    print(part.decode(), end="")
CODE
for _ in $(seq 100); do
	[ ! -e port ] || break
	sleep 0.05
done
sed -i "s/127\.0\.0\.1:9000/127.0.0.1:$(cat port)/" src/main.rs
cp "$root/README.md" .
cargo run --quiet --offline --target-dir "$1"
wait
cmp received README.md
