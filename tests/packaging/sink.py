#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Prints its port, reads one connection to its end, and fails unless 8 MiB of zeros came."""
import socket

with socket.create_server(("127.0.0.1", 0)) as listener:
    listener.settimeout(60)
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    got = b"".join(iter(lambda: connection.recv(1 << 20), b""))
assert got == bytes(8 << 20), len(got)
