"""Roots of apps that run on images: which version the next life has, who has which, and who puts it in place.

    root = await roots.find(app)               # in memory, unless the image or the spec has changed since
    roots.adoption(root, container, identity)  # for whoever puts it under the process that waits
    roots.release(root)

A version that is found is held until it is released by all; meanwhile nobody removes it. What reads files or runs for long is done
in a thread; when a request arrives, one look at the image's directory says whether what is known still holds.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from containerlib import rootfs, spec, starting
from containerlib.bootstrap import usr
from containerlib.checks import SpecError
from containerlib.handle import Container, StartFailed
from containerlib.identity import Identity
from containerlib.idmap import APP_USER
from containerlib.images import Image, ImageError, Store, hold, mark
from containerlib.plan import app_files
from containerlib.standalone.adopting import Adoption
from containerlib.standalone.resolving import resolve
from dispatcher.compute.defined import container_spec
from dispatcher.domain import App, AppSpec

KEPT = 1  # versions, beyond those in use
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Root:
    """An app's spec on one version of its image. `resolved`: with what the image itself says."""

    image: Image
    resolved: spec.ContainerSpec

    @property
    def name(self) -> str:
        return f"{self.image.manifest.name}@{self.image.version}"


@dataclass(frozen=True, slots=True)
class _Known:
    seen: int  # when the image's directory was changed last, in ns
    asked: tuple[AppSpec, spec.ContainerSpec | None]
    root: Root


class Roots:
    def __init__(self, store: Store, run_dir: Path) -> None:
        self._store = store
        self._stages = run_dir / "roots"  # kernels before 6.13 attach layers there, for a moment
        self._known: dict[str, _Known] = {}  # by app
        self._held: dict[str, int] = {}  # descriptors, by NAME@VERSION
        self._users: Counter[str] = Counter()

    async def find(self, app: App, definition: spec.ContainerSpec | None = None) -> Root:
        """To be released. `app`: with its definition applied. Raises StartFailed, which says what to do."""
        asked = (app.spec, definition)
        for _ in range(3):
            known = self._known.get(app.name)
            if known is None or known.asked != asked or known.seen != self._changed_at(app.spec.image):
                known = self._known[app.name] = await asyncio.to_thread(self._look, app, definition)
            try:
                self._hold(known.root)
            except ImageError:  # a newer version was built this moment, and this one removed
                del self._known[app.name]
                continue
            return known.root
        raise StartFailed(f"image {app.spec.image} changes all the time")

    def find_again(self, app: App, name: str) -> Root | None:
        """What a life of a former agent runs on, `name` as it wrote it down. None: it is damaged, or gone against all rules."""
        image, _, version = name.partition("@")
        try:
            root = Root(self._store.get(image, version), container_spec(app, None))
            self._hold(root)
        except (ImageError, ValueError, OSError) as error:
            _log.error("app %s runs on image %s: %s", app.name, name, error)
            return None
        return root

    def newest(self, app: App) -> str:
        """NAME@VERSION that its next life would run on, as far as that is known; empty if there is none."""
        known = self._known.get(app.name)
        return known.root.name if known and known.asked[0] == app.spec else ""

    async def prepare(self, app: App, definition: spec.ContainerSpec | None) -> None:
        """Looks ahead of the next start, which tells what is wrong."""
        with suppress(StartFailed):
            self.release(await self.find(app, definition))

    def changed(self) -> set[str]:
        """Apps of whose images there may be a newer version than is known."""
        at = {image: self._changed_at(image) for image in {known.asked[0].image for known in self._known.values()}}
        return {app for app, known in self._known.items() if known.seen != at[known.asked[0].image]}

    def forget(self, app: str) -> None:
        self._known.pop(app, None)

    def _changed_at(self, image: str) -> int:
        try:
            return os.stat(self._store.path / image).st_mtime_ns  # noqa: PTH116 - nothing faster, and it is on the path of requests
        except OSError:
            return 0

    def _look(self, app: App, definition: spec.ContainerSpec | None) -> _Known:
        seen, asked = self._changed_at(app.spec.image), app.spec
        try:
            image = self._store.newest(asked.image)
            if image is None:
                raise StartFailed(
                    f"image {asked.image!r} is not built on this host: there is no version in {self._store.path}/{asked.image}; "
                    "fastcontainer container create FILE builds it from its definition"
                )
            wanted = replace(container_spec(app, definition), root=spec.Image(f"{asked.image}@{image.version}"))
            if wanted.user.user is None and not image.manifest.config.user:
                wanted = replace(wanted, user=spec.User(APP_USER))
            image, resolved = resolve(wanted, self._store)
        except (SpecError, ImageError) as error:
            raise StartFailed(f"image {asked.image}: {error}") from error
        return _Known(seen, (asked, definition), Root(image, resolved))

    # ---- who has it

    def _hold(self, root: Root) -> None:
        if root.name not in self._held:
            self._held[root.name] = hold(root.image)
        self._users[root.name] += 1

    def release(self, root: Root) -> None:
        self._users[root.name] -= 1
        if not self._users[root.name]:
            del self._users[root.name]
            os.close(self._held.pop(root.name))

    async def remove_unused(self, images: Iterable[str]) -> list[str]:
        """Of these images all versions but the newest and what anybody runs on. Returns NAME@VERSION of those that went."""
        removed: list[str] = []
        for name in images:
            try:
                gone = await asyncio.to_thread(self._store.remove_unused, name, keep=KEPT)
            except (ImageError, OSError) as error:
                _log.warning("what of image %s is unused cannot be removed: %s", name, error)
                continue
            removed += [f"{name}@{version}" for version in gone]
        return removed

    def close(self) -> None:
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    # ---- putting it in place

    def adoption(self, root: Root, container: Container, identity: Identity) -> Adoption:
        """What the helper is to do while the process waits. From now on its version stays even if this agent dies."""
        try:
            mark(root.image, container.pid)
        except OSError as error:  # a full disk: it is held by us, which is enough while we live
            _log.warning("image %s is not marked as used: %s", root.name, error)
        files = {**app_files(identity), "resolv.conf": usr.nameservers()}
        return Adoption(
            image=str(root.image.root),
            stage=str(self._stages / str(container.slot)),
            base=identity.uid,
            mounts=tuple((each.source, each.target, each.readonly) for each in starting.binds(root.resolved)),
            targets=tuple(each.target for each in root.resolved.mounts if isinstance(each, spec.Tmpfs)),
            files={name: files[name] for name in starting.FILES_OF_ETC},
        )


def clear_stages(run_dir: Path) -> None:
    """What a helper that was killed left attached there."""
    stages = run_dir / "roots"
    if not stages.is_dir():
        return
    for stage in stages.iterdir():
        for layer in rootfs.LAYERS:
            rootfs.clear(stage / layer)
        stage.rmdir()
    stages.rmdir()
