"""What a container may do beyond nothing. Pure."""

from dataclasses import dataclass

from containerlib.checks import SpecError, absolute_path, no_doubles, one_of, text

# linux/capability.h, in the order of their numbers. A newer kernel's are not here, so they cannot be given.
CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "linux_immutable",
    "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio",
    "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time",
    "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip
# Every container has all of these: they are made before anybody knows for whom, and one shared with the host is a door to it.
NAMESPACES = frozenset({"mount", "pid", "ipc", "uts", "net", "user"})
OPTIONAL_NAMESPACES = frozenset({"cgroup"})
DEFAULT_PROFILE = "default"


@dataclass(frozen=True, slots=True)
class Security:
    """Capabilities are none unless named. `seccomp` is `default` or a file of the host; `apparmor` a profile that the kernel has
    loaded, empty: none."""

    capabilities: tuple[str, ...] = ()
    seccomp: str = DEFAULT_PROFILE
    apparmor: str = ""

    def __post_init__(self) -> None:
        for name in self.capabilities:
            one_of("capabilities", name, CAPABILITIES)
        no_doubles("capabilities", self.capabilities)
        if self.seccomp != DEFAULT_PROFILE:
            absolute_path("seccomp", self.seccomp)
        text("apparmor", self.apparmor)


def parse_capability(word: str) -> str:
    """CAP_NET_RAW, NET_RAW and net_raw are the same one."""
    return one_of("capabilities", text("capabilities", word).lower().removeprefix("cap_"), CAPABILITIES)


def check_namespaces(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        one_of("namespaces", name, NAMESPACES | OPTIONAL_NAMESPACES)
    if missing := NAMESPACES - set(names):
        raise SpecError(
            "namespaces", names, f"leaves out {', '.join(sorted(missing))}: a container shares none with the host"
        )
    return tuple(dict.fromkeys(names))
