"""Files opened beneath a directory, wherever a tenant's links point: openat2(2), for Python has no door to it.

    file = open_file("/datapool/blog", "css/site.css", tree="css/")
    ...
    os.close(file)

`containerlib` has its own; only dispatcher/compute may import that.
"""

import ctypes
import os
import stat

_OPENAT2 = 437  # on every architecture
_NO_MAGIC_LINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08  # RESOLVE_*
_PATH = os.O_PATH | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    how = _How(flags, 0, resolve)
    found: int = _libc.syscall(_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return found


def open_file(mount: str, path: str, *, tree: str = "") -> int:
    """A descriptor (O_PATH: nothing is read, no device is touched) of a regular file that we may read. `tree`: beginning of `path`
    that is a directory; within it links are followed that stay in it, elsewhere none is. Raises OSError."""
    root = _openat2(-100, mount, _PATH | os.O_DIRECTORY, _NO_SYMLINKS)
    try:
        if not tree.strip("/"):
            return _regular(root, path, _BENEATH | _NO_MAGIC_LINKS | (0 if tree else _NO_SYMLINKS))
        inner = _openat2(root, tree, _PATH | os.O_DIRECTORY, _BENEATH | _NO_SYMLINKS)
    finally:
        os.close(root)
    try:
        return _regular(inner, path.removeprefix(tree), _BENEATH | _NO_MAGIC_LINKS)
    finally:
        os.close(inner)


def _regular(directory: int, path: str, resolve: int) -> int:
    file = _openat2(directory, path, _PATH, resolve)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileNotFoundError(2, "it is no regular file", path)
        if not os.access(f"/proc/self/fd/{file}", os.R_OK):
            raise PermissionError(13, "not for the user of fastcontainer files", path)
    except BaseException:
        os.close(file)
        raise
    return file
