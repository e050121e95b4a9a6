"""What a visitor meets before any container: certificates, redirects, files, an app's own page; and that nobody is woken for it."""

import json
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dispatcher.domain import Mount
from dispatcher.userlb.certificates import self_signed
from tests.acceptance.test_lanes import lane_of
from tests.fakes.ports import free_port
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.system

SETTINGS = {"userlb_listen": f"127.0.0.1:{free_port()}", "userlb_secure_listen": f"127.0.0.1:{free_port()}"}


async def visit(installation, host: str, ca: Path, path: str = "/") -> httpx.Response:
    """By HTTP/2, if the certificate is what it should be."""
    where = SETTINGS["userlb_secure_listen"]
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=ca), http2=True) as client:
        request = client.build_request("GET", f"https://{where}{path}", headers={"Host": host})
        request.extensions["sni_hostname"] = host
        return await client.send(request)


async def test_https_by_a_certificate_from_the_cmdb_asleep_and_awake(installation, tmp_path) -> None:
    await installation.create("blog")
    pem = tmp_path / "blog.pem"
    pem.write_bytes(self_signed(("blog.localhost",), time.time(), "blog").pem)
    installation.cli("certificate", "import", "blog", str(pem))
    installation.cli("app", "edit", "blog", "--https", "--hsts", "1h")

    async def certified() -> httpx.Response | None:
        try:
            return await visit(installation, "blog.localhost", pem)
        except httpx.ConnectError:
            return None

    response = await wait_for(certified, 10.0)
    assert (response.status_code, response.http_version) == (200, "HTTP/2")
    assert response.headers["strict-transport-security"] == "max-age=3600"
    redirect = await installation.ask("blog", "/a?b")
    assert (redirect.status, redirect.headers["location"]) == (308, "https://blog.localhost/a?b")
    await lane_of(installation, "blog")
    warm = await visit(installation, "blog.localhost", pem)
    assert (warm.status_code, warm.text) == (200, response.text)
    (live,) = await installation.running("blog")
    installation.cli("app", "edit", "blog", "--no-https", "--hsts", "")
    await wait_for(lambda: asked(installation, "blog"), 10.0)
    assert [each.life for each in await installation.running("blog")] == [live.life]  # nothing was restarted for it


async def asked(installation, app: str) -> bool:
    return (await installation.ask(app)).status == 200


@pytest.fixture
def content() -> Iterator[Path]:
    """That the files' process may read."""
    with tempfile.TemporaryDirectory() as name:
        content = Path(name)
        content.chmod(0o755)
        (content / "robots.txt").write_text("User-agent: *\n")
        (content / "key").write_text("secret")
        (content / "key").chmod(0o600)
        yield content


def logged(installation) -> set[tuple[str, int]]:
    path = Path(installation.settings.log_dir, "access/userlb.log")
    lines = map(json.loads, path.read_text().splitlines())
    return {(line["via"], line["status"]) for line in lines}


async def test_files_limits_and_pages_wake_nobody(installation, content, tmp_path) -> None:
    await installation.create("shop", mounts=(Mount(str(content), "/srv/www"),))
    page = tmp_path / "page.html"
    page.write_text("<p>soon")
    installation.cli(
        "app", "edit", "shop", "--static", "/robots.txt=/srv/www/robots.txt", "--static", "/f/=/srv/www/",
        "--body-max", "1K", "--maintenance-page", str(page),
    )  # fmt: skip

    async def served() -> bool:
        return (await installation.ask("shop", "/robots.txt")).body == b"User-agent: *\n"

    await wait_for(served, 10.0)
    woken = installation.cli_json("events", "shop")
    assert (await installation.ask("shop", "/f/robots.txt", "HEAD")).status == 200
    assert (await installation.ask("shop", "/f/key")).status == 404  # the files' process is nobody in particular
    assert (await installation.ask("shop", "/", "POST", content_length="1025")).status == 413
    assert installation.cli_json("events", "shop") == woken
    installation.etcdctl("put", "/fastcontainer/apps/shop/switch", "maintenance")

    async def worked_on() -> bool:
        return (await installation.ask("shop", accept="text/html")).body == b"<p>soon"

    await wait_for(worked_on, 10.0)

    async def off() -> bool:
        return (await installation.ask("shop", "/robots.txt")).status == 503

    await wait_for(off, 10.0)
    assert logged(installation) >= {("files", 200), ("files", 404), ("userlb", 413)}
