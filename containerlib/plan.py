"""Spec -> ordered kernel operations. Pure: a plan prints, compares and tests without root.

A container is made in two steps. `blank_plan` is everything that does not depend on whose it will be, done before anybody
waits; `identity_plan` is the rest, and the shorter it is the faster a site wakes.
"""

import resource
from typing import NamedTuple

from containerlib.identity import Identity
from containerlib.idmap import APP_USER, outside
from containerlib.operations import (
    AttachMount,
    AttachShared,
    BecomeUser,
    Bind,
    BindReadonly,
    ChangeDirectory,
    ConfineOnExec,
    DetachMountTree,
    EmptyBoundingSet,
    EnterCgroupNamespace,
    EnterRoot,
    ForbidCoreDumps,
    ForbidNewPrivileges,
    GiveAway,
    LeaveSessionKeyring,
    LimitResource,
    MakeDevice,
    MakeDirectory,
    MakeSymlink,
    Mask,
    MountProc,
    MountSysfs,
    MountTmpfs,
    Operation,
    PauseAtGate,
    SetHostname,
    SetSysctl,
    TakeTerminal,
    WriteFile,
)
from containerlib.userns import EnterUserNamespace, UserNamespace

# Of each process; what a whole container may have is its control group's. A program raises its own number of files where it needs
# more than what select() can take; memory that is locked counts as the container's, and has the kernel's own default here.
RLIMITS = (
    LimitResource(resource.RLIMIT_NOFILE, 1024, 65_536),
    LimitResource(resource.RLIMIT_MEMLOCK, 8 << 20, 8 << 20),
    LimitResource(resource.RLIMIT_RTPRIO, 0, 0),
    LimitResource(resource.RLIMIT_NICE, 0, 0),
)
ROOT_BYTES = 256 << 20  # of /tmp, /run and /var together; what is used counts as the app's memory
ROOT_INODES = 100_000
INIT = "/usr/bin/catatonit"
PAUSE = (INIT, "-P")  # no program of its own: it reaps what is orphaned, for as long as the container lives
# What is generated per app; the /etc image has links to it. The directory is root's, so that a tenant cannot replace a file.
GENERATED = "/.fastcontainer"
EMPTY = f"{GENERATED}/empty"
SHM = f"{GENERATED}/shm"
# Where a container that can be dumped has the FIFOs of its log.
LOGS = (f"{GENERATED}/out", f"{GENERATED}/err")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_USR_LINKS = ("bin", "sbin", "lib", "lib64")
# World-writable with the sticky bit: their owner is not known yet, and what root made in them stays root's.
_SCRATCH = (
    "tmp",
    "run",
    "run/lock",
    "var",
    "var/tmp",
    "var/log",
    "var/lib",
    "var/cache",
    "var/spool",
    "srv",
    "home",
)
MASKED = ("kcore", "keys", "timer_list", "sched_debug", "sysrq-trigger", "latency_stats", "kallsyms", "acpi", "scsi")
READONLY = ("sys", "bus", "fs", "irq")


class SharedMounts(NamedTuple):
    """Descriptors of mounts that all containers share (shared.py)."""

    sys: int
    dev: int


def blank_plan(
    stage: str, etc_image: str, usr_links: tuple[str, ...] = _USR_LINKS, shared: SharedMounts | None = None
) -> tuple[Operation, ...]:
    return (*root_plan(stage, etc_image, usr_links, shared), *process_plan())


def host_plan() -> tuple[Operation, ...]:
    """Of its namespaces, before anything is mounted there."""
    return (DetachMountTree(), LeaveSessionKeyring(), *network_plan())


def network_plan() -> tuple[Operation, ...]:
    return (
        SetSysctl("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
        # Of links to come: by their link-local addresses a container would reach whatever listens on the host's [::].
        SetSysctl("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", required=False),
    )


def root_plan(
    stage: str, etc_image: str, usr_links: tuple[str, ...] = _USR_LINKS, shared: SharedMounts | None = None
) -> tuple[Operation, ...]:
    """The root of every container of strategy `usr`: the host's /usr bound read-only (not an overlay layer: apt may change it
    underneath, which is how new lives get new libraries), a versioned /etc, everything else fresh. `stage` is an empty directory.
    """

    def at(path: str) -> str:
        return f"{stage}/{path}"

    return (
        *host_plan(),
        MountTmpfs(stage, ROOT_BYTES, ROOT_INODES, devices=shared is None),
        *(
            MakeDirectory(at(name))
            for name in ("usr", "etc", "proc", "sys", "dev", "root", "mnt", GENERATED.strip("/"), EMPTY.strip("/"))
        ),
        *(MakeDirectory(at(name), 0o1777) for name in _SCRATCH),
        *(MakeSymlink(at(name), f"usr/{name}") for name in usr_links),
        MakeSymlink(at("var/run"), "../run"),
        BindReadonly("/usr", at("usr")),
        BindReadonly(etc_image, at("etc")),
        *(device_plan(at("dev")) if shared is None else shared_device_plan(stage, shared)),
        MountProc(at("proc")),
        *(Mask(at(f"proc/{name}"), at("dev/null"), at(EMPTY.strip("/"))) for name in MASKED),
        *(BindReadonly(at(f"proc/{name}"), at(f"proc/{name}")) for name in READONLY),
        MountSysfs(at("sys")) if shared is None else AttachShared(shared.sys, at("sys")),
        EnterRoot(stage),
    )


def device_plan(dev: str) -> tuple[Operation, ...]:
    return (
        MakeDirectory(f"{dev}/shm", 0o1777),
        *(MakeDevice(f"{dev}/{name}", major, minor) for name, major, minor in DEVICES),
        MakeSymlink(f"{dev}/fd", "/proc/self/fd"),
        *(MakeSymlink(f"{dev}/{name}", f"/proc/self/fd/{fd}") for fd, name in enumerate(("stdin", "stdout", "stderr"))),
    )


def shared_device_plan(stage: str, shared: SharedMounts) -> tuple[Operation, ...]:
    """/dev/shm alone is each container's own, and of its size."""
    own = f"{stage}{SHM}"
    return (AttachShared(shared.dev, f"{stage}/dev"), MakeDirectory(own, 0o1777), Bind(own, f"{stage}/dev/shm"))


def process_plan() -> tuple[Operation, ...]:
    """Binds whatever will be executed; what this process itself may do, it still may."""
    return (*limits_plan(), *rights_plan())


def limits_plan() -> tuple[Operation, ...]:
    """In reserve: a definition's own are set over them."""
    return (ForbidCoreDumps(), *RLIMITS)


def rights_plan(capabilities: int = 0) -> tuple[Operation, ...]:
    """`capabilities`: a mask of those that are left to be given."""
    return (EmptyBoundingSet(capabilities), ForbidNewPrivileges())


def user_files(uid: int) -> dict[str, str]:
    """Name -> text of the files of /etc that know the app's user by its number."""
    return {
        "passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\n"
        f"app:x:{uid}:{uid}:app:/tmp:/bin/sh\n"
        "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"  # whom a web server that begins as root becomes
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": f"root:x:0:\napp:x:{uid}:\nwww-data:x:33:\nnogroup:x:65534:\n",
    }


def app_files(identity: Identity) -> dict[str, str]:
    """Those that differ from app to app in any case."""
    name = identity.hostname
    return {
        "hostname": f"{name}\n",
        "hosts": f"127.0.0.1 localhost\n::1 localhost\n{identity.address} {name}\n",
    }


def generated_names(*, mapped: bool) -> tuple[str, ...]:
    """Of the files that a start writes. Each is a page and an inode of every container, and a step of every start: where users are
    mapped all apps have the same number inside, and /etc/hostname is a link into /proc."""
    return ("hosts",) if mapped else ("passwd", "group", "hosts")


def naming_plan(identity: Identity, *, mapped: bool) -> tuple[Operation, ...]:
    """What can be done while the mounts are on their way."""
    files = {**user_files(identity.uid), **app_files(identity)}
    names = generated_names(mapped=mapped)
    return (SetHostname(identity.hostname), *(WriteFile(f"{GENERATED}/{name}", files[name]) for name in names))


def identity_plan(
    identity: Identity,
    mount_fds: tuple[int, ...],
    log_fds: tuple[int, ...],
    namespace: UserNamespace | None,
    control: int = -1,
    terminal: tuple[int, ...] = (),
) -> tuple[Operation, ...]:
    """`namespace`: None where the kernel has no user namespaces for us. `control`: where it asks at the gate."""
    if namespace is not None:
        owner = identity.uid if identity.user == APP_USER else outside(identity.uid, identity.user)
        user = BecomeUser(identity.user, identity.group, identity.groups, identity.capabilities)
    else:
        owner, user = identity.uid, BecomeUser(identity.uid)
    return (
        *(AttachMount(fd, target) for fd, target in zip(mount_fds, identity.mounts, strict=True)),
        *((PauseAtGate(control),) if identity.gate else ()),
        *map(TakeTerminal, terminal),
        GiveAway(log_fds, owner),
        EnterCgroupNamespace(),
        # Whoever enters a user namespace has every capability over it, in the bounding set too.
        *((EnterUserNamespace(namespace, identity.uid), EmptyBoundingSet(identity.capabilities)) if namespace else ()),
        user,
        ChangeDirectory(identity.workdir),
        *((ConfineOnExec(identity.apparmor),) if identity.apparmor else ()),
    )


def environment(identity: Identity) -> dict[str, str]:
    base = {"PATH": DEFAULT_PATH, "HOME": "/tmp", "USER": "app", "LANG": "C.UTF-8", "HOSTNAME": identity.hostname}
    return {**base, **identity.env}


def argv(identity: Identity, program: str) -> tuple[str, ...]:
    """What PID 1 executes. `-g`: the stop signal reaches what a shell started, too."""
    return (INIT, "-g", "--", program, *identity.command[1:]) if identity.init else (program, *identity.command[1:])
