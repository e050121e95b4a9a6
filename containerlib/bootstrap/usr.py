"""Strategy `usr`: the host's /usr, and a small versioned /etc made of a list of the host's files.

Only what is on the list and readable by everybody is copied, so no secret of the host's /etc can be seen. What differs from
app to app (hosts) is a link to a file that the container's start writes. A version is a directory named for the
hash of what is in it: built beside, renamed into place, shared read-only by all containers, removed when nobody uses it.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from containerlib.idmap import APP_USER
from containerlib.plan import GENERATED, generated_names, user_files
from containerlib.whole import no_room

COPIED = (
    "alternatives",
    "apache2",
    "ca-certificates.conf",
    "fonts",
    "gai.conf",
    "host.conf",
    "ImageMagick-6",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "magic.mime",
    "mime.types",
    "nsswitch.conf",
    "perl",
    "php",
    "profile",
    "protocols",
    "python3",
    "rpc",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)
BUILDING = ".building-"
HOSTNAME = "/proc/sys/kernel/hostname"
_RECIPE = "3"  # counts up when the same host files are to give another image


def fingerprint(etc: Path = Path("/etc"), *, mapped: bool = True) -> str:
    """Changes when the image would: cheap enough (a few hundred stats) to ask before blanks are made."""
    digest = hashlib.sha256((f"{_RECIPE} {mapped} {nameservers()}").encode())
    for path in _files(etc, COPIED):
        info = path.lstat()
        digest.update(f"{path}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_mode}\n".encode())
    return digest.hexdigest()[:16]


def build_etc(images: Path, etc: Path = Path("/etc"), *, mapped: bool = True) -> Path:
    """The image of this moment's host, built if it is not there yet. Root's, readable by everybody. `mapped`: for containers in
    user namespaces, in which every app's user has the same number. Raises OSError."""
    image = images / fingerprint(etc, mapped=mapped)
    if image.is_dir():
        return image
    try:
        images.mkdir(parents=True, exist_ok=True)
        with _alone(images):
            if not image.is_dir():  # nobody else has built it meanwhile
                _build(images, image, etc, mapped=mapped)
    except OSError as error:
        raise no_room(error, images) from error
    return image


@contextmanager
def _alone(images: Path) -> Iterator[None]:
    """The only one who builds or removes there, with what builders that died have left gone."""
    lock = os.open(images / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in images.glob(f"{BUILDING}*"):
            shutil.rmtree(left)
        yield
    finally:
        os.close(lock)


def _build(images: Path, image: Path, etc: Path, *, mapped: bool) -> None:
    with tempfile.TemporaryDirectory(dir=images, prefix=BUILDING) as building:
        root = Path(building) / "etc"
        root.mkdir(mode=0o755)
        for path in _files(etc, COPIED):
            _copy(path, root / path.relative_to(etc))
        (root / "hostname").symlink_to(HOSTNAME)
        texts = {"shells": "/bin/sh\n/bin/bash\n", "resolv.conf": nameservers(), **user_files(APP_USER)}
        generated = generated_names(mapped=mapped)
        for name in generated:
            (root / name).symlink_to(f"..{GENERATED}/{name}")
        for name in texts.keys() - set(generated):
            (root / name).write_text(texts[name])
            (root / name).chmod(0o644)
        for directory, _, _ in os.walk(root):  # whatever the umask: tenants read it
            Path(directory).chmod(0o755)
        root.rename(image)


def remove_unused(images: Path, used: Iterable[str]) -> None:
    kept = {".lock", *used}
    if not images.is_dir():
        return
    with _alone(images):
        for image in images.iterdir():
            if image.name not in kept:
                shutil.rmtree(image, ignore_errors=True)


def nameservers() -> str:
    """The host's resolv.conf as a container can use it: systemd's stub listens on the host's loopback, so its upstream file."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        try:
            text = path.read_text()
        except OSError:
            continue
        servers = [
            line.split()[1] for line in text.splitlines() if line.startswith("nameserver") and len(line.split()) > 1
        ]
        if any(not server.startswith("127.") and server != "::1" for server in servers):
            return text
    return ""


def nameserver_addresses() -> list[str]:
    words = (line.split() for line in nameservers().splitlines() if line.startswith("nameserver"))
    return [address for _, address, *_ in words if not address.startswith("127.")]


def _files(etc: Path, names: Iterable[str]) -> Iterator[Path]:
    """Regular files and links, in a fixed order, that everybody may read."""
    for name in names:
        top = etc / name
        if top.is_symlink() or top.is_file():
            yield from (path for path in (top,) if _is_public(path))
        elif top.is_dir():
            for directory, subdirectories, files in os.walk(top):
                subdirectories.sort()
                links = [entry for entry in subdirectories if (Path(directory) / entry).is_symlink()]
                for file in sorted([*files, *links]):
                    if _is_public(path := Path(directory) / file):
                        yield path


def _is_public(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and bool(mode & stat.S_IROTH))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    else:
        shutil.copy2(source, target)
        target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
