"""Which system calls a container's program may make, where that differs from what all others may. Pure."""

import re
from dataclasses import dataclass

from containerlib.checks import SpecError, absolute_path, no_doubles, text

DEFAULT_PROFILE = "default"
_NAME = re.compile(r"[a-z_][a-z0-9_]*")

_NAMESPACES = "makes or enters namespaces: in one of users it has every capability, and much of the kernel to try"
_MOUNTS = "changes what is mounted where"
_OTHERS = "reaches into other processes of the container, PID 1 included"
_KEYS = "reaches the kernel's keys, which are not divided by container"
_RINGS = "makes calls past this filter, by a part of the kernel in which faults were often found"
_MEMORY = "holds up the kernel's own access to memory, which makes faults of it usable"
_HANDLES = "opens files by handle, past every root"
_HOST = "is about the whole host"
_PAST = "reaches what the usual list withholds of it"
# Calls that no profile lets through unless it names them as dangerous, and why.
DANGEROUS = {
    **dict.fromkeys(("unshare", "setns", "clone", "clone3"), _NAMESPACES),
    **dict.fromkeys(
        ("mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
         "mount_setattr"),
        _MOUNTS,
    ),
    **dict.fromkeys(
        ("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp", "migrate_pages",
         "move_pages"),
        _OTHERS,
    ),
    **dict.fromkeys(("keyctl", "add_key", "request_key"), _KEYS),
    **dict.fromkeys(("io_uring_setup", "io_uring_enter", "io_uring_register"), _RINGS),
    **dict.fromkeys(("open_by_handle_at", "name_to_handle_at"), _HANDLES),
    "userfaultfd": _MEMORY,
    "bpf": "loads programs into the kernel",
    "perf_event_open": "measures beyond the container, by a part of the kernel in which faults were often found",
    "socket": f"{_PAST}: sockets of any family, such as packet, vsock and alg",
    "personality": f"{_PAST}: it can put memory where an attacker wants it",
    "modify_ldt": "changes how the processor divides memory",
    **dict.fromkeys(
        ("acct", "adjtimex", "clock_adjtime", "clock_settime", "delete_module", "fanotify_init", "finit_module", "init_module",
         "ioperm", "iopl", "kexec_file_load", "kexec_load", "lookup_dcookie", "quotactl", "quotactl_fd", "reboot",
         "setdomainname", "settimeofday", "stime", "swapoff", "swapon", "syslog", "vhangup"),
        _HOST,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seccomp:
    """`profile`: `default`, or a file of the host in the format of OCI runtimes, instead of it. `allow` and `deny` correct either.
    `dangerous` names those of DANGEROUS that either may let through, and lets them through."""

    profile: str = DEFAULT_PROFILE
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.profile != DEFAULT_PROFILE:
            absolute_path("seccomp", self.profile)
        for field in ("allow", "deny", "dangerous"):
            for name in getattr(self, field):
                if not _NAME.fullmatch(text(f"seccomp.{field}", name)):
                    raise SpecError(f"seccomp.{field}", name, "is not the name of a system call such as mlock2")
        for name in self.allow:
            check_danger("seccomp.allow", name, ())
        for name in self.dangerous:
            if name not in DANGEROUS:
                raise SpecError("seccomp.dangerous", name, "is none that is known to be: allow it")
        no_doubles("seccomp", (*self.allow, *self.deny, *self.dangerous))


USUAL = Seccomp()


def check_danger(field: str, name: str, accepted: tuple[str, ...]) -> None:
    """Raises SpecError, with the reason, for a call that is dangerous and not `accepted`."""
    if name in DANGEROUS and name not in accepted:
        raise SpecError(field, name, f'is dangerous, for it {DANGEROUS[name]}; if it must be: dangerous=("{name}",)')
