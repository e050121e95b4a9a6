"""What the kernel and the packages of this host offer. Each check tries the thing itself and leaves nothing behind."""

import ctypes
import ipaddress
import os
import platform
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from containerlib import kernel, plan
from containerlib.cgroups import tree
from containerlib.checkpoint import criu
from dispatcher.compute.findings import Finding, degraded, missing, ok

PROC, SYS = Path("/proc"), Path("/sys")
_NETLINK_SOCK_DIAG = 4
_TIME_ERROR = 5  # of adjtimex: the clock is not synchronised
_SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "pit")
_UPGRADE = "boot a newer kernel"


def root() -> Finding:
    if os.geteuid() == 0:
        return ok("root", "yes")
    return missing(
        "root", f"user id {os.geteuid()}", "sudo fastcontainer doctor; agent and launcher need root, proxies do not"
    )


def python() -> Finding:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info >= (3, 12) and sys.implementation.name == "cpython":
        return ok("python", found)
    return missing("python", found, "install CPython 3.12 or newer")


def cgroups() -> Finding:
    """Makes a group of its own beside the agent's and removes it: mounted read-only and not delegated look alike otherwise."""
    version = 2 if (tree.MOUNT / "cgroup.controllers").exists() else 1
    wanted = tree.CONTROLLERS_V2 if version == 2 else tree.CONTROLLERS_V1
    try:
        absent = [each for each in wanted if each not in _controllers(version)]
    except OSError as error:
        return missing("cgroup", str(error), f"mount cgroups under {tree.MOUNT}")
    if absent:
        remedy = "boot with cgroup_enable=memory, or let systemd delegate them (Delegate=yes)"
        return missing("cgroup", f"v{version} without {', '.join(absent)}", remedy)
    for controller in wanted if version == 1 else ("",):
        directory = _own_group(controller) / f"fastcontainer-doctor-{os.getpid()}"
        try:
            directory.mkdir()
            directory.rmdir()
        except OSError as error:
            return missing("cgroup", f"v{version}, but {error}", "run as root, with /sys/fs/cgroup writable")
    return ok("cgroup", f"v{version} with {', '.join(wanted)}, writable")


def _controllers(version: int) -> list[str]:
    if version == 2:
        return (tree.MOUNT / "cgroup.controllers").read_text().split()
    lines = (PROC / "self/cgroup").read_text().splitlines()
    return [name for line in lines for name in line.split(":")[1].split(",") if (tree.MOUNT / name).is_dir()]


def _own_group(controller: str) -> Path:
    if not controller:
        return tree.MOUNT
    for line in (PROC / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return tree.MOUNT / controller / path.strip("/")
    return tree.MOUNT / controller


def namespaces() -> Finding:
    flags = os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWNET | os.CLONE_NEWIPC | os.CLONE_NEWUTS
    failure = _in_child(lambda: os.unshare(flags))
    if not failure:
        return ok("namespaces", "mount, pid, net, ipc, uts")
    return missing(
        "namespaces",
        failure,
        "run as root, on a kernel with CONFIG_NAMESPACES, outside of a container that forbids them",
    )


def user_namespaces() -> Finding:
    failure = _in_child(lambda: os.unshare(os.CLONE_NEWUSER))
    if not failure:
        return ok("user namespaces", "yes")
    return degraded(
        "user namespaces", failure, "sysctl user.max_user_namespaces=100000; without them apps keep to plain user ids"
    )


def system_call_filter() -> Finding:
    failure = _in_child(_try_filter)
    if not failure:
        return ok("seccomp", "yes")
    return missing("seccomp", failure, "a kernel with CONFIG_SECCOMP_FILTER, outside of a container that forbids it")


def _try_filter() -> None:
    from containerlib import seccomp

    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.set_seccomp_filter(seccomp.compile_filter())


def overlayfs() -> Finding:
    if "overlay" in _filesystems():
        return ok("overlayfs", "yes")
    return degraded("overlayfs", "not in /proc/filesystems", "modprobe overlay; only images with layers need it")


def mount_calls() -> Finding:
    """open_tree, mount_setattr and move_mount: content arrives in a container as descriptors of mounts."""
    failure = _in_child(_try_mounts)
    if not failure:
        return ok("mounts by descriptor", "open_tree, mount_setattr, move_mount")
    return missing("mounts by descriptor", failure, "Linux 5.12 or newer, as root")


def _try_mounts() -> None:
    os.unshare(os.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_PRIVATE | kernel.MS_REC)
    fd = kernel.open_tree("/usr", kernel.OPEN_TREE_CLONE | kernel.OPEN_TREE_CLOEXEC)
    kernel.mount_setattr(fd, kernel.MOUNT_ATTR_RDONLY, recursive=False)
    kernel.move_mount(fd, "/mnt")


def listen_events() -> Finding:
    what, event = "event at listen()", "events/sock/inet_sock_set_state"
    tracing = SYS / "kernel/tracing"
    remedy = "without CONFIG_FTRACE readiness is polled for, and noticed later"
    if (tracing / event).is_dir() and os.access(tracing / "instances", os.W_OK):
        return ok(what, "sock:inet_sock_set_state")
    if "tracefs" not in _filesystems():
        return degraded(what, "no tracefs in this kernel", remedy)
    failure = _in_child(lambda: _try_tracefs(event))
    return (
        degraded(what, failure, remedy) if failure else ok(what, "sock:inet_sock_set_state; the agent mounts tracefs")
    )


def _try_tracefs(event: str) -> None:
    os.unshare(os.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_PRIVATE | kernel.MS_REC)
    kernel.mount("tracefs", "/mnt", "tracefs", 0)
    if not Path("/mnt", event).is_dir():
        raise FileNotFoundError(f"tracefs has no {event}")


def _filesystems() -> list[str]:
    return [line.split()[-1] for line in (PROC / "filesystems").read_text().splitlines()]


def sock_diag() -> Finding:
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG).close()
    except OSError as error:
        return missing("sock_diag", str(error), "modprobe inet_diag tcp_diag")
    return ok("sock_diag", "yes")


def veth() -> Finding:
    failure = _in_child(_try_veth)
    if not failure:
        return ok("veth", "yes")
    return missing("veth", failure, "modprobe veth, as root")


def _try_veth() -> None:
    from pyroute2 import IPRoute

    os.unshare(os.CLONE_NEWNET)
    with IPRoute() as links:
        links.link("add", ifname="doctor0", kind="veth", peer="doctor1")


def network_policy() -> Finding:
    failure = _in_child(_try_firewall)
    if not failure:
        return ok("nftables", "yes")
    return missing(
        "nftables", failure, "apt install nftables; a kernel with CONFIG_NF_TABLES_INET and CONFIG_NFT_FIB_INET"
    )


def _try_firewall() -> None:
    from containerlib import firewall

    os.unshare(os.CLONE_NEWNET)
    network = ipaddress.IPv4Network("100.64.0.0/24")
    firewall.run_nft(firewall.ruleset(network, ["192.0.2.1"], forwards=True))


def init() -> Finding:
    if os.access(plan.INIT, os.X_OK):
        return ok("init", plan.INIT)
    return missing("init", f"no {plan.INIT}", "apt install catatonit")


def restoring() -> Finding:
    what = "restore (CRIU)"
    try:
        found = criu.find()
    except criu.Unavailable as error:
        return degraded(what, "no", str(error))
    if failure := criu.check(found):
        return degraded(
            what, f"{found.version}: {failure}", "no container can be restored on this kernel; all else works"
        )
    return ok(what, found.version)


def forwarding() -> Finding:
    if (PROC / "sys/net/ipv4/ip_forward").read_text().strip() == "1":
        return ok("ip_forward", "on")
    return degraded("ip_forward", "off", "sysctl net.ipv4.ip_forward=1; without it containers reach no other host")


def pressure() -> Finding:
    try:
        (PROC / "pressure/cpu").read_text()
    except OSError as error:
        return degraded(
            "pressure (PSI)", str(error.strerror), "boot with psi=1; without it only throttling is measured"
        )
    return ok("pressure (PSI)", "yes")


def pidfd() -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return missing("pidfd", str(error), _UPGRADE)
    return ok("pidfd", "yes")


def clock() -> Finding:
    source = SYS / "devices/system/clocksource/clocksource0/current_clocksource"
    name = source.read_text().strip() if source.exists() else "unknown"
    if name in _SLOW_CLOCKS:
        return degraded(
            "clock", f"reads {name}", "each reading is slow: look for `clocksource=` in the kernel's command line"
        )
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == _TIME_ERROR:
        return degraded(
            "clock", f"{name}, not synchronised", "apt install chrony; lifespans of several Computes are compared"
        )
    return ok("clock", name)


def _in_child(attempt: Callable[[], None]) -> str:
    """What went wrong in a process of its own, "" if nothing did."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except BaseException as error:  # noqa: BLE001 - the border of a process: told to the parent
            os.write(writing, str(error).encode()[:500] or b"failed")
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        failure = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    return failure


CHECKS: tuple[Callable[[], Finding], ...] = (
    root, python, cgroups, namespaces, user_namespaces, system_call_filter, mount_calls, overlayfs, veth, sock_diag,
    network_policy, listen_events, pidfd, init, restoring, forwarding, pressure, clock,
)  # fmt: skip
