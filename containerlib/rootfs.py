"""The root of a container that runs on an image: the image read-only below, a writable layer of limited size above.

    fd = open_root(image.root, stage, size_bytes=256 << 20, inodes=100_000, owner=300_001, mapped=namespace)

What comes out is a detached mount, to be handed over and attached by whoever becomes the container. The layer is a tmpfs, so what
is written goes with the container and counts as its memory. The image belongs to the host's root on disk; inside, its files are to
belong to the container's: the lower layer is mapped by the container's own user namespace (an idmapped mount), where its filesystem
can be (NFS cannot: there, what is not readable by everybody is not readable inside).
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from containerlib import kernel

UPPER, WORK = "upper", "work"
LAYERS = ("lower", "layer")  # what may be attached in a stage
_SAFE = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV


def open_root(image: Path, stage: Path, *, size_bytes: int, inodes: int, owner: int, mapped: int | None) -> int:
    """`owner`: of the root directory, as the host numbers it. `mapped`: descriptor of the container's user namespace, whose map is
    written. `stage`: for kernels before 6.13 a directory, there or not, that is empty but for what a predecessor left attached.
    Raises OSError."""
    with ExitStack() as layers:
        lower = _lower(image, mapped)
        layers.callback(os.close, lower)
        upper = _upper(size_bytes, inodes, owner)
        layers.callback(os.close, upper)
        try:
            return _by_descriptor(lower, upper)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        return _by_path(lower, upper, stage)


def _lower(image: Path, mapped: int | None) -> int:
    fd = kernel.open_tree(str(image), kernel.OPEN_TREE_CLONE | kernel.OPEN_TREE_CLOEXEC)
    try:
        kernel.mount_setattr(fd, _SAFE | kernel.MOUNT_ATTR_RDONLY, recursive=False)
        if mapped is not None:
            _map(fd, mapped)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _map(fd: int, namespace: int) -> None:
    try:
        kernel.mount_setattr(fd, kernel.MOUNT_ATTR_IDMAP, recursive=False, user_namespace=namespace)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):  # the filesystem cannot; it is mounted as it is
            raise


def _upper(size_bytes: int, inodes: int, owner: int) -> int:
    fs = kernel.fsopen("tmpfs")
    try:
        for key, value in (("size", str(size_bytes)), ("nr_inodes", str(inodes)), ("mode", "755")):
            kernel.fsconfig(fs, kernel.FSCONFIG_SET_STRING, key, value)
        kernel.fsconfig(fs, kernel.FSCONFIG_CMD_CREATE)
        fd = kernel.fsmount(fs, _SAFE)
    finally:
        os.close(fs)
    for name in (UPPER, WORK):
        os.mkdir(name, 0o755, dir_fd=fd)
        os.chmod(name, 0o755, dir_fd=fd)  # whatever the umask
        os.chown(name, owner, owner, dir_fd=fd)
    return fd


def _by_descriptor(lower: int, upper: int) -> int:
    """Layers that are attached nowhere: EINVAL before 6.13."""
    fs = kernel.fsopen("overlay")
    with ExitStack() as stack:
        stack.callback(os.close, fs)
        kernel.fsconfig(fs, kernel.FSCONFIG_SET_FD, "lowerdir+", lower)
        for key, name in (("upperdir", UPPER), ("workdir", WORK)):
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=upper)
            stack.callback(os.close, directory)
            kernel.fsconfig(fs, kernel.FSCONFIG_SET_FD, key, directory)
        kernel.fsconfig(fs, kernel.FSCONFIG_CMD_CREATE)
        return kernel.fsmount(fs, _SAFE)


def _by_path(lower: int, upper: int, stage: Path) -> int:
    """The layers are attached for as long as it takes to name them; the overlay keeps copies of its own."""
    fs = kernel.fsopen("overlay")
    with ExitStack() as stack:
        stack.callback(os.close, fs)
        below = stack.enter_context(_attached(lower, stage / LAYERS[0]))
        above = stack.enter_context(_attached(upper, stage / LAYERS[1]))
        for key, directory in (("lowerdir", below), ("upperdir", above / UPPER), ("workdir", above / WORK)):
            kernel.fsconfig(fs, kernel.FSCONFIG_SET_STRING, key, str(directory))
        kernel.fsconfig(fs, kernel.FSCONFIG_CMD_CREATE)
        return kernel.fsmount(fs, _SAFE)


@contextmanager
def _attached(fd: int, directory: Path) -> Iterator[Path]:
    clear(directory)
    directory.parent.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700)
    try:
        kernel.move_mount(fd, str(directory))
        yield directory
    finally:
        clear(directory)


def clear(directory: Path) -> None:
    """Of what was attached there, by us or by who died before us."""
    with suppress(FileNotFoundError):
        while _is_detached(directory):
            pass
        directory.rmdir()


def _is_detached(directory: Path) -> bool:
    """Asked by trying: a bind of the filesystem that it lies on looks like any other directory."""
    try:
        kernel.umount2(str(directory), kernel.MNT_DETACH)
    except OSError as error:
        if error.errno != errno.EINVAL:  # nothing is attached there
            raise
        return False
    return True
