#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Sends itself by sendfile and compares: for the shim, in sandboxes. What the filter leaves out is refused."""
import ctypes
import errno
import os
import socket

ours, theirs = socket.socketpair()
with open(__file__, "rb") as file:
    content = file.read()
    assert os.sendfile(ours.fileno(), file.fileno(), 0, len(content)) == len(content)
assert theirs.recv(len(content), socket.MSG_WAITALL) == content
libc = ctypes.CDLL(None, use_errno=True)
assert libc.swapoff(b"") == -1 and ctypes.get_errno() == errno.EPERM
