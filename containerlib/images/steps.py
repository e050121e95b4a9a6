"""Provision steps: what is done to a root after its bootstrap, each under a name of its own.

A template is Python's string.Template: `$name` and `$$`, nothing else. It has no loops, no conditions and no way to run code, so a
template from a tenant can only be text; whoever needs more writes a script.
"""

import io
import re
import stat
import string
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from containerlib.bootstrap.usr import nameservers
from containerlib.cell import SCRIPT, Container
from containerlib.images import contents, recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import is_plain_path, require, require_time

_NAME = re.compile(r"[\w][\w .-]{0,62}")
_OWNER = re.compile(r"([a-z_][\w.-]*|\d{1,10})(:([a-z_][\w.-]*|\d{1,10}))?")
_NAME_RULE = "must be 1 to 63 letters, digits, spaces, '.', '_' and '-'"
_OWNER_RULE = "must be USER or USER:GROUP, names (of the image) or numbers"
_WRITE_S = 600.0

# A package's service would start in the middle of the build (Debian policy, 9.3.3.1).
_NO_SERVICES = "#!/bin/sh\nexit 101\n"


@dataclass(frozen=True, slots=True)
class Shell:
    """A script run by the image's own /bin/sh -e, or by what its `#!` line names, as root in the root as a container.

    It sees nothing of the host but, with `network`, its network; it may install packages, not mount, load modules or make devices.
    What it leaves in /tmp, /run and /dev is gone afterwards, and so is every process.
    """

    name: str
    script: str
    network: bool = True
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        require(self, "name", _NAME.fullmatch(self.name), _NAME_RULE)
        require(self, "script", self.script.strip(), "must not be empty")
        require_time(self)

    def recipe(self) -> str:
        return recipe.of(self)

    def apply(self, root: Path, bench: Bench) -> None:
        hosts = f"{Path('/etc/hosts').read_text().rstrip()}\n127.0.0.1 {bench.image}\n"
        files = {
            "/etc/resolv.conf": nameservers() if self.network else "",
            "/etc/hosts": hosts,
            "/usr/sbin/policy-rc.d": _NO_SERVICES,
        }
        container = Container(str(root), bench.image, self.network, self.script, files)
        command = (SCRIPT,) if self.script.startswith("#!") else ("/bin/sh", "-e", SCRIPT)
        env = {"HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
        remedy = f"correct the script of step {self.name!r}, then build again"
        bench.run(*command, timeout_s=self.timeout_s, env=env, container=container, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Copy:
    """A file, or what is in a directory, from the host to the path `to` of the image.

    Files that are there are replaced, directories keep their owners and modes. `mode` is for files, as in 0o644; None: each
    keeps its own.
    """

    name: str
    source: Path
    to: str
    owner: str = "0:0"
    mode: int | None = None

    def __post_init__(self) -> None:
        require(self, "name", _NAME.fullmatch(self.name), _NAME_RULE)
        require(self, "source", Path(self.source).is_absolute(), "must be an absolute path of the host")
        _require_target(self)

    def recipe(self) -> str:
        source = Path(self.source)
        if source.is_dir():
            return recipe.of(self, omit=("source",), contents=contents.digest(source))
        mode = f"{stat.S_IMODE(source.stat().st_mode):o}"
        return recipe.of(self, omit=("source",), contents=recipe.of_file(source), mode=mode)

    def apply(self, root: Path, bench: Bench) -> None:
        archive = bench.scratch / "copy.tar"
        # Through an archive, as that is unpacked from within the root: a link in the image would lead a copy out of it.
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(Path(self.source).resolve(), self.to.strip("/") or ".", filter=self._prepare)
        bench.unpack(archive, root, timeout_s=_WRITE_S, onto=True)

    def _prepare(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        mode = member.mode if self.mode is None or not member.isreg() else self.mode
        return _owned(member.replace(mode=mode, deep=False), self.owner)


@dataclass(frozen=True, slots=True)
class Template:
    """`text` with `$name` replaced by values["name"], written to the path `to` of the image."""

    name: str
    text: str
    to: str
    values: Mapping[str, str]
    owner: str = "0:0"
    mode: int = 0o644

    def __post_init__(self) -> None:
        require(self, "name", _NAME.fullmatch(self.name), _NAME_RULE)
        template = string.Template(self.text)
        require(self, "text", template.is_valid(), "a '$' must begin a name, or be written '$$'")
        missing = sorted(set(template.get_identifiers()) - set(self.values))
        require(self, "values", not missing, f"the text also needs: {', '.join(missing)}")
        _require_target(self)

    def recipe(self) -> str:
        return recipe.of(self)

    def apply(self, root: Path, bench: Bench) -> None:
        text = string.Template(self.text).substitute(self.values).encode()
        archive = bench.scratch / "template.tar"
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            member = tarfile.TarInfo(self.to.strip("/"))
            member.size, member.mode = len(text), self.mode
            tar.addfile(_owned(member, self.owner), io.BytesIO(text))
        bench.unpack(archive, root, timeout_s=_WRITE_S, onto=True)


def _require_target(step: Copy | Template) -> None:
    require(step, "to", is_plain_path(step.to), "must be an absolute path without '..'")
    require(step, "owner", _OWNER.fullmatch(step.owner), _OWNER_RULE)
    require(step, "mode", step.mode is None or 0 <= step.mode <= 0o7777, "must be from 0 to 0o7777")


def _owned(member: tarfile.TarInfo, owner: str) -> tarfile.TarInfo:
    """Names are looked up where the archive is unpacked; a user without a group goes with group 0."""
    user, _, group = owner.partition(":")
    member.uid, member.uname = (int(user), "") if user.isdecimal() else (0, user)
    member.gid, member.gname = (int(group or 0), "") if (group or "0").isdecimal() else (0, group)
    return member
