"""The smallest PID 1 there can be: it waits for ever. Standard library only.

Where the program is spawned beside its init (blank.py), the init has nothing to do: signals go to the program's group, and what is
orphaned the kernel reaps by itself if SIGCHLD is ignored, which outlives exec. So any program that waits will do, and the smaller
it is the less of it each container holds: one page of code, shared by all, instead of a C library's start. It lies in a sealed
file in memory, since it is no file of the containers' root; sealed, because every container's /proc/1/exe leads to it.
"""

import contextlib
import fcntl
import os
import struct

ARGV = ("init",)
_MACHINE, _EM_X86_64 = "x86_64", 62
# again: mov $34 (pause), %eax; syscall; jmp again
_CODE = bytes.fromhex("b822000000 0f05 ebf7")
_BASE, _PAGE = 0x7F8000000000, 0x1000
_PT_LOAD, _PT_GNU_STACK = 1, 0x6474E551
_EXECUTE, _WRITE, _READ = 1, 2, 4
_EHDR, _PHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_MFD_EXEC = 0x10  # linux/memfd.h (6.3)
_F_SEAL_EXEC = 0x20
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | _F_SEAL_EXEC


def image() -> bytes:
    """An ELF executable: one page that is read and executed, a stack that is not."""
    entry = _EHDR.size + 2 * _PHDR.size
    size = entry + len(_CODE)
    kind, version = 2, 1  # ET_EXEC, EV_CURRENT
    header = _EHDR.pack(
        b"\x7fELF\x02\x01\x01",
        kind,
        _EM_X86_64,
        version,
        _BASE + entry,
        _EHDR.size,
        0,
        0,
        _EHDR.size,
        _PHDR.size,
        2,
        0,
        0,
        0,
    )
    code = _PHDR.pack(_PT_LOAD, _READ | _EXECUTE, 0, _BASE, _BASE, size, size, _PAGE)
    stack = _PHDR.pack(_PT_GNU_STACK, _READ | _WRITE, 0, 0, 0, 0, 0, 16)
    return header + code + stack + _CODE


def memory_file() -> int | None:
    """A descriptor to execute. None where there is none to be had: another processor, or a kernel that lets no such file be
    executed (vm.memfd_noexec) or does not know how to ask for it."""
    if os.uname().machine != _MACHINE:
        return None
    fd = -1
    try:
        fd = os.memfd_create("init", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_EXEC)
        os.write(fd, image())
        os.fchmod(fd, 0o555)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(fd)
        return None
    return fd
