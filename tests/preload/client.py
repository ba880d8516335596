# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the tests of real servers do as a client.

  fetch URL FILE [RANGE]   takes a URL, compares every byte with FILE
  promise URL FILE CUT     asks for a URL, reads nothing until the server has put all it can into the socket, then
                           overwrites FILE in place (CUT 1: truncates it first), then reads. Prints
                           "changed N of M": how many of the bytes that were in the socket by then differ from
                           what the file held.
  ftp PORT USER PASSWORD NAME FILE           takes a file by FTP, compares
  ftp-promise PORT USER PASSWORD NAME FILE CUT
  smb-promise PORT CONFIGURATION NAME FILE COPY CUT   the same with smbclient, stopped on the way
"""
import array
import fcntl
import ftplib
import os
import signal
import socket
import subprocess
import sys
import termios
import time
import urllib.parse
import urllib.request


def unread(s):
    number = array.array("i", [0])
    fcntl.ioctl(s.fileno(), termios.FIONREAD, number)
    return number[0]


def settle(s):
    """Waits until nothing more arrives: the server has done what it could."""
    last, quiet, end = -1, 0, time.monotonic() + 10
    while quiet < 6 and time.monotonic() < end:
        time.sleep(0.05)
        now = unread(s)
        quiet = quiet + 1 if now == last and now > 0 else 0
        last = now


def overwrite(path, size, cut, where=1000):
    with open(path, "r+b") as f:
        if cut:
            f.truncate(where)  # in the middle of a page, the rest of which becomes zeros
        f.seek(0)
        f.write(b"\xee" * size)


def connect(port):
    s = socket.socket()
    # A small window, told before the connection is made: the rest waits in the server's socket.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.settimeout(20)
    s.connect(("127.0.0.1", port))
    return s


def take_all(s):
    parts = []
    try:
        while True:
            part = s.recv(1 << 20)
            if not part:
                break
            parts.append(part)
    except OSError:
        pass
    return b"".join(parts)


def verdict(body, data, reported):
    """Compares what had been reported as sent; what is read from the file later may be anything."""
    upto = min(len(body), reported)
    changed = sum(1 for a, b in zip(body[:upto], data) if a != b)
    print(f"changed {changed} of {upto}")


def sent_by_server(port):
    """Bytes in flight or queued on the server's side of our connection, from /proc/net/tcp (tx_queue)."""
    total = 0
    with open("/proc/net/tcp") as table:
        for line in list(table)[1:]:
            fields = line.split()
            local, remote = fields[1].split(":"), fields[2].split(":")
            if int(local[1], 16) == port[0] and int(remote[1], 16) == port[1]:
                total += int(fields[4].split(":")[0], 16)
    return total


def in_socket(s):
    """All that the server has put into the connection and we have not read."""
    return unread(s) + sent_by_server((s.getpeername()[1], s.getsockname()[1]))


def fetch(url, path, byte_range=None):
    request = urllib.request.Request(url)
    data = open(path, "rb").read()
    if byte_range:
        request.add_header("Range", "bytes=" + byte_range)
        first, last = byte_range.split("-")
        data = data[int(first):int(last) + 1]
    body = urllib.request.urlopen(request, timeout=30).read()
    if body != data:
        sys.exit(f"{url}: {len(body)} bytes, not the {len(data)} of the file")
    print("same", len(body))


def promise(url, path, cut):
    parts = urllib.parse.urlsplit(url)
    data = open(path, "rb").read()
    s = connect(parts.port)
    s.sendall(f"GET {parts.path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    settle(s)
    held = in_socket(s)
    overwrite(path, len(data), cut)
    answer = take_all(s)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        sys.exit(f"answer: {head[:200]!r}")
    verdict(body, data, held - len(head) - 4)


def ftp_open(port, user, password):
    ftp = ftplib.FTP()
    ftp.connect("127.0.0.1", port, timeout=20)
    ftp.login(user, password)
    ftp.voidcmd("TYPE I")
    return ftp


def ftp_get(port, user, password, name, path):
    ftp = ftp_open(port, user, password)
    parts = []
    ftp.retrbinary("RETR " + name, parts.append)
    body, data = b"".join(parts), open(path, "rb").read()
    if body != data:
        sys.exit(f"{name}: {len(body)} bytes, not the {len(data)} of the file")
    print("same", len(body))
    ftp.quit()


def ftp_promise(port, user, password, name, path, cut):
    ftp = ftp_open(port, user, password)
    data = open(path, "rb").read()
    host, data_port = ftp.makepasv()
    s = connect(data_port)
    ftp.putcmd("RETR " + name)
    settle(s)
    held = in_socket(s)
    overwrite(path, len(data), cut)
    body = take_all(s)
    verdict(body, data, held)
    ftp.close()


def smb_queue(port):
    """Server's and client's side of the only connection to a port: (queued by the server, unread by the client)."""
    queued = waiting = 0
    with open("/proc/net/tcp") as table:
        for line in list(table)[1:]:
            fields = line.split()
            tx, rx = (int(n, 16) for n in fields[4].split(":"))
            if fields[3] == "01" and int(fields[1].split(":")[1], 16) == port:
                queued += tx
            if fields[3] == "01" and int(fields[2].split(":")[1], 16) == port:
                waiting += rx
    return queued + waiting


def smb_promise(port, configuration, name, path, copy, cut):
    data = open(path, "rb").read()
    best = None
    # Where exactly it is stopped is luck: again until something is on its way.
    for _ in range(8):
        if os.path.exists(copy):
            os.unlink(copy)
        client = subprocess.Popen(
            ["smbclient", "-N", "-s", configuration, "-p", str(port), "//127.0.0.1/files", "-c", f"get {name} {copy}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while time.monotonic() < end and client.poll() is None:
            if os.path.exists(copy) and os.path.getsize(copy) > len(data) // 50:
                break
        client.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        at, held = os.path.getsize(copy), smb_queue(port)
        # Headers, and what the client has in its own memory: fewer bytes of the file than held, from `at` on.
        reported = held - 4096
        if reported > 100000 and at + reported < len(data):
            overwrite(path, len(data), cut, at + reported // 2 | 1)
            best = (at, reported)
        client.send_signal(signal.SIGCONT)
        client.wait(60)
        if best:
            break
    if not best:
        sys.exit("never stopped with data on its way")
    at, reported = best
    verdict(open(copy, "rb").read()[at:], data[at:], reported)


def main():
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "fetch":
        fetch(*rest)
    elif what == "promise":
        promise(rest[0], rest[1], rest[2] == "1")
    elif what == "ftp":
        ftp_get(int(rest[0]), *rest[1:])
    elif what == "ftp-promise":
        ftp_promise(int(rest[0]), rest[1], rest[2], rest[3], rest[4], rest[5] == "1")
    elif what == "smb-promise":
        smb_promise(int(rest[0]), *rest[1:5], rest[5] == "1")


main()
