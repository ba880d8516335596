#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Clients for tests/run-nginx and bench.sh: what they get is compared byte for byte.

Each command prints nothing and ends with status 0 if all is well; otherwise it says what is wrong. SERVER is the server's
address (127.0.0.1).
"""
import asyncio
import os
import random
import re
import socket
import struct
import sys
import threading
import time


SERVER = os.environ.get("SERVER", "127.0.0.1")


class Failure(Exception):
    """Something is not as it should be."""


def connect(port, receive_buffer=None):
    """A connection; a short receive buffer makes a slow client."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(30)
    sock.connect((SERVER, port))
    return sock


def request(path, headers=(), version="1.1", method="GET"):
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def read_all(sock):
    data = bytearray()
    while True:
        try:
            part = sock.recv(1 << 20)
        except ConnectionResetError:
            return bytes(data)
        if not part:
            return bytes(data)
        data += part


def fetch(port, *args, **kwargs):
    """Everything that comes until the server closes."""
    with connect(port) as sock:
        sock.sendall(request(*args, **kwargs))
        return read_all(sock)


def normal(response):
    """Without what differs from run to run."""
    response = re.sub(rb"\r\nDate: [^\r]*", b"", response)
    boundaries = set(re.findall(rb"boundary=(\d{20})", response))
    for boundary in boundaries:
        response = response.replace(boundary, b"0" * 20)
    return response


def requests(size):
    """(name, bytes to send) for everything that nginx can do with a file of that size."""
    close = "Connection: close"
    for path in (
        "/small", "/file", "/empty", "/limited/file", "/flv/film.flv?start=5000", "/flv/film.flv", "/mp4/film.mp4",
        "/mp4/film.mp4?start=2", "/mp4/film.mp4?start=1&end=6", "/sliced/file", "/cached/file", "/cached/file",
        "/threadcached/file", "/threadcached/file", "/buffered/file", "/ssi/page.html", "/around/file", "/gzip/page.txt", "/sub/page.txt",
        "/directio/file", "/threads/file", "/pieces/file", "/nopush/file", "/lingering/file", "/alone/file", "/off/file", "/mixed/file", "/missing",
    ):
        yield path, request(path, [close])
    for path in ("/small", "/file", "/cached/file", "/sliced/file", "/threads/file", "/directio/file"):
        for some in (
            "0-0", "1-", "-1", f"-{size * 2}", f"100-{size // 2}", f"{size}-", "4095-4097,8192-70000,5-5",
            f"0-99999,150000-{size - 3},-7",
        ):
            yield f"{path} {some}", request(path, [close, f"Range: bytes={some}"])
    yield "1.0", request("/file", version="1.0")
    yield "1.0 keep-alive", request("/file", ["Connection: keep-alive"], "1.0") + request("/small", version="1.0")
    yield "0.9", b"GET /file\r\n"
    yield "head", request("/file", [close], method="HEAD")
    yield "pipelined", b"".join(
        request(path, ["Range: bytes=10-60000"] if path == "/threads/file" else [])
        for path in ("/small", "/file", "/threads/file", "/off/file", "/file", "/empty")
    ) + request("/small", [close])


def one_response(port, data):
    with connect(port) as sock:
        sock.sendall(data)
        return normal(read_all(sock))


def compare(stock, ours, size, without=None):
    """The same requests to both, one after the other, and what comes compared.

    without: a regular expression for requests that are left out."""
    for name, data in requests(int(size)):
        if without and re.match(without, name):
            continue
        try:
            wanted, got = one_response(int(stock), data), one_response(int(ours), data)
        except OSError as error:
            raise Failure(f"{name}: {error}") from error
        if got != wanted:
            at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
            raise Failure(f"{name}: {len(got)} bytes, not {len(wanted)}; different from byte {at}: {got[at:at + 60]!r}")


# ---- HTTP/2, as little of it as is needed ---------------------------------------------------------------

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8


class Http2:
    """A connection without TLS, by prior knowledge."""

    def __init__(self, port, window=1 << 30, receive_buffer=None):
        self.sock = connect(port, receive_buffer)
        self.buffer = b""
        self.last = -1
        settings = struct.pack(">HI", 4, window)
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(SETTINGS, 0, 0, settings)
                          + self.frame(WINDOW, 0, 0, struct.pack(">I", (1 << 30) - 1)))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def get(self, path):
        self.last += 2
        name = path.encode()
        # :method GET, :scheme http, :authority and :path as literals.
        block = b"\x82\x86\x01\x04test\x04" + bytes([len(name)]) + name
        self.sock.sendall(self.frame(HEADERS, 5, self.last, block))
        return self.last

    def reset(self, stream):
        self.sock.sendall(self.frame(RST, 0, stream, struct.pack(">I", 8)))

    def read(self, count):
        while len(self.buffer) < count:
            part = self.sock.recv(1 << 20)
            if not part:
                raise Failure("the connection was closed")
            self.buffer += part
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def next(self):
        """(kind, flags, stream, payload); settings and pings are answered."""
        while True:
            head = self.read(9)
            length = int.from_bytes(head[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            payload = self.read(length)
            if kind == SETTINGS and not flags & 1:
                self.sock.sendall(self.frame(SETTINGS, 1, 0, b""))
            elif kind == GOAWAY:
                raise Failure(f"goaway {payload!r}")
            else:
                return kind, flags, stream, payload


def http2(port, path, name, streams):
    """Many streams of one connection; every third one is reset on the way, by a client that is slow at times."""
    with open(path, "rb") as file:
        wanted = file.read()
    connection = Http2(int(port))
    bodies = {connection.get(name): bytearray() for _ in range(int(streams))}
    dropped = {stream for stream in bodies if stream % 3 == 0}
    left = set(bodies) - dropped
    while left:
        kind, flags, stream, payload = connection.next()
        if kind == DATA:
            bodies[stream] += payload
            if stream in dropped and len(bodies[stream]) > len(wanted) // 3:
                connection.reset(stream)
                dropped.discard(stream)
                time.sleep(0.02)
            if flags & 1 and stream in left:
                if bodies[stream] != wanted:
                    raise Failure(f"stream {stream}: {len(bodies[stream])} bytes, or different ones")
                left.discard(stream)
        elif kind == RST and stream in left:
            raise Failure(f"stream {stream} was reset by the server")
    connection.sock.close()


def http2_stall(port, name, seconds):
    """Takes nothing. The server is to give up within the time."""
    connection = Http2(int(port), receive_buffer=4096)
    connection.get(name)
    expect_close(connection.sock, float(seconds))


# ---- slow clients -----------------------------------------------------------------------------------------

def wait_for(check, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return
        time.sleep(0.02)
    raise Failure("waited in vain")


def lines_of(log):
    with open(log, encoding="latin-1") as file:
        return file.readlines()


def body_of(response):
    return response.partition(b"\r\n\r\n")[2]


def read_slowly(sock, rate, data):
    """Everything that comes until the server closes, so many bytes in a second."""
    start = time.monotonic()
    while part := sock.recv(65536):
        data += part
        time.sleep(max(0, start + len(data) / rate - time.monotonic()))


def overwrite(port, name, path, log, rate=None):
    """Changes the file as soon as the request has been logged; prints how many bytes arrive changed.

    Until then the client takes nothing, or so many bytes in a second."""
    size = os.path.getsize(path)
    with open(path, "wb") as file:
        file.write(b"a" * size)
    before = len(lines_of(log))
    data = bytearray()
    with connect(int(port), 4096) as sock:
        sock.sendall(request(name, ["Connection: close"]))
        reader = threading.Thread(target=read_slowly, args=(sock, float(rate or "inf"), data))
        if rate:
            reader.start()
        wait_for(lambda: len(lines_of(log)) > before)
        with open(path, "r+b") as file:
            file.write(b"b" * size)
        if not rate:
            reader.start()
        reader.join()
    body = body_of(bytes(data))
    if len(body) != size:
        raise Failure(f"{len(body)} of {size} bytes")
    print(body.count(b"b"))


def truncate(port, name, path):
    """Cuts the file while it is sent; prints how many bytes came, with the header, and of the body."""
    with connect(int(port), 4096) as sock:
        sock.sendall(request(name, ["Connection: close"]))
        time.sleep(0.3)
        os.truncate(path, 100)
        response = read_all(sock)
    print(len(response), len(body_of(response)))


def expect_close(sock, seconds):
    """Without taking anything: the kernel tells when the server has closed or reset."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state != 1:
            return
        time.sleep(0.05)
    raise Failure(f"still connected after {seconds} s")


def stall(port, name, seconds):
    """Takes nothing. The server is to give up within the time; prints after how long it did."""
    start = time.monotonic()
    with connect(int(port), 4096) as sock:
        sock.sendall(request(name))
        expect_close(sock, float(seconds))
    print(f"{time.monotonic() - start:.1f}")


def slow(port, name, path, rate):
    """Takes so many bytes in a second, and wants all of them."""
    with open(path, "rb") as file:
        wanted = file.read()
    body = bytearray()
    with connect(int(port), 65536) as sock:
        sock.sendall(request(name, ["Connection: close"]))
        read_slowly(sock, float(rate), body)
    if body_of(bytes(body)) != wanted:
        raise Failure(f"{len(body)} bytes with the header, of {len(wanted)}")


def abort(port, name, count):
    """Clients that go away: with what they have not read, by a reset, or half closed; prints the bytes each had read."""
    for number in range(int(count)):
        sock = connect(int(port), 4096)
        sock.sendall(request(name))
        wanted = random.randrange(1, 300000)
        got = 0
        while got < wanted:
            got += len(sock.recv(wanted - got))
        if number % 3 == 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif number % 3 == 1:
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
        sock.close()


def hold(port, name, count, seconds, gate=None):
    """So many clients that ask and take nothing. Says when all have asked; they stay for so long.

    gate: connected, they wait until that file exists."""
    socks = [connect(int(port), 4096) for _ in range(int(count))]
    print("connected", flush=True)
    if gate:
        wait_for(lambda: os.path.exists(gate))
    for sock in socks:
        sock.sendall(request(name))
    print("asked", flush=True)
    time.sleep(float(seconds))


# ---- many clients -----------------------------------------------------------------------------------------

async def read_response(reader):
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    length = int(re.search(rb"Content-Length: (\d+)", head).group(1))
    return head, await asyncio.wait_for(reader.readexactly(length), 20)


async def ranges_client(port, name, wanted, end, counts):
    while time.monotonic() < end:
        reader, writer = await asyncio.open_connection(SERVER, port)
        try:
            for _ in range(10):
                if time.monotonic() >= end:
                    break
                first = random.randrange(len(wanted))
                last = min(len(wanted) - 1, first + random.randrange(1, 100000))
                writer.write(request(name, [f"Range: bytes={first}-{last}"]))
                head, body = await read_response(reader)
                if body != wanted[first:last + 1]:
                    raise Failure(f"{first}-{last}: different bytes")
                counts[0] += 1
                if b"Connection: close" in head:
                    break
                await asyncio.sleep(random.random())
        except (asyncio.IncompleteReadError, ConnectionResetError) as error:
            # A worker that shuts down closes idle connections; then nothing of an answer has come.
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                raise Failure(f"{first}-{last}: {len(error.partial)} bytes of an answer") from error
            counts[1] += 1
        except asyncio.TimeoutError:
            counts[2] += 1
        finally:
            writer.close()


async def many(port, name, wanted, clients, seconds):
    counts = [0, 0, 0]
    end = time.monotonic() + seconds
    await asyncio.gather(*(ranges_client(port, name, wanted, end, counts) for _ in range(clients)))
    return counts


def ranges(port, name, path, clients, seconds, lost=0):
    """Many clients that want ranges, on connections that are kept; prints how many answers came, idle closes, and how many
    requests had no answer.

    lost: as many may have none. Where a link loses segments, the only one that tells of a reset may be lost."""
    with open(path, "rb") as file:
        wanted = file.read()
    counts = asyncio.run(many(int(port), name, wanted, int(clients), float(seconds)))
    print(*counts)
    if counts[2] > int(lost):
        raise Failure(f"{counts[2]} requests without an answer")


# ---- files that are not in the page cache ------------------------------------------------------------------

def read_cold(port, name, path, end, counts, number):
    """Reads a file over and over, after its pages have been dropped; what comes is not copied."""
    buffer = bytearray(1 << 20)
    while time.monotonic() < end:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with connect(port) as sock:
            sock.sendall(request(name, ["Connection: close"]))
            while time.monotonic() < end and (count := sock.recv_into(buffer, 0, socket.MSG_TRUNC)):
                counts[number] += count


def cold(port, directory, count, seconds):
    """So many clients, each with a file of its own; prints MB/s."""
    counts = [0] * int(count)
    end = time.monotonic() + float(seconds)
    threads = [
        threading.Thread(target=read_cold, args=(int(port), f"/cold{i}", f"{directory}/cold{i}", end, counts, i))
        for i in range(int(count))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(round(sum(counts) / 1e6 / float(seconds)))


# ---- files --------------------------------------------------------------------------------------------------

def box(kind, *parts):
    payload = b"".join(parts)
    return struct.pack(">I", 8 + len(payload)) + kind + payload


def make_mp4(path):
    """A film of 10 samples, a second each, as far as nginx looks into it."""
    sizes = [20000 + 1000 * i for i in range(10)]

    def moov(offset):
        stbl = box(
            b"stbl",
            box(b"stsd", struct.pack(">II", 0, 1), box(b"xxxx", bytes(8))),
            box(b"stts", struct.pack(">IIII", 0, 1, 10, 1000)),
            box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
            box(b"stsz", struct.pack(">III", 0, 0, 10), struct.pack(">10I", *sizes)),
            box(b"stco", struct.pack(">II", 0, 10),
                struct.pack(">10I", *(offset + sum(sizes[:i]) for i in range(10)))),
        )
        minf = box(b"minf", box(b"vmhd", bytes(12)), box(b"dinf", bytes(8)), stbl)
        mdia = box(b"mdia", box(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, 1000, 10000, 0)), box(b"hdlr", bytes(24)), minf)
        tkhd = box(b"tkhd", struct.pack(">IIIIII", 0, 0, 0, 1, 0, 10000), bytes(60))
        mvhd = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 10000), bytes(80))
        return box(b"moov", mvhd, box(b"trak", tkhd, mdia))

    start = box(b"ftyp", b"isom", bytes(4))
    offset = len(start) + len(moov(0)) + 8
    with open(path, "wb") as file:
        file.write(start + moov(offset) + box(b"mdat", os.urandom(sum(sizes))))


COMMANDS = {
    function.__name__.replace("_", "-"): function
    for function in (compare, http2, http2_stall, overwrite, truncate, stall, slow, abort, hold, ranges, cold,
                     make_mp4)
}

if __name__ == "__main__":
    try:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
    except (Failure, OSError) as failure:
        sys.exit(f"{sys.argv[1]}: {failure}")
