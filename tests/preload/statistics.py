# SPDX-License-Identifier: MIT OR Apache-2.0
"""SNAPSEND_STATS: totals are right whatever the processes do, and nothing of it harms the host.

usage: SNAPSEND_PRELOAD=LIBRARY statistics.py FOLDER CASE; statistics.py cases
FOLDER is an empty one on the file system to be tried. Exit 0 passed, 77 skipped.
"""
import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
folder = sys.argv[1] if len(sys.argv) > 2 else "."
path = folder + "/stats"

# A host: `call(n)` sends n times 100 bytes.
HOST = r"""
import os, socket, sys, time
f = os.open(sys.executable, os.O_RDONLY)
a, b = socket.socketpair()
def call(n=1):
    for i in range(n):
        assert os.sendfile(a.fileno(), f, 0, 100) == 100
        assert len(b.recv(200)) == 100
"""


class Skip(Exception):
    pass


def environment(stats, **more):
    return {**os.environ, "LD_PRELOAD": os.environ["SNAPSEND_PRELOAD"], "SNAPSEND_STATS": stats, **more}


def start(script, *arguments, stats=None, env=None, **more):
    env = environment(stats or path, **(env or {}))
    return subprocess.Popen([sys.executable, "-S", "-c", HOST + script, *arguments], env=env, **more)


def run(script, *arguments, status=0, **more):
    host = start(script, *arguments, **more)
    got = host.wait(timeout=30)
    assert got == status, f"status {got}, not {status}"


def lines(file=None):
    """Of those that are not empty, what each says."""
    with open(file or path, "rb") as f:
        text = f.read().replace(b"\0", b"").decode()
    return [dict(word.split("=", 1) for word in line.split()[1:]) for line in text.splitlines()]


def total(name="socket_calls", program="python"):
    return sum(int(line[name]) for line in lines() if line["program"].startswith(program))


def expect(got, wanted):
    assert got == wanted, f"{got}, not {wanted}"


def together():
    """Processes and threads of one program that call at the same time."""
    run("""
import threading
for i in range(4):
    if os.fork() == 0:
        def work():
            x, y = socket.socketpair()
            for i in range(500):
                os.sendfile(x.fileno(), f, 0, 100)
                y.recv(200)
        threads = [threading.Thread(target=work) for i in range(3)]
        for t in threads: t.start()
        for t in threads: t.join()
        os._exit(0)
for i in range(4): assert os.wait()[1] == 0
""")
    expect((total(), total("socket_bytes")), (6000, 600000))


def executed():
    """Programs started one after another continue a line; those that run together have one each."""
    for i in range(6):
        run("call(3)")
    expect((total(), len(lines()), lines()[0]["runs"]), (18, 1, "6"))
    hosts = [start("call(3); sys.stdin.read()", stdin=subprocess.PIPE) for i in range(5)]
    deadline = time.monotonic() + 20
    while total() < 33 and time.monotonic() < deadline:
        time.sleep(0.05)
    expect((total(), len(lines())), (33, 5))
    for host in hosts:
        host.communicate()
    run("call(3)")
    expect((total(), len(lines())), (36, 5))


def overlay():
    """Where the kernel does not tell which lines are in use, each program has a new one."""
    top = folder + "/top"
    os.mkdir(top)
    if os.getuid() != 0 or libc.mount(b"none", top.encode(), b"tmpfs", 0, b"") != 0:
        raise Skip("no tmpfs can be mounted")
    try:
        for name in "lower", "upper", "work", "merged":
            os.mkdir(top + "/" + name)
        options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
        merged = top + "/merged"
        if libc.mount(b"none", merged.encode(), b"overlay", 0, options.encode()) != 0:
            raise Skip("no overlayfs can be mounted")
        try:
            # The first is still there when the second comes.
            run("""
call(2)
import subprocess
subprocess.run([sys.executable, "-S", "-c", sys.argv[1]], check=True)
call(2)
""", HOST + "call(5)", stats=merged + "/stats")
            expect([int(line["socket_calls"]) for line in lines(merged + "/stats")], [4, 5])
        finally:
            libc.umount(merged.encode())
    finally:
        libc.umount(top.encode())


def ends():
    """The line is right however a process ends."""
    for end in "os._exit(0)", "os.kill(os.getpid(), 9)", "os.abort()", "os.closerange(3, 900); os._exit(0)":
        host = start(f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); call(); {end}",
                     stderr=subprocess.DEVNULL)
        host.wait(timeout=30)
    expect(total(), 4)


def killed_while_writing():
    """A process that is killed in the middle of it does not stop the others."""
    run("""
called, says = os.pipe()
for i in range(100):
    child = os.fork()
    if child == 0:
        a, b = socket.socketpair()  # what it leaves in them is not the next one's
        call(10)
        os.write(says, b"x")
        while True: call(100)
    os.read(called, 1)
    time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
time.sleep(0.15)
call()
time.sleep(0.15)
print(int(open(os.environ["SNAPSEND_STATS"], "rb").read().split(b"socket_calls=")[1].split()[0]))
""", stdout=subprocess.DEVNULL)
    before = total()
    assert before > 1000
    run("call(7)")
    expect(total(), before + 7)


def name():
    """That of the file executed, whatever argv says."""
    subprocess.run(["/made/up"], executable="/bin/true", env=environment(path), check=True)
    expect([line["program"] for line in lines()], ["true"])


def file_size_limit():
    """The limit's signal would end the program while it loads."""
    for limit in 0, 1, 511, 700 << 10:
        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        run("call()", preexec_fn=limited)
    expect(total(), 1)


def address_space_limit():
    """Two more pages are all that is wanted, and nothing depends on them."""
    def status(limit, stats, what="v"):
        command = f"ulimit -{what} {limit}; exec /bin/true"
        return subprocess.run(["/bin/sh", "-c", command], env=environment(stats), stderr=subprocess.DEVNULL).returncode
    for limit in range(2000, 8000, 250):
        if status(limit, "") == 0:
            expect(status(limit + 64, path), 0)
    for limit in range(0, 1000, 50):
        expect(status(limit, path, "d"), status(limit, "", "d"))


def truncated():
    """Whoever has it mapped is not ended by SIGBUS."""
    host = start("""
call(); print("once", flush=True); sys.stdin.readline()
call(); print("twice", flush=True); sys.stdin.readline()
call()
""", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    host.stdout.readline()
    os.truncate(path, 0)
    host.stdin.write("\n"), host.stdin.flush()
    expect(host.stdout.readline(), "twice\n")
    run("call()")  # makes it longer again
    host.stdin.write("\n"), host.stdin.flush()
    expect(host.wait(timeout=20), 0)
    expect(total(), 4)


def truncated_all_the_time():
    host = start("""
end = time.monotonic() + 1.5
while time.monotonic() < end: call(100)
""")
    while host.poll() is None:
        try:
            os.truncate(path, 0)
            os.truncate(path, 4096)
        except FileNotFoundError:
            pass
    expect(host.returncode, 0)


def removed():
    run("call(); os.unlink(os.environ['SNAPSEND_STATS']); call()")
    assert not os.path.exists(path)


@contextlib.contextmanager
def disk(options):
    """A tmpfs mounted for a while, by its path."""
    if os.getuid() != 0:
        raise Skip("not root")
    mounted = folder + "/disk"
    os.mkdir(mounted)
    if libc.mount(b"none", mounted.encode(), b"tmpfs", 0, options) != 0:
        raise Skip("no tmpfs can be mounted")
    try:
        yield mounted
    finally:
        libc.umount(mounted.encode())


def full():
    """A disk without room, and one that is filled later."""
    with disk(b"size=16k") as mounted:
        with open(mounted + "/filler", "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(4096))
            except OSError:
                pass
        run("call()", stats=mounted + "/stats")
        os.unlink(mounted + "/filler")
        run("call()", stats=mounted + "/stats")
        expect(lines(mounted + "/stats")[0]["socket_calls"], "1")


def no_file():
    """What is no regular file of a known file system is not opened."""
    other = folder + "/other"
    os.mkfifo(folder + "/fifo")
    os.mkdir(folder + "/folder")
    open(other, "w").close()
    os.symlink(other, folder + "/link")
    for stats in ("/fifo", "/folder", "/link", "/none/at/all"):
        run("call()", stats=folder + stats)
    for stats in ("/dev/null", "/dev/tty", "/proc/self/comm", "/proc/none", "/sys/kernel/mm/none", "x" * 5000):
        run("call()", stats=stats)
    expect(os.path.getsize(other), 0)


def foreign():
    """Somebody's file is left alone."""
    for text in (b"precious", b"precious" * 1000, b"\n" * 512):
        with open(path, "wb") as f:
            f.write(text)
        run("call()")
        with open(path, "rb") as f:
            assert f.read() == text, text[:8]


def read_only():
    with disk(b"") as mounted:
        open(mounted + "/stats", "w").close()
        read_only_again = 32 | 1
        expect(libc.mount(b"none", mounted.encode(), b"tmpfs", read_only_again, b""), 0)
        run("call()", stats=mounted + "/stats")
        run("call()", stats=mounted + "/new")
        expect(os.listdir(mounted), ["stats"])


def leased():
    """Nobody waits for the holder of a lease, 45 seconds by default."""
    with open(path, "w") as f:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        begin = time.monotonic()
        run("call()")
        assert time.monotonic() - begin < 10


def locked():
    """Nor for the holder of a lock."""
    open(path, "w").close()
    with open(path, "r+") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        run("call()")
    run("call()")
    expect(total(), 1)


def filtered():
    """A filter that refuses the call costs the line; one that kills wants SNAPSEND_PROBES=none."""
    number = {"x86_64": 311, "aarch64": 271}.get(os.uname().machine)
    if number is None:
        raise Skip("the number of process_vm_writev is not known here")

    def filter_with(action):
        def install():
            program = b"".join(struct.pack("HBBI", *one) for one in (
                (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, action), (0x06, 0, 0, 0x7FFF0000)))
            buffer = ctypes.create_string_buffer(program)
            head = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
            if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, head, 0, 0) != 0:
                os._exit(77)
        return install

    run("call()", preexec_fn=filter_with(0x00050000 | 1))
    run("call()", preexec_fn=filter_with(0x80000000), env={"SNAPSEND_PROBES": "none"})
    run("call()", preexec_fn=filter_with(0x80000000), stats="-", stderr=subprocess.DEVNULL)


def at_exit():
    """A line for each process on standard error, if that is still what it was."""
    host = start("call(2)\nif os.fork() == 0:\n call()\nelse: os.wait()", stats="-", stderr=subprocess.PIPE, text=True)
    text = host.communicate()[1]
    expect([line.split("socket_calls=")[1].split()[0] for line in text.splitlines()], ["1", "2"])
    # Not into what the host opened in its place.
    run("os.close(2); assert os.open(sys.argv[1], os.O_RDWR | os.O_CREAT) == 2; call()", path, stats="-")
    expect(os.path.getsize(path), 0)
    # Nobody reads; nobody can.
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, bytes(4096))
    except BlockingIOError:
        os.set_blocking(write, True)
    run("call()", stats="-", stderr=write)
    os.close(read)
    run("call()", stats="-", stderr=write)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with open(path, "r+") as f:
        run("call()", stats="-", stderr=f, preexec_fn=limited)


CASES = [together, executed, overlay, ends, killed_while_writing, name, file_size_limit,
         address_space_limit, truncated, truncated_all_the_time, removed, full, no_file, foreign, read_only,
         leased, locked, filtered, at_exit]

if sys.argv[1:] == ["cases"]:
    print(*(case.__name__ for case in CASES))
else:
    try:
        globals()[sys.argv[2]]()
    except Skip as reason:
        print("SKIP:", reason)
        sys.exit(77)
