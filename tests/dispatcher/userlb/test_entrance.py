"""Certificates, challenges and rules come and go in a HAProxy that runs."""

import asyncio
import contextlib
import ssl
import time
from pathlib import Path

import pytest

from dispatcher.domain import Front
from dispatcher.userlb import fronts
from dispatcher.userlb.certificates import self_signed
from dispatcher.userlb.config import Pool
from dispatcher.userlb.entrance import Entrance
from dispatcher.userlb.haproxy import CommandFailed
from tests.fakes.ports import free_port

SECURE = {"secure": (f"127.0.0.1:{free_port()}",)}


async def shown(front, host: str, alpn: tuple[str, ...] = ()) -> tuple[tuple[str, ...], str | None]:
    """The hosts of the certificate that a client is shown, and the protocol that was agreed on."""
    from cryptography import x509

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    port = int(front.pool.secure[0].rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
    talk = writer.get_extra_info("ssl_object")
    names = x509.load_der_x509_certificate(talk.getpeercert(True)).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    agreed = talk.selected_alpn_protocol()
    writer.close()
    return tuple(names.value.get_values_for_type(x509.DNSName)), agreed


@pytest.mark.parametrize("front", [SECURE], indirect=True)
async def test_certificates_come_change_and_go_without_a_reload(front) -> None:
    now = time.time()
    entrance = Entrance(front.pool, front.runtime)
    before = await front.runtime.info()
    assert (await shown(front, "blog.test"))[0] == ("fastcontainer.invalid",)
    blog, shop = self_signed(("blog.test", "*.blog.test"), now, "blog"), self_signed(("shop.test",), now, "shop")
    await entrance.certify({"blog": blog, "shop": shop})
    assert await shown(front, "www.blog.test", ("h2", "http/1.1")) == (("blog.test", "*.blog.test"), "h2")
    assert await shown(front, "shop.test", ("http/1.1",)) == (("shop.test",), "http/1.1")
    assert (await shown(front, "other.test"))[0] == ("fastcontainer.invalid",)
    renewed = self_signed(("blog.test",), now, "blog")
    await Entrance(front.pool, front.runtime).certify({"blog": renewed, "default": self_signed(("all.test",), now)})
    assert (await shown(front, "blog.test"))[0] == ("blog.test",)
    assert (await shown(front, "shop.test"))[0] == ("all.test",)
    assert await front.runtime.info() == before
    check_files(front.pool)


def check_files(pool: Pool) -> None:
    files = {path.name: path.stat().st_mode & 0o777 for path in Path(pool.certificates).iterdir()}
    assert files == {"blog.pem": 0o600, "default.pem": 0o600}
    assert Path(pool.certificate_list).read_text().split() == [
        f"{pool.certificates}/{name}.pem" for name in ("default", "blog")
    ]
    assert Path(pool.certificates).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("front", [SECURE], indirect=True)
async def test_what_was_left_half_done_is_made_good(front) -> None:
    """Whichever command was the last before the controller was killed."""
    blog = self_signed(("blog.test",), time.time(), "blog")
    for last in range(5):
        entrance = Dying(front.pool, front.runtime)
        entrance.left = last
        with pytest.raises(ConnectionError) if last < 4 else contextlib.nullcontext():
            await entrance.certify({"blog": blog})
        await Entrance(front.pool, front.runtime).certify({"blog": blog})
        assert (await shown(front, "blog.test"))[0] == ("blog.test",)
        await Entrance(front.pool, front.runtime).certify({})
        assert (await shown(front, "blog.test"))[0] == ("fastcontainer.invalid",)


class Dying(Entrance):
    left = 0

    async def _do(self, word: str, payload: str = "") -> None:
        if not self.left:
            raise ConnectionError(word)
        self.left -= 1
        await super()._do(word, payload)


@pytest.mark.parametrize("front", [SECURE], indirect=True)
async def test_a_refused_command_is_named(front) -> None:
    entrance = Entrance(front.pool, front.runtime)
    with pytest.raises(CommandFailed, match="del ssl cert /nonexistent"):
        await entrance._do("del ssl cert /nonexistent")


async def test_challenges_are_answered_and_wake_nobody(front) -> None:
    entrance = Entrance(front.pool, front.runtime)
    path = "/.well-known/acme-challenge/"
    await entrance.challenge({"tOk_en-1": "tOk_en-1.thumb_print"})
    response = await front.ask("anything.test", path + "tOk_en-1")
    assert (response.status, response.body) == (200, b"tOk_en-1.thumb_print")
    for other in ("tok_en-1", "tOk_en-1/x", "", "x"):
        answer = (await front.ask("anything.test", path + other)).status
        assert answer == (200 if other == "tOk_en-1/x" else 404)
    await entrance.challenge({})
    assert (await front.ask("anything.test", path + "tOk_en-1")).status == 404
    assert front.asked("proxy") == 0


@pytest.mark.parametrize("front", [{"files": "/nonexistent"}], indirect=True)
async def test_maps_are_on_disk_for_the_next_haproxy(front) -> None:
    domains, wanted = {"blog.test": "blog", "*.blog.test": "blog"}, {"blog": Front(https=True, static={"/a": "/b"})}
    await Entrance(front.pool, front.runtime).rule(domains, wanted)
    assert on_disk(front.pool) == [*fronts.maps(domains, wanted), {"blog/a": "file"}, {}]


def on_disk(pool: Pool) -> list[dict[str, str]]:
    return [dict(line.split(" ") for line in Path(path).read_text().splitlines()) for path in pool.front_maps]
