#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""late_reader.py ADDRESS: prints its port, takes one connection, reads nothing for a second, then to the end; prints the length."""
import socket
import sys
import time

with socket.socket() as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    listener.bind((sys.argv[1], 0))
    listener.listen()
    listener.settimeout(60)
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    time.sleep(1)
    print(sum(map(len, iter(lambda: connection.recv(1 << 20), b""))))
