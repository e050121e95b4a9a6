"""What a container may do beyond nothing. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from containerlib.checks import SpecError, no_doubles, one_of, text
from containerlib.spec.seccomp import USUAL, Seccomp

# linux/capability.h, in the order of their numbers. A newer kernel's are not here, so they cannot be given.
CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "linux_immutable",
    "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio",
    "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time",
    "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip
_HOSTS = "counts for the host's own user namespace alone: there it would be a way out, here it would change nothing"
_NETWORK = "is over the network, whose namespace is the host's: it would change nothing here, and must not"
# What a container's root may have, because it counts for its own ids alone; and of all others why it may not.
ALLOWED = (
    "chown", "dac_override", "fowner", "fsetid", "kill", "net_bind_service", "setgid", "setpcap", "setuid", "sys_chroot",
)  # fmt: skip
REFUSED = {
    "sys_admin": "is every right at once: mounts, namespaces, limits",
    "sys_ptrace": "reads and changes other processes, such as PID 1 while it still is a copy of the launcher",
    "dac_read_search": "opens files by handle, past every root and mask; dac_override does for a container's own files",
    "sys_module": "loads code into the kernel",
    "sys_rawio": "reaches the machine's memory and ports",
    "sys_boot": "restarts the host",
    "sys_time": "sets the host's clock",
    "syslog": "reads the host's kernel log and addresses",
    "bpf": "loads programs into the kernel",
    "perfmon": "watches the whole host",
    "mknod": "makes device files, which lead past the file system",
    "setfcap": "gives capabilities to programs, which here gain none by being executed",
    "checkpoint_restore": "chooses process ids and reads what other processes map",
    "ipc_owner": "is over the namespace of System V memory, which is the host's",
    **dict.fromkeys(("net_admin", "net_raw", "net_broadcast"), _NETWORK),
}
# Every container has all of these: they are made before anybody knows for whom, and one shared with the host is a door to it.
NAMESPACES = frozenset({"mount", "pid", "ipc", "uts", "net", "user"})
OPTIONAL_NAMESPACES = frozenset({"cgroup"})


@dataclass(frozen=True, slots=True)
class Security:
    """Capabilities are none unless named, and count for the container's own ids and files only. `apparmor`: a profile that
    the kernel has loaded, empty: none."""

    capabilities: tuple[str, ...] = ()
    seccomp: Seccomp = USUAL
    apparmor: str = ""

    def __post_init__(self) -> None:
        for name in self.capabilities:
            check_capability(name)
        no_doubles("capabilities", self.capabilities)
        if not text("apparmor", self.apparmor).isprintable():
            raise SpecError("apparmor", self.apparmor, "is not the name of a profile")


def parse_capability(word: str) -> str:
    """CAP_CHOWN, CHOWN and chown are the same one."""
    return one_of("capabilities", text("capabilities", word).lower().removeprefix("cap_"), CAPABILITIES)


def check_capability(name: str) -> None:
    """Raises SpecError with the reason for one that no container gets."""
    if one_of("capabilities", name, CAPABILITIES) not in ALLOWED:
        rule = f"is not given to containers: it {REFUSED.get(name, _HOSTS)}. There is {', '.join(ALLOWED)}"
        raise SpecError("capabilities", name, rule)


def capability_mask(names: Iterable[str]) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in set(names))


def check_namespaces(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        one_of("namespaces", name, NAMESPACES | OPTIONAL_NAMESPACES)
    if missing := NAMESPACES - set(names):
        raise SpecError(
            "namespaces", names, f"leaves out {', '.join(sorted(missing))}: a container shares none with the host"
        )
    return tuple(dict.fromkeys(names))
