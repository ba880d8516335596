# SPDX-License-Identifier: MIT OR Apache-2.0
"""A file server that sends in one of Python's ways: os, socket, asyncio. Usage: pyserver.py WAY ROOT PORT-FILE"""
import asyncio
import os
import socket
import sys
import threading

way, root, port_file = sys.argv[1:]


def head(path):
    return f"HTTP/1.0 200 OK\r\nContent-Length: {os.path.getsize(path)}\r\n\r\n".encode()


def tell(port):
    with open(port_file + ".new", "w") as f:
        f.write(str(port))
    os.rename(port_file + ".new", port_file)


def serve(s):
    with s:
        request = b""
        while b"\r\n\r\n" not in request:
            part = s.recv(4096)
            if not part:
                return
            request += part
        path = root + request.split()[1].decode()
        s.sendall(head(path))
        with open(path, "rb") as f:
            if way == "socket":
                s.sendfile(f)
                return
            at = 0
            while n := os.sendfile(s.fileno(), f.fileno(), at, 1 << 20):
                at += n


async def serve_async(reader, writer):
    request = await reader.readuntil(b"\r\n\r\n")
    path = root + request.split()[1].decode()
    writer.write(head(path))
    with open(path, "rb") as f:
        await asyncio.get_running_loop().sendfile(writer.transport, f, fallback=False)
    writer.close()


async def main_async():
    server = await asyncio.start_server(serve_async, "127.0.0.1", 0)
    tell(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


if way == "asyncio":
    asyncio.run(main_async())
else:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tell(listener.getsockname()[1])
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
