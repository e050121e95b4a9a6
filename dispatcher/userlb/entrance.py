"""HAProxy's certificates, challenges and rules: files first, then the same over the runtime socket, without a reload.

    prepare(pool, now)                      before HAProxy starts: it refuses to without its files
    entrance = Entrance(pool, runtime)
    await entrance.certify(certificates)    each makes HAProxy equal to what is given, by difference from what it has
    await entrance.challenge(answers)
    await entrance.rule(domains, fronts)

The files are complete before the first command, so that a HAProxy that starts in between has all, too. What a command fails at
(CommandFailed, OSError) the next call makes good, or a reload.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from dispatcher.domain import Front
from dispatcher.userlb import fronts
from dispatcher.userlb.certificates import DEFAULT, Certificate, self_signed
from dispatcher.userlb.config import Pool
from dispatcher.userlb.haproxy import CommandFailed, Runtime

_DEFAULT_HOST = "fastcontainer.invalid"
_SHA1 = re.compile(r"SHA1 FingerPrint: ([0-9A-F]{40})")
_DONE = re.compile(
    r"^Success!|^New empty certificate store|^Transaction (?:created|updated) | deleted(?: in crtlist .*)?!$"
)
_LISTED = re.compile(r"(.+):(\d+)")


def prepare(pool: Pool, now: float) -> None:
    """What HAProxy opens when it starts. Nothing that is there already is changed."""
    for path in (*pool.front_maps, pool.challenges):
        Path(path).touch()
    if not pool.secure:
        return
    Path(pool.certificates).mkdir(mode=0o700, exist_ok=True)
    default = Path(pool.certificates, f"{DEFAULT}.pem")
    if not default.exists():
        _write(default, self_signed((_DEFAULT_HOST,), now).pem)
    if not Path(pool.certificate_list).exists():
        _write(Path(pool.certificate_list), f"{default}\n".encode())


class Entrance:
    def __init__(self, pool: Pool, runtime: Runtime) -> None:
        self._pool = pool
        self._runtime = runtime

    async def certify(self, wanted: Mapping[str, Certificate]) -> None:
        """By name. Without one that is called `default` there is the one that `prepare` made."""
        paths = {self._path(name): certificate for name, certificate in wanted.items()}
        default = self._path(DEFAULT)
        listed = [default, *sorted(path for path in paths if path != default)]
        for path, certificate in paths.items():
            _write(Path(path), certificate.pem)
        _write(Path(self._pool.certificate_list), "".join(f"{path}\n" for path in listed).encode())
        await self._install(paths, default)
        _keep_only(Path(self._pool.certificates), listed)

    async def _install(self, paths: Mapping[str, Certificate], default: str) -> None:
        known = await self._known()
        lines = await self._lines()
        for path, certificate in paths.items():
            if path not in known:
                await self._do(f"new ssl cert {path}")
            if known.get(path) != certificate.sha1:
                await self._do(f"set ssl cert {path}", certificate.pem.decode())
                await self._do(f"commit ssl cert {path}")
            if path not in lines:
                await self._do(f"add ssl crt-list {self._pool.certificate_list} {path}")
        for path in known:
            if path not in paths and path != default:
                for number in lines.get(path, ()):
                    await self._do(f"del ssl crt-list {self._pool.certificate_list} {path}:{number}")
                await self._do(f"del ssl cert {path}")

    async def _known(self) -> dict[str, str]:
        """HAProxy's certificates: path -> SHA-1 of the leaf, empty for one that is still to be set."""
        names = [line for line in await self._runtime.say("show ssl cert") if line.startswith("/")]
        known = {}
        for name in names:
            match = _SHA1.search("\n".join(await self._runtime.say(f"show ssl cert {name}")))
            known[name] = match[1].lower() if match else ""
        return known

    async def _lines(self) -> dict[str, list[int]]:
        """Path -> its lines in the list that HAProxy looks through."""
        lines: dict[str, list[int]] = {}
        for line in await self._runtime.say(f"show ssl crt-list -n {self._pool.certificate_list}"):
            if match := _LISTED.fullmatch(line.split(" ")[0]):
                lines.setdefault(match[1], []).append(int(match[2]))
        return lines

    def _path(self, name: str) -> str:
        return f"{self._pool.certificates}/{name}.pem"

    async def challenge(self, answers: Mapping[str, str]) -> None:
        """Token -> key authorization."""
        await self._fill(self._pool.challenges, answers)

    async def rule(self, domains: Mapping[str, str], wanted: Mapping[str, Front]) -> None:
        hosts, wildcards = fronts.maps(domains, wanted)
        files, trees = fronts.static_paths(wanted)
        entries = (hosts, wildcards, files, trees) if self._pool.files else (hosts, wildcards)
        for path, each in zip(self._pool.front_maps, entries, strict=False):
            await self._fill(path, each)

    async def _fill(self, path: str, wanted: Mapping[str, str]) -> None:
        _write(Path(path), fronts.text(wanted).encode())
        rows = (line.split(" ", 2) for line in await self._runtime.say(f"show map {path}"))
        actual = {key: value for _, key, value in rows}
        for command in fronts.commands(path, actual, wanted):
            await self._do(command)

    async def _do(self, word: str, payload: str = "") -> None:
        answer = await self._runtime.say(word, payload)
        if answer and not _DONE.search(answer[-1]):
            raise CommandFailed(f"{word}: {' '.join(answer)}")


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing, and for nobody else's eyes."""
    if path.exists() and path.read_bytes() == data:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_bytes(data)
    fresh.rename(path)


def _keep_only(directory: Path, paths: Collection[str]) -> None:
    for file in directory.iterdir():
        if str(file) not in paths:
            file.unlink()
