"""A CRIU for machines whose distribution has none that works: Debian's newest, unpacked beside its libraries and not installed.

    python -m containerlib.checkpoint.obtain [DIRECTORY]

The mirror is the one that this machine's own apt uses, and apt checks signatures and digests as it always does; only its lists, its
archive and its idea of what is installed (nothing) are in a directory that goes afterwards. What is there already is kept.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from containerlib.checkpoint.criu import UNPACKED, VARIABLE, Unavailable, check, find

SUITE = "sid"  # bookworm and trixie have versions that fail on current kernels
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_TIMEOUT_S = 300.0
_FORMAT = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)"


def mirror(targets: str) -> str:
    """Pure: what `apt-get indextargets` says, a line each of _FORMAT -> Debian's archive itself, as this machine reaches it. Raises
    Unavailable."""
    for line in targets.splitlines():
        origin, codename, uri = line.split("|", 2)
        if origin == "Debian" and not codename.endswith(("-security", "-updates", "-backports")):
            return uri.rstrip("/")
    raise Unavailable(f"apt of this machine knows no archive of Debian: install CRIU by hand and set {VARIABLE} to it")


def source(uri: str, keyring: str) -> str:
    """Pure: a line for apt's sources.list."""
    return f"deb [signed-by={keyring}] {uri} {SUITE} main\n"


def options(directory: Path) -> tuple[str, ...]:
    """Pure: of apt, for it to work in `directory`; the machine's own configuration (proxies, credentials) holds on."""
    words = {
        "Dir::State": directory / "state",
        "Dir::State::status": directory / "status",
        "Dir::Cache": directory / "cache",
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "Acquire::Languages": "none",
        "APT::Update::Error-Mode": "any",
        "APT::Sandbox::User": "root",  # the directory is root's alone
        "Debug::NoLocking": "true",
    }
    return tuple(word for name, value in words.items() for word in ("-o", f"{name}={value}"))


def obtain(directory: Path = UNPACKED) -> str:
    """Its version. Raises Unavailable."""
    directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _alone(directory.parent):
        environment = {VARIABLE: str(directory)}
        try:
            return find(environment).version
        except Unavailable:
            _unpack(directory)
        return find(environment).version


def _unpack(directory: Path) -> None:
    uri = mirror(_run("apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"))
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".building-") as building:
        apt, root = Path(building, "apt"), Path(building, "root")
        for name in ("state/lists/partial", "cache/archives/partial"):
            (apt / name).mkdir(parents=True)
        root.mkdir(mode=0o755)
        (apt / "status").touch()
        (apt / "sources.list").write_text(source(uri, KEYRING))
        command = ("apt-get", "-q", *options(apt))
        _run(*command, "update")
        _run(*command, "install", "--yes", "--download-only", "--no-install-recommends", "criu")
        for package in sorted((apt / "cache/archives").glob("*.deb")):
            _run("dpkg-deb", "--extract", package, root)
        shutil.rmtree(directory, ignore_errors=True)  # one that did not run
        root.rename(directory)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    lock = os.open(directory / ".criu.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _run(*command: str | Path) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=APT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"CRIU could not be fetched: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise Unavailable(f"CRIU could not be fetched: {command[0]} ended with {done.returncode}: {said}")
    return done.stdout


def main(words: Sequence[str]) -> int:
    try:
        version = obtain(Path(words[0]) if words else UNPACKED)
        failure = check(find({VARIABLE: words[0]} if words else {}))
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"CRIU {version}\n")
    if failure:
        sys.stderr.write(f"CRIU {version} does not work on this kernel: {failure}\n")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
