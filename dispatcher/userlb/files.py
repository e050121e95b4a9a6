"""`fastcontainer files`: robots.txt, favicons and trees of files that apps let be served without waking them (front.static).

HAProxy sends it what is to be had here, over a socket that only its user reaches, with the app's name. It runs as the proxies' user
and so reads only what everybody on the host may read.
"""

import asyncio
import logging
import mimetypes
import os
import signal
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from dispatcher import pages
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.client import EtcdStore
from dispatcher.domain import App, Switch
from dispatcher.settings import Settings
from dispatcher.userlb.beneath import open_file

APP = "X-FastContainer-App"
REQUEST_ID = "X-Request-Id"
HEAD_BYTES_MAX = 24 << 10  # a little more than HAProxy lets through
STOP_S = 10.0
_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")

_log = logging.getLogger(__name__)


class Place(NamedTuple):
    mount: str  # on the host
    path: str  # beneath it
    tree: str  # beginning of `path` in which links are followed; empty: none is
    is_tree: bool


def place_of(app: App, url: str) -> Place | None:
    """Where the file lies that a URL's path names; None if it is not to be had here. `url` as it came, percent-encoded."""
    path = unquote(url)
    if "\0" in path or ".." in path.split("/") or "//" in path:
        return None
    static = app.spec.front.static
    if path in static and not path.endswith("/"):
        return _beneath(app, static[path], "")
    found = max((each for each in static if each.endswith("/") and path.startswith(each)), key=len, default=None)
    if found is None or path.endswith("/"):
        return None
    return _beneath(app, static[found] + path.removeprefix(found), static[found])


def _beneath(app: App, path: str, tree: str) -> Place | None:
    """By the mount whose target is nearest above the file; one within the tree is a tree of its own."""
    targets = [each for each in app.spec.mounts if path.startswith(each.target.rstrip("/") + "/")]
    if not targets:
        return None
    mount = max(targets, key=lambda each: len(each.target))
    cut = len(mount.target.rstrip("/")) + 1
    return Place(mount.source, path[cut:], tree[cut:], bool(tree))


def content_type(path: str) -> str:
    found, encoding = mimetypes.guess_type(path, strict=False)
    if found is None or encoding is not None:
        return "application/octet-stream"
    return f"{found}; charset=utf-8" if found.startswith(_TEXT) else found


class Files:
    def __init__(self, cache: CMCache) -> None:
        self._cache = cache

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return _page(request, pages.not_a_file(405, request.headers.get(REQUEST_ID, ""), _accept(request)))
        url = request.rel_url.raw_path
        app = self._cache.app(request.headers.get(APP, ""))
        place = place_of(app, url) if app is not None and app.switch is Switch.ON else None
        file = None if place is None else await asyncio.to_thread(_opened, place)
        if place is None or file is None:
            return _page(request, pages.not_a_file(404, request.headers.get(REQUEST_ID, ""), _accept(request)))
        return _Opened(file, place)


class _Opened(web.FileResponse):
    """aiohttp opens by name: a descriptor's own entry in /proc leads to this very file, whatever becomes of its name."""

    def __init__(self, file: int, place: Place) -> None:
        super().__init__(f"/proc/self/fd/{file}", headers=_fields(place))
        self._file = file

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        try:
            return await super().prepare(request)
        finally:
            os.close(self._file)


def _fields(place: Place) -> Mapping[str, str]:
    return {hdrs.CONTENT_TYPE: content_type(place.path), "X-Content-Type-Options": "nosniff"}


def _opened(place: Place) -> int | None:
    try:
        return open_file(place.mount, place.path, tree=place.tree or ("/" if place.is_tree else ""))
    except (OSError, ValueError):
        return None


def _accept(request: web.BaseRequest) -> str:
    return request.headers.get(hdrs.ACCEPT, "")


def _page(request: web.BaseRequest, page: pages.Page) -> web.Response:
    fields: dict[str, str] = {hdrs.CONTENT_TYPE: page.content_type.decode(), hdrs.CACHE_CONTROL: "no-store"}
    fields[REQUEST_ID] = request.headers.get(REQUEST_ID, "")
    return web.Response(status=page.status, body=page.body, headers=fields)


async def serve(settings: Settings, cache: CMCache, stop: asyncio.Event) -> None:
    """Until `stop`; what is under way may end."""
    server = web.Server(Files(cache).answer, max_line_size=HEAD_BYTES_MAX, max_field_size=HEAD_BYTES_MAX)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=STOP_S)
    await runner.setup()
    await web.UnixSite(runner, settings.files_socket).start()
    try:
        await stop.wait()
    finally:
        await runner.cleanup()


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = EtcdStore(settings)
    cache = CMCache(store)
    try:
        await cache.start()
        await serve(settings, cache, stop)
    finally:
        await cache.close()
        await store.close()


def main(settings: Settings) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_main(settings))
