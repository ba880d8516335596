#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The first program of README.md, as it stands there, with a main() that uses it: it compiles by pkg-config, and
# sends what it should.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' "$root/README.md" >"$work/program.c"
grep -q 'int send_whole(' "$work/program.c"
cat >>"$work/program.c" <<'CODE'
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    char got[64] = "";
    int sv[2];

    if (argc != 2 || socketpair(AF_UNIX, SOCK_STREAM, 0, sv) != 0 || send_whole(sv[0], argv[1]) != 0)
        return 1;
    if (read(sv[1], got, sizeof got - 1) < 0)
        return 1;
    fputs(got, stdout);
    return 0;
}
CODE
# shellcheck disable=SC2046
${CC:-cc} -Wall -Wextra -Werror "$work/program.c" -o "$work/program" $(pkg-config --cflags --libs snapsend)
printf 'the file' >"$work/file"
[ "$("$work/program" "$work/file")" = 'the file' ]
echo "it sends the file"
