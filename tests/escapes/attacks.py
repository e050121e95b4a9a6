"""What a hostile program tries inside a container: this file's text is the program, for the distribution's own Python.

Each attack returns what it gained, or raises OSError. Outcomes go to standard output, a line each: `NAME escaped: WHAT` or
`NAME held: WHY`. They run one after another, each in a child of its own. None harms the host where it succeeds: what is written is
what was read there.
"""

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import stat
import struct
import subprocess
import time
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
TARGETS = json.loads(os.environ.get("TARGETS", "{}"))
NUMBERS = {
    "x86_64": {
        "clone": 56, "ptrace": 101, "keyctl": 250, "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304,
        "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "clone": 220, "ptrace": 117, "keyctl": 219, "perf_event_open": 241, "name_to_handle_at": 264, "open_by_handle_at": 265,
        "bpf": 280, "userfaultfd": 282,
    },
}[platform.machine()]  # fmt: skip
NUMBERS.update(io_uring_setup=425, clone3=435)
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


def check(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def call(name, *arguments):
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return check(libc.syscall(NUMBERS[name], *words), name)


def rewrite(path):
    """What is there, written again."""
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text)
    return f"wrote {path}"


def root_inside():
    """No attack: what it may do, which the others could use."""
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith("CapEff:")]
    return f"user {os.getuid()} with {line.split()[1]}"


# ---- mounts and namespaces


def mount():
    check(libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None), "mount")
    return "mounted"


def release_agent():
    """The classic way out of a privileged container: a program of the host's, run when a control group becomes empty."""
    try:
        check(libc.mount(b"cgroup", b"/mnt", b"cgroup", 0, b"none,name=systemd"), "mount cgroup")
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise
        check(libc.mount(b"cgroup2", b"/mnt", b"cgroup2", 0, None), "mount cgroup2")
        return rewrite("/mnt/cgroup.subtree_control")
    return rewrite("/mnt/release_agent")


def unshare_user():
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare")
    return capabilities()


def clone_user():
    child = call("clone", CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0 if "0000000000000000" not in capabilities() else 1)
    if os.waitpid(child, 0)[1]:
        raise OSError(errno.EPERM, "no capabilities")
    return "a child with every capability"


def clone3_user():
    arguments = struct.pack("=11Q", CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)
    child = call("clone3", arguments, len(arguments))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "a child"


def capabilities():
    with open("/proc/self/status") as file:
        found = next(line.split()[1] for line in file if line.startswith("CapEff"))
    if not int(found, 16):
        raise OSError(errno.EPERM, "no capabilities")
    return f"capabilities {found}"


def chroot():
    Path("/tmp/below").mkdir()
    os.chroot("/tmp/below")
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    with open(TARGETS["outside"]) as file:
        return file.read()


def handle():
    """A file by its number, past the directory that is mounted: `shocker`."""
    directory = os.open("/srv", os.O_RDONLY)
    fd = call("open_by_handle_at", directory, bytes.fromhex(TARGETS["handle"]), os.O_RDONLY)
    return os.read(fd, 100).decode()


# ---- devices, /proc, /sys


def disk():
    path = "/tmp/disk"
    os.mknod(path, 0o600 | stat.S_IFBLK, TARGETS["disk"])
    with open(path, "rb") as file:
        return f"{len(file.read(512))} bytes"


def core_pattern():
    return rewrite("/proc/sys/kernel/core_pattern")


def sysrq():
    """Help is the one command that does nothing but print."""
    if stat.S_ISCHR(Path("/proc/sysrq-trigger").stat().st_mode):
        raise OSError(errno.EPERM, "masked")
    with open("/proc/sysrq-trigger", "w") as file:
        file.write("h")
    return "helped"


def keys():
    with open("/proc/keys") as file:
        if not (text := file.read()):
            raise OSError(errno.ENODATA, "empty")
    return f"{len(text.splitlines())} keys"


def kcore():
    with open("/proc/kcore", "rb") as file:
        if not (text := file.read(64)):
            raise OSError(errno.ENODATA, "empty")
    return f"{len(text)} bytes"


def timer_list():
    with open("/proc/timer_list") as file:
        if not (text := file.read(64)):
            raise OSError(errno.ENODATA, "empty")
    return text


def sys_write():
    return rewrite("/sys/kernel/mm/ksm/sleep_millisecs")


# ---- other processes


def processes():
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) != os.getpid()]


def neighbour():
    for pid in processes():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if TARGETS["neighbour"].encode() in file.read():
                    return pid
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise OSError(errno.ESRCH, "no neighbour to be seen")


def ptrace():
    pid = neighbour()
    call("ptrace", 0x4206, pid, 0, 0)  # PTRACE_SEIZE: it does not stop
    return f"traces {pid}"


def kill():
    pid = neighbour()
    os.kill(pid, 0)
    return f"may kill {pid}"


def environ():
    """The launcher's, and the neighbour's."""
    return secret_of([pid for pid in processes() if pid != 1])


def environ_of_init():
    """From the first moment on: PID 1 is a copy of the launcher until it becomes the init."""
    for _ in range(12):
        try:
            return secret_of([1])
        except OSError as error:
            why = error
        time.sleep(0.01)
    raise why


def secret_of(pids):
    why = OSError(errno.ESRCH, "nothing found")
    for pid in pids:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                words = file.read().split(b"\0")
        except OSError as error:
            why = error
            continue
        for word in words:
            if word.startswith(TARGETS["variable"].encode()):
                return word.decode()
    raise why


def shared_memory():
    number = check(libc.shmget(TARGETS["shared_memory"], 0, 0), "shmget")
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(number, None, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return ctypes.string_at(address).decode()


def keyring():
    """A key of whoever started the launcher."""
    found = call("keyctl", 10, -3, b"user", TARGETS["key"].encode(), 0)  # KEYCTL_SEARCH of the session's
    text = ctypes.create_string_buffer(64)
    call("keyctl", 11, found, text, 64)  # KEYCTL_READ
    return text.value.decode()


# ---- calls with much of the kernel behind them


def io_uring():
    call("io_uring_setup", 1, ctypes.create_string_buffer(256))
    return "a ring"


def bpf():
    call("bpf", 0, ctypes.create_string_buffer(struct.pack("=4I", 2, 4, 4, 1), 128), 128)  # an array map
    return "a map"


def userfaultfd():
    call("userfaultfd", 1)  # UFFD_USER_MODE_ONLY: what anybody may have
    return "a descriptor"


def perf():
    """Of all processes on one CPU."""
    attributes = struct.pack("=IIQQQQQ", 1, 128, 0, 0, 0, 0, 1)
    call("perf_event_open", ctypes.create_string_buffer(attributes, 128), -1, 0, -1, 0)
    return "events of the whole CPU"


# ---- users


def setuid():
    done = subprocess.run(["/srv/id", "-u"], capture_output=True, text=True, check=True)
    if done.stdout.strip() != "0":
        raise OSError(errno.EPERM, f"user {done.stdout.strip()}")
    return "root"


# ---- networks


def raw():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        return "a raw socket"


def arp():
    """Says that the host's address is ours."""
    frame = b"\xff" * 6 + b"\2\0\0\0\0\1" + b"\x08\x06" + bytes(28)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packets:
        packets.bind(("lo", 0))
        return f"sent {packets.send(frame)} bytes"


def abstract():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{TARGETS['abstract']}")
        return "connected"


def agent_socket():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(TARGETS["agent_socket"])
        return "connected"


def loopback():
    return dial("127.0.0.1", TARGETS["loopback"])


def etcd():
    return dial(*TARGETS["etcd"])


def dial(address, port):
    socket.create_connection((address, port), timeout=2).close()
    return "connected"


# ---- using up: more than a container is to get, and no more than a test may


def fork_bomb():
    children = []
    try:
        while len(children) < TARGETS["processes"]:
            if (child := os.fork()) == 0:
                signal.pause()
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return f"{len(children)} processes"


def memory_bomb():
    held = []
    for _ in range(TARGETS["megabytes"]):
        held.append(b"x" * (1 << 20))
    return f"{len(held)} MB"


def disk_filler():
    written = 0
    with open("/tmp/full", "wb", buffering=0) as file:
        while written < TARGETS["megabytes"] << 20:
            written += file.write(bytes(1 << 20))
    return f"{written >> 20} MB"


def inode_filler():
    for number in range(TARGETS["files"]):
        os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))
    return f"{number + 1} files"


def descriptors():
    opened = []
    while len(opened) < TARGETS["descriptors"]:
        opened.append(os.dup(0))
    return f"{len(opened)} descriptors"


def attempt(name):
    signal.alarm(20)
    try:
        outcome = f"escaped: {globals()[name]()}"
    except OSError as error:
        outcome = f"held: {error.strerror or error}"
    print(name, outcome, flush=True)


def main(names):
    for name in names:
        child = os.fork()
        if child == 0:
            try:
                attempt(name)
            finally:
                os._exit(0)
        if status := os.waitpid(child, 0)[1]:
            print(name, f"died: {status}", flush=True)
    print("end", flush=True)
