"""What is served without its app, by HAProxy and `fastcontainer files` together."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dispatcher.cmdb import keys
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Put
from dispatcher.domain import App, AppSpec, Front, Mount
from dispatcher.settings import Settings
from dispatcher.tasks import Tasks
from dispatcher.userlb import files
from dispatcher.userlb.entrance import Entrance
from dispatcher.userlb.files import Place, place_of
from tests.fakes.clients import Connection
from tests.plugins.installation import wait_for

STATIC = {
    "/robots.txt": "/srv/www/robots.txt",
    "/css/": "/srv/www/assets/",
    "/all/": "/srv/www/",
    "/no": "/elsewhere/no",
}
MOUNTS = (Mount("/data/blog", "/srv/www"), Mount("/data/up", "/srv/www/assets/up"))
APP = App("blog", AppSpec(("x",), mounts=MOUNTS, front=Front(static=STATIC)))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("/robots.txt", Place("/data/blog", "robots.txt", "", False)),
        ("/css/a/b.css", Place("/data/blog", "assets/a/b.css", "assets/", True)),
        ("/css/%C3%A9.css", Place("/data/blog", "assets/é.css", "assets/", True)),
        ("/css/up/x", Place("/data/up", "x", "", True)),
        ("/all/x", Place("/data/blog", "x", "", True)),
        ("/robots.txt2", None),
        ("/css/", None),
        ("/css/a/", None),
        ("/css", None),
        ("/css/../x", None),
        ("/css/%2e%2e/x", None),
        ("/css//etc/passwd", None),
        ("/css/%00", None),
        ("/no", None),
    ],
)
def test_places(url: str, place: Place | None) -> None:
    assert place_of(APP, url) == place


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.css", "text/css; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_content_type(path: str, kind: str) -> None:
    assert files.content_type(path) == kind


RUN = tempfile.gettempdir() + "/fc-files-test"  # short: a socket's path has 108 characters


@pytest.fixture
async def content(front, tmp_path: Path) -> AsyncIterator[Path]:
    """The app's mount; its files are served, and the UserProxy answers what is not."""
    root = tmp_path / "www"
    (root / "assets").mkdir(parents=True)
    (root / "robots.txt").write_text("User-agent: *\n")
    (root / "assets/site.css").write_text("p{}")
    (root / "assets/big").write_bytes(bytes(range(256)) * 40_000)
    (root / "wp-config.php").write_text("secret")
    (root / "assets/leak").symlink_to("../wp-config.php")
    static = {url: path for url, path in STATIC.items() if url != "/all/"}
    spec = AppSpec(("x",), mounts=(Mount(str(root), "/srv/www"),), front=Front(static=static))
    store, tasks, stop = MemoryStore(), Tasks(), asyncio.Event()
    rows = {keys.spec_key("blog"): msgspec.json.encode(spec), keys.domain_key("blog.test"): b"blog"}
    await store.commit([], [Put(key, value) for key, value in rows.items()])
    cache = CMCache(store)
    await cache.start()
    os.makedirs(f"{RUN}/userlb", exist_ok=True)  # noqa: PTH103
    serving = tasks.start(files.serve(Settings(run_dir=RUN), cache, stop), name="files")
    await Entrance(front.pool, front.runtime).rule({"blog.test": "blog"}, {"blog": spec.front})

    async def served() -> bool:
        return (await front.ask("blog.test", "/robots.txt")).body != b"proxy"

    await wait_for(served, 5)  # HAProxy asks once a second whether anybody is there
    front.heads.clear()
    yield root
    stop.set()
    await serving
    await cache.close()
    await store.close()
    shutil.rmtree(RUN)


PARAM = pytest.mark.parametrize("front", [{"files": f"{RUN}/userlb/files.sock"}], indirect=True)


@PARAM
async def test_files_and_nothing_else_without_waking_anybody(front, content) -> None:
    robots = await front.ask("blog.test", "/robots.txt")
    assert (robots.status, robots.body) == (200, b"User-agent: *\n")
    assert robots.headers["content-type"] == "text/plain; charset=utf-8"
    assert robots.headers["x-content-type-options"] == "nosniff"
    head = await front.ask("blog.test", "/css/site.css?v=1", "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, "3", b"")
    css = await front.ask("Blog.Test.:80", "/css/site.css")
    assert css.body == b"p{}"
    again = {"if-none-match": css.headers["etag"]}, {"if-modified-since": css.headers["last-modified"]}
    assert [(await front.ask("blog.test", "/css/site.css", **each)).status for each in again] == [304, 304]
    part = await front.ask("blog.test", "/css/big", range="bytes=256-259")
    assert (part.status, part.body, part.headers["content-range"]) == (
        206,
        b"\x00\x01\x02\x03",
        "bytes 256-259/10240000",
    )
    assert (await front.ask("blog.test", "/css/big", range="bytes=99999999-")).status == 416
    whole = await front.ask("blog.test", "/css/big")
    assert whole.body == (content / "assets/big").read_bytes()
    for path in ("/css/none", "/css/leak", "/css/%2e%2e/wp-config.php", "/css/../wp-config.php", "/css/", "/no"):
        missing = await front.ask("blog.test", path, accept="text/html")
        assert (missing.status, b"Not found" in missing.body, b"secret" in missing.body) == (404, True, False), path
        assert missing.headers["x-request-id"].encode() in missing.body
    assert front.heads == []


@PARAM
async def test_what_is_not_to_be_read_here_goes_to_the_app(front, content) -> None:
    for host, path, method in (
        ("blog.test", "/css/site.css", "POST"),
        ("blog.test", "/robots.txt2", "GET"),
        ("blog.test", "/wp-config.php", "GET"),
        ("blog.test", "/%63ss/site.css", "GET"),
        ("other.test", "/robots.txt", "GET"),
    ):
        fields = {"content_length": "0"} if method == "POST" else {}
        answer = await front.ask(host, path, method, x_fastcontainer_app="blog", **fields)
        assert answer.body == b"proxy", (host, path)


@PARAM
async def test_a_reader_that_stops_reading_holds_up_nobody(front, content) -> None:
    slow = await Connection.open(front.port)
    slow.send(b"GET /css/big HTTP/1.1\r\nHost: blog.test\r\n\r\n")
    await slow.head()
    assert (await front.ask("blog.test", "/robots.txt")).status == 200
    slow.close()
    assert (await front.ask("blog.test", "/css/big")).status == 200
