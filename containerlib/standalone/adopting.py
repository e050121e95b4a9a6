"""The root of an image, put under a process that waits at its gate: by a helper with the host's rights, for the process itself may
neither mount nor pivot.

    enter = adoption.prepare()      # on the host, single-threaded: the root and the definition's mounts, attached nowhere
    ...                             # into the waiting process's mount namespace
    enter()

pivot_root changes the root and working directory of every process in a mount namespace whose root was the old one: the waiting
process, and the helper itself, find themselves in the new one. From then on a link of the image leads nowhere but into the image.
"""

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from containerlib import idmap, kernel, rootfs
from containerlib.bind import BindMount, open_mount
from containerlib.checks import SpecError
from containerlib.plan import INIT, ROOT_BYTES, ROOT_INODES
from containerlib.userns import UserNamespace, make_user_namespace

ATTACHED_AT = "/mnt"  # of the old root, for as long as it takes
KEPT = ("proc", "sys", "dev")  # with what is masked in them
_DIRECTORIES = (*KEPT, "etc", "tmp", "run")
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Adoption:
    """`stage`: a directory of the runner's. `targets`: where mounts will lie that others make. `files`: name -> text, in /etc."""

    image: str
    stage: str
    base: int
    mounts: tuple[tuple[str, str, bool], ...]  # as BindMount
    targets: tuple[str, ...]
    files: Mapping[str, str]

    @property
    def owner(self) -> int:
        """Root inside."""
        return idmap.outside(self.base, 0)

    def prepare(self, namespace: UserNamespace | None = None) -> Callable[[], None]:
        """`namespace`: one made ahead, to be used up. Raises OSError and StartFailed. Its mounts go with this process."""
        namespace = namespace or make_user_namespace()
        for fd in (namespace.uid_map, namespace.gid_map):
            os.write(fd, idmap.map_text(self.base).encode())
        root = rootfs.open_root(
            Path(self.image), Path(self.stage), size_bytes=ROOT_BYTES, inodes=ROOT_INODES, owner=self.owner,
            mapped=namespace.fd,
        )  # fmt: skip
        namespace.close()
        binds = [BindMount(*each) for each in self.mounts]
        mounts = [(open_mount(bind), bind.target) for bind in binds]
        return lambda: self._enter(root, mounts)

    def _enter(self, root: int, mounts: list[tuple[int, str]]) -> None:
        init = kernel.open_tree(INIT, kernel.OPEN_TREE_CLONE | kernel.OPEN_TREE_CLOEXEC)
        kernel.move_mount(root, ATTACHED_AT)
        os.close(root)
        os.chdir(ATTACHED_AT)
        for name in _DIRECTORIES:
            self._have_directory(name, 0o1777 if name == "tmp" else 0o755)
        for name in KEPT:
            # With the mounts in them; /dev is a directory of the old root where it is not shared (shared.py).
            flags = kernel.OPEN_TREE_CLONE | kernel.AT_RECURSIVE if name == "dev" else 0
            tree = kernel.open_tree(f"/{name}", flags | kernel.OPEN_TREE_CLOEXEC)
            kernel.move_mount(tree, name)
            os.close(tree)
        kernel.pivot_root(".", ".")
        kernel.umount2(".", kernel.MNT_DETACH)
        os.chdir("/")
        for name, text in self.files.items():
            self._write(name, text)
        for fd, target in ((init, INIT), *mounts):
            self._attach(fd, target)
        for target in self.targets:
            self._find(target)

    def _have_directory(self, name: str, mode: int) -> None:
        try:
            Path(name).mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name).st_mode):
                raise SpecError("bootstrap.image", self.image, f"has a /{name} that is no directory") from None
            return
        Path(name).chmod(mode)  # whatever the umask
        os.chown(name, self.owner, self.owner)

    def _write(self, name: str, text: str) -> None:
        """Instead of what the image has there: a link of it is not followed."""
        path = Path("/etc", name)
        path.unlink(missing_ok=True)
        fd = os.open(path, _FILE, 0o644)
        try:
            os.write(fd, text.encode())
            os.fchmod(fd, 0o644)
            os.fchown(fd, self.owner, self.owner)
        finally:
            os.close(fd)

    def _attach(self, fd: int, target: str) -> None:
        path = self._find(target)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self._make_directories(path)
        else:
            self._make_directories(path.parent)
            with suppress(FileExistsError):
                file = os.open(path, _FILE, 0o644)
                os.fchown(file, self.owner, self.owner)
                os.close(file)
        kernel.move_mount(fd, str(path))
        os.close(fd)

    def _make_directories(self, path: Path) -> None:
        if not path.is_dir():
            self._make_directories(path.parent)
            path.mkdir()
            path.chmod(0o755)
            os.chown(path, self.owner, self.owner)

    def _find(self, target: str) -> Path:
        """Where a target lies, the image's own links followed. Nobody else runs here who could change them."""
        path = Path(target).resolve()
        if len(path.parts) < 2 or path.parts[1] in KEPT:
            raise SpecError(
                "mount.target", target, f"is {str(path)!r} by a link of the image, which the container keeps"
            )
        return path
