"""The second kernel and what it needs, fetched from the distribution and unpacked into a cache: nothing of it is installed.

    guest = prepare()      # some 10 s and 70 MB the first time; then only a look at which kernel is the newest
    guest.kernel, guest.initramfs, guest.layer, guest.release

The kernel is the distribution's stable one, whatever this host runs. The guest's userland is the host's own; `layer` lies over it
with the kernel's modules and the programs that only the guest needs (an NFS server, the compiler of AppArmor profiles).
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KERNEL = "linux-image-amd64"  # depends on the image of the day
PROGRAMS = ("nfs-kernel-server", "apparmor")
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")  # the rest is loaded from the layer
FIRST_INIT = Path(__file__).with_name("initramfs.sh")
BUSYBOX = "/usr/bin/busybox"
FETCH_S = 300
BZIMAGE_PAYLOAD_AT = 0x248  # offset and length of the compressed kernel; the boot protocol from 2.08 on
BZIMAGE_SETUP_SECTORS_AT = 0x1F1
XZ = b"\xfd7zXZ"
VERSION = 2  # of what is made here: a cache of another one is of no use


class NotAvailable(Exception):
    """The guest cannot be had; the text says what failed and what to do."""


@dataclass(frozen=True, slots=True)
class Guest:
    release: str
    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "kernel"

    @property
    def initramfs(self) -> Path:
        return self.directory / "initramfs"

    @property
    def layer(self) -> Path:
        return self.directory / "layer"


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastcontainer" / "vm"


def prepare(cache: Path | None = None) -> Guest:
    """Raises NotAvailable. Two at once make it once."""
    cache = cache or cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        image = kernel_package(_run("apt-cache", "depends", KERNEL))
        guest = Guest(image.removeprefix("linux-image-"), cache / f"{image}-{VERSION}")
        if not guest.directory.is_dir():
            _make(guest, image)
        _remove_others(cache, guest.directory)
        # The scripts are the checkout's, not the cache's.
        _make_initramfs(guest)
    return guest


def kernel_package(depends: str) -> str:
    """Pure: what `apt-cache depends` says -> the package of today's kernel."""
    found = re.search(r"^\s*Depends: (linux-image-\S+)$", depends, re.MULTILINE)
    if not found:
        raise NotAvailable(
            f"apt knows no package {KERNEL} (run `apt-get update`; only Debian's kernels are known here)"
        )
    return found[1]


def wanted_packages(simulation: str) -> list[str]:
    """Pure: what `apt-get --simulate install` would install here, that is: what is missing."""
    return [line.split()[1] for line in simulation.splitlines() if line.startswith("Inst ")]


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(guest: Guest, image: str) -> None:
    """Under another name first: what is half made is never taken for whole."""
    with tempfile.TemporaryDirectory(dir=guest.directory.parent, prefix="half-made-") as name:
        half = Guest(guest.release, Path(name) / "guest")
        packages = Path(name) / "packages"
        packages.mkdir()
        half.layer.mkdir(parents=True)
        _download(packages, image)
        for package in sorted(packages.iterdir()):
            _run("dpkg", "--extract", str(package), str(half.layer))
        _merge_usr(half.layer)
        _run("depmod", "--basedir", str(half.layer / "usr"), guest.release)
        half.kernel.write_bytes(unpacked_kernel((half.layer / "boot" / f"vmlinuz-{guest.release}").read_bytes()))
        shutil.rmtree(half.layer / "boot")
        half.directory.rename(guest.directory)


def _download(directory: Path, image: str) -> None:
    try:
        _download_once(directory, image)
    except NotAvailable:  # the lists are old: apt wants a version that is no longer there
        _run("apt-get", "-q", "update")
        _download_once(directory, image)


def _download_once(directory: Path, image: str) -> None:
    simulation = _run("apt-get", "--simulate", "--no-install-recommends", "install", *PROGRAMS)
    _run("apt-get", "-q", "download", image, *wanted_packages(simulation), cwd=directory)


def _merge_usr(layer: Path) -> None:
    """Packages of Debian 12 still ship /lib and /sbin; over the host's root they would hide its links of these names."""
    for name in ("lib", "lib64", "bin", "sbin"):
        old, new = layer / name, layer / "usr" / name
        if old.is_dir() and not old.is_symlink():
            for directory, _, files in os.walk(old):
                target = new / Path(directory).relative_to(old)
                target.mkdir(parents=True, exist_ok=True)
                for file in files:
                    Path(directory, file).rename(target / file)
            shutil.rmtree(old)


def unpacked_kernel(image: bytes) -> bytes:
    """The ELF file inside, which no emulated processor need decompress; of a compression not known here, the image itself."""
    offset, size = (int.from_bytes(image[at : at + 4], "little") for at in (BZIMAGE_PAYLOAD_AT, BZIMAGE_PAYLOAD_AT + 4))
    begin = (image[BZIMAGE_SETUP_SECTORS_AT] + 1) * 512 + offset
    payload = image[begin : begin + size]
    if not payload.startswith(XZ):
        return image
    # Behind the stream stands its length, which xz calls garbage.
    done = subprocess.run(
        ("xz", "--decompress", "--stdout", "--single-stream"), input=payload, capture_output=True, check=True
    )
    return done.stdout


def _make_initramfs(guest: Guest) -> None:
    with tempfile.TemporaryDirectory(dir=guest.directory, prefix="half-made-") as name:
        root = Path(name) / "root"
        for directory in ("bin", "dev", "proc", "sys", "host", "layer", "share", "writable", "root", "modules"):
            (root / directory).mkdir(parents=True)
        shutil.copy(BUSYBOX, root / "bin" / "busybox")
        shutil.copy(FIRST_INIT, root / "init")
        (root / "init").chmod(0o755)
        order = [_copy_module(path, root / "modules") for path in _modules(guest)]
        (root / "modules" / "order").write_text("".join(f"{each}\n" for each in order))
        names = "".join(f"{path.relative_to(root)}\n" for path in root.rglob("*"))
        command = ("cpio", "--create", "--format=newc", "--quiet")
        done = subprocess.run(command, input=names.encode(), cwd=root, capture_output=True, check=True)
        (Path(name) / "initramfs").write_bytes(done.stdout)
        (Path(name) / "initramfs").rename(guest.initramfs)


def _modules(guest: Guest) -> Iterable[Path]:
    """In the order of loading."""
    command = ("modprobe", "--dirname", str(guest.layer / "usr"), "--set-version", guest.release, "--show-depends")
    return dict.fromkeys(path for name in BOOT_MODULES for path in insmod_paths(_run(*command, name)))


def insmod_paths(shown: str) -> list[Path]:
    """Pure: of what `modprobe --show-depends` says. What is built in needs no file."""
    return [Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod ")]


def _copy_module(source: Path, directory: Path) -> str:
    target = directory / source.name
    shutil.copy(source, target)
    if source.suffix == ".xz":
        subprocess.run(("xz", "--decompress", str(target)), check=True)
        return target.stem
    return target.name


def _remove_others(cache: Path, kept: Path) -> None:
    """Older kernels, and what killed runs left."""
    for entry in cache.iterdir():
        if entry.is_dir() and entry != kept:
            shutil.rmtree(entry)


def _run(*command: str, cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return _output(command, environment, cwd)


def _output(command: Sequence[str], environment: dict[str, str], cwd: Path | None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_S
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise NotAvailable(f"{' '.join(command)}: {error} (./quickstart test installs what is needed)") from error
    if done.returncode:
        raise NotAvailable(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout
