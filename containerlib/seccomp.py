"""Which system calls a container's program may make, compiled once for all containers.

    fd = memory_file(compile_filter())      # handed to each blank

To load it takes 0.13 ms, so a blank does that in reserve, and what a blank needs until the program starts is let through with the
arguments that it needs: unshare and setns of no other namespace, sethostname, move_mount. Each of these wants a capability over a
namespace that belongs to the host, which nobody in a container has, and checks it before anything else.

An allow-list: a call that no list names, newer ones included, does not exist (ENOSYS), so that C libraries fall back to what they
did before it came; one that is known and refused is not permitted (EPERM), which programs expect of a sandbox. Calls of another
architecture (32-bit ones on a 64-bit machine) end the program: their numbers mean other calls.

Compiled by libseccomp, through its own Python binding. This module is the agent's; the blank gets bytes.
"""

import errno
import functools
import operator
import os
import socket
import tempfile

import seccomp

from containerlib.checks import SpecError
from containerlib.profiles import Action, Argument, Profile
from containerlib.spec.seccomp import DANGEROUS, Seccomp, check_danger
from containerlib.squeeze import squeezed

# linux/sched.h
CLONE_NEWS = (
    os.CLONE_NEWNS, os.CLONE_NEWCGROUP, os.CLONE_NEWUTS, os.CLONE_NEWIPC, os.CLONE_NEWUSER, os.CLONE_NEWPID, os.CLONE_NEWNET,
)  # fmt: skip
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # the usual ones: Linux, 32-bit addresses, and "which is it?"
# Others (vsock, alg, packet, key ...) are a way around the network's rules, or much code of the kernel that no site needs.
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fallocate
    fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat
    fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch ioctl lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat memfd_create
    mkdir mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx
    symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice write
    writev cachestat chroot
"""
WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 poll ppoll pselect6 select
    signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime io_cancel io_destroy io_getevents io_pgetevents io_setup
    io_submit
"""
MEMORY = """
    brk get_mempolicy madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock
    munlockall munmap pkey_alloc pkey_free pkey_mprotect mseal
"""
PROCESSES = """
    arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake
    get_robust_list getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid
    getrlimit getrusage getsid gettid getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self pause pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_tid_address
    setfsgid setfsuid setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid
    sigaltstack sysinfo tgkill times tkill uname vfork wait4 waitid process_mrelease
"""
TIME = """
    alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime
"""
TALKING = """
    accept accept4 bind connect getpeername getrandom getsockname getsockopt listen mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg recvmsg semctl semget semop semtimedop
    sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketpair
"""
ALLOWED = tuple(" ".join((FILES, WAITING, MEMORY, PROCESSES, TIME, TALKING)).split())

DIVIDED = ("clone", "socket", "personality")  # in a profile: dangerous only where it does not look at arguments
_UNKNOWN = -1  # __NR_SCMP_ERROR; others below 0 are calls of other architectures
OF_THE_BLANK = ("move_mount", "sethostname")
_REFUSED = """
    acct add_key adjtimex bpf clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen
    fspick init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie migrate_pages mount mount_setattr
    move_pages name_to_handle_at open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_madvise
    process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot request_key setdomainname settimeofday swapoff swapon
    syslog umount2 userfaultfd vhangup
"""
REFUSED = tuple(_REFUSED.split())


def compile_filter() -> bytes:
    """As the kernel takes it: an array of struct sock_filter."""
    rules = seccomp.SyscallFilter(defaction=seccomp.ERRNO(errno.ENOSYS))
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    rules.set_attr(seccomp.Attr.CTL_OPTIMIZE, 2)  # a binary tree: some eight comparisons instead of three hundred
    for name in _known(OF_THE_BLANK):
        rules.add_rule(seccomp.ALLOW, name)
    _add_usual(rules)
    _add_only(rules, "unshare", 0, os.CLONE_NEWCGROUP)
    _add_only(rules, "setns", 1, os.CLONE_NEWUSER)
    return _exported(rules)


def _add_usual(rules: seccomp.SyscallFilter, without: frozenset[str] = frozenset()) -> None:
    """What every program may, but for some calls."""
    for name in _known(ALLOWED):
        if name not in without:
            rules.add_rule(seccomp.ALLOW, name)
    for name in _known(REFUSED):
        if name not in without:
            rules.add_rule(seccomp.ERRNO(errno.EPERM), name)
    if "personality" not in without:
        for personality in PERSONALITIES:
            rules.add_rule(seccomp.ALLOW, "personality", seccomp.Arg(0, seccomp.EQ, personality))
    if "socket" not in without:
        _add_families(rules)
    if "clone" not in without:
        _add_clone(rules)


def _exported(rules: seccomp.SyscallFilter) -> bytes:
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return squeezed(file.read())


def compile_own(wanted: Seccomp, profile: Profile | None) -> bytes:
    """Of a container that asked for a list of its own; `profile`: what its file says. Raises SpecError."""
    every = (*wanted.allow, *wanted.deny, *wanted.dangerous)
    if unknown := [name for name in every if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) == _UNKNOWN]:
        raise SpecError("seccomp", unknown[0], "is a system call that libseccomp does not know")
    rules = seccomp.SyscallFilter(defaction=_action(profile.default if profile else Action("errno", errno.ENOSYS)))
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    rules.set_attr(seccomp.Attr.CTL_OPTIMIZE, 2)
    if profile is None:
        _add_usual(rules, without=frozenset(every))
    else:
        _add_profile(rules, profile, wanted)
    for name in _known((*wanted.allow, *wanted.dangerous)):
        _add(rules, seccomp.ALLOW, name)
    for name in _known(wanted.deny):
        _add(rules, seccomp.ERRNO(errno.EPERM), name)
    return _exported(rules)


def _add_profile(rules: seccomp.SyscallFilter, profile: Profile, wanted: Seccomp) -> None:
    if profile.default.lets_through:
        named = {rule.name for rule in profile.rules if not rule.arguments and not rule.action.lets_through}
        for name in sorted(DANGEROUS.keys() - named - {*wanted.deny}):
            check_danger(f"seccomp {wanted.profile}", name, wanted.dangerous)
    for rule in profile.rules:
        if rule.name in (*wanted.allow, *wanted.deny, *wanted.dangerous):
            continue
        if rule.action.lets_through and not (rule.name in DIVIDED and rule.arguments):
            check_danger(f"seccomp {wanted.profile}", rule.name, wanted.dangerous)
        number = seccomp.resolve_syscall(seccomp.Arch.NATIVE, rule.name)
        if number == _UNKNOWN and not rule.action.lets_through:
            raise SpecError(f"seccomp {wanted.profile}", rule.name, "is a system call that libseccomp does not know")
        if number >= 0:
            _add(rules, _action(rule.action), rule.name, *map(_comparison, rule.arguments))


def _add(rules: seccomp.SyscallFilter, action: int, name: str, *comparisons: seccomp.Arg) -> None:
    """libseccomp refuses what the filter does anyway."""
    try:
        rules.add_rule(action, name, *comparisons)
    except RuntimeError as error:
        if "-13" not in str(error):  # EACCES
            raise SpecError("seccomp", name, f"has rules that libseccomp cannot put together: {error}") from error


def _action(action: Action) -> int:
    match action.kind:
        case "errno":
            return int(seccomp.ERRNO(action.number))
        case "kill_thread":
            return int(seccomp.KILL)
        case kind:
            return int(getattr(seccomp, kind.upper()))


def _comparison(argument: Argument) -> seccomp.Arg:
    comparison = getattr(seccomp, argument.comparison)
    if argument.comparison == "MASKED_EQ":
        return seccomp.Arg(argument.index, comparison, argument.value, argument.value_two)
    return seccomp.Arg(argument.index, comparison, argument.value)


def memory_file(program: bytes) -> int:
    """A descriptor to hand over."""
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    os.write(fd, program)
    return fd


def _add_families(rules: seccomp.SyscallFilter) -> None:
    last = max(FAMILIES)
    for family in range(last + 1):
        action = seccomp.ALLOW if family in FAMILIES else seccomp.ERRNO(errno.EAFNOSUPPORT)
        rules.add_rule(action, "socket", seccomp.Arg(0, seccomp.EQ, family))
    rules.add_rule(seccomp.ERRNO(errno.EAFNOSUPPORT), "socket", seccomp.Arg(0, seccomp.GT, int(last)))


def _add_clone(rules: seccomp.SyscallFilter) -> None:
    """clone3 hides its flags behind a pointer: it is left out, and C libraries fall back to clone."""
    flags = 1 if os.uname().machine.startswith("s390") else 0  # which argument they are
    every = functools.reduce(operator.or_, CLONE_NEWS)
    rules.add_rule(seccomp.ALLOW, "clone", seccomp.Arg(flags, seccomp.MASKED_EQ, every, 0))
    for flag in CLONE_NEWS:
        rules.add_rule(seccomp.ERRNO(errno.EPERM), "clone", seccomp.Arg(flags, seccomp.MASKED_EQ, flag, flag))


def _add_only(rules: seccomp.SyscallFilter, name: str, argument: int, value: int) -> None:
    rules.add_rule(seccomp.ALLOW, name, seccomp.Arg(argument, seccomp.EQ, value))
    for comparison in (seccomp.LT, seccomp.GT):
        rules.add_rule(seccomp.ERRNO(errno.EPERM), name, seccomp.Arg(argument, comparison, value))


def _known(names: tuple[str, ...]) -> list[str]:
    """Those that this architecture has: arm64 has no fork and no open."""
    return [name for name in names if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0]


def number_of(name: str) -> int:
    """Of a system call, on this machine; below 0 for what is none here."""
    return int(seccomp.resolve_syscall(seccomp.Arch.NATIVE, name))
