"""Keeps what is in front of the lanes as the CMDB and the operator want it: certificates, challenges, the rules of each app.

Certificates are the operator's files (`certificate_dir`/NAME.pem) and keys of the CMDB; of two with one name the file counts. One
that breaks a rule is left out, with the reason in the log; what HAProxy had of that name before stays.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from dispatcher.cmdb import keys
from dispatcher.cmdb.cache import Change, CMCache
from dispatcher.cmdb.keys import Field
from dispatcher.cmdb.store import Store
from dispatcher.domain import Front, Switch
from dispatcher.tasks import border
from dispatcher.userlb import certificates, private
from dispatcher.userlb.certificates import Certificate
from dispatcher.userlb.config import Pool
from dispatcher.userlb.entrance import Entrance
from dispatcher.userlb.haproxy import CommandFailed, Runtime
from dispatcher.userlb.private import Private

LOOK_S = 5.0  # between two looks at the operator's directory, and at what HAProxy has
REST_S = 0.1  # between two turns, whatever comes in
SLICE_APPS = 500

_log = logging.getLogger(__name__)


class Gate:
    def __init__(self, pool: Pool, cache: CMCache, store: Store, certificate_dir: str) -> None:
        self._pool = pool
        self._cache = cache
        self._directory = certificate_dir
        self._entrance = Entrance(pool, Runtime(pool))
        self._wake = asyncio.Event()
        self.private = Private(store, self._wake.set)
        self._fronts: dict[str, Front] = {}  # of apps that ask for something
        self._installed: dict[str, Certificate] | None = None  # None: not known
        self._parsed: dict[tuple[str, str, bytes], Certificate] = {}
        self._refused: dict[str, str] = {}
        cache.on_change(self._changed)

    def _changed(self, change: Change) -> None:
        match change.key:
            case keys.SpecKey(app) | keys.WordKey(app, Field.SWITCH):
                self._look_at(app)
                self._wake.set()
            case keys.DomainKey():
                self._wake.set()

    def _look_at(self, name: str) -> None:
        app = self._cache.app(name)
        front = Front() if app is None else app.spec.front
        if app is not None and app.switch is not Switch.ON:
            front = msgspec.structs.replace(front, static={})  # its files are off, too
        if front == Front():
            self._fronts.pop(name, None)
        else:
            self._fronts[name] = front

    async def run(self) -> None:
        """Once CMCache is loaded and HAProxy runs."""
        for count, name in enumerate(list(self._cache.apps()), 1):
            self._look_at(name)
            if count % SLICE_APPS == 0:
                await asyncio.sleep(0)
        while True:
            self._wake.clear()
            with border("what is in front"):
                await self.turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            await asyncio.sleep(REST_S)

    async def turn(self) -> None:
        try:
            await self._entrance.rule(self._cache.domains() if self._fronts else {}, self._fronts)
            if self.private.loaded:
                await self._entrance.challenge(private.challenges(self.private.values))
            if self._pool.secure and self.private.loaded:  # else those of the CMDB would be taken out
                await self._certify()
        except (OSError, CommandFailed) as error:
            _log.warning("HAProxy: %s", error or type(error).__name__)

    async def _certify(self) -> None:
        found, refused = gather(self._directory, self.private.values, self._parsed)
        for name, why in refused.items():
            if self._refused.get(name) != why:
                _log.warning("%s", why)
            if self._installed and name in self._installed:
                found[name] = self._installed[name]
        self._refused = refused
        if found != self._installed:
            self._installed = None
            await self._entrance.certify(found)
            self._installed = found


def gather(
    directory: str, values: Mapping[str, bytes], parsed: dict[tuple[str, str, bytes], Certificate]
) -> tuple[dict[str, Certificate], dict[str, str]]:
    """The certificates by name, and why others are none. `parsed`: what was read before, and is now."""
    sources = {
        key.removeprefix(private.CERTIFICATES): (key, value)
        for key, value in values.items()
        if key.startswith(private.CERTIFICATES)
    }
    refused: dict[str, str] = {}
    for file in sorted(Path(directory).glob("*.pem")):
        try:
            sources[file.stem] = (str(file), file.read_bytes())
        except OSError as error:
            refused[file.stem] = (
                f"certificate {file.stem!r} in {file}: {error.strerror}; the UserLB's user has to be able to read it"
            )
    found = {}
    for name, (source, pem) in sources.items():
        try:
            found[name] = parsed.get((name, source, pem)) or certificates.parse(name, pem, source)
        except ValueError as error:
            refused[name] = str(error)
    parsed.clear()
    parsed |= {(name, *sources[name]): certificate for name, certificate in found.items()}
    return found, refused
