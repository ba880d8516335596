#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""seccomp_run.py DROP-IN COMMAND...: runs a command with the system calls that the SystemCallFilter= lines of a
systemd drop-in allow, and no others: they give SystemCallErrorNumber=."""
import ctypes
import errno
import os
import platform
import re
import struct
import subprocess
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06


def groups():
    """What systemd's names with an @ stand for."""
    text = subprocess.run(["systemd-analyze", "syscall-filter"], check=True, capture_output=True, text=True).stdout
    found = {}
    for line in text.splitlines():
        if line.startswith("@"):
            members = found[line.strip()] = []
        elif re.match(r"\s+[-@a-z_0-9]+$", line):
            members.append(line.strip())
    return found


def numbers():
    """The kernel's numbers, as the C compiler knows them."""
    text = subprocess.run(["cc", "-E", "-dM", "-include", "sys/syscall.h", "-xc", "/dev/null"],
                          check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)$", text, re.M)}


def allowed(path):
    """The names in the drop-in, and the error for all others. Only allow-lists: there is no ~ in ours."""
    known, names, error = groups(), set(), "EPERM"
    for line in open(path):
        key, _, value = line.strip().partition("=")
        if key == "SystemCallErrorNumber":
            error = value
        if key != "SystemCallFilter":
            continue
        waiting = ["@default", *value.split()]
        while waiting:
            name = waiting.pop()
            if name.startswith("@"):
                waiting += known[name]
            else:
                names.add(name)
    return names, getattr(errno, error)


def restrict(names, error):
    number_of = numbers()
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, ARCHITECTURES[platform.machine()]), (RETURN, 0, 0, RET_ERRNO | error),
               (LOAD, 0, 0, 0)]
    for number in sorted(number_of[name] for name in names if name in number_of):
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, RET_ALLOW)]
    program.append((RETURN, 0, 0, RET_ERRNO | error))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0):
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    restrict(*allowed(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
