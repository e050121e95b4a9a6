"""A whole UserLB: what people put into the CMDB and into the operator's directory is what visitors meet."""

import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from dispatcher.cmdb import keys
from dispatcher.domain import AppSpec, Front
from dispatcher.userlb import gate, private
from dispatcher.userlb.certificates import self_signed
from tests.dispatcher.userlb.conftest import World
from tests.dispatcher.userlb.test_entrance import shown
from tests.fakes.ports import free_port
from tests.plugins.installation import wait_for


@pytest.fixture
async def secured(world: World, tmp_path, monkeypatch) -> AsyncIterator[World]:
    """The same with TLS: the next controller has another configuration, and HAProxy is replaced."""
    monkeypatch.setattr(gate, "LOOK_S", 0.1)
    monkeypatch.setattr(gate, "REST_S", 0.01)
    before = world.userlb.controller.haproxy._children
    await world.userlb.close(with_haproxy=False)
    world.pool = replace(world.pool, secure=(f"127.0.0.1:{free_port()}",))
    world.settings = msgspec.structs.replace(world.settings, certificate_dir=str(tmp_path))
    await world.start()
    yield world
    for child in before:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)  # noqa: ASYNC222 - it was told to end


async def becomes(world: World, host: str, names: tuple[str, ...]) -> None:
    async def so() -> bool:
        return (await shown(world, host))[0] == names

    await wait_for(so, 5)


async def test_certificates_of_both_sources(secured, tmp_path, caplog) -> None:
    now = time.time()
    blog, shop = self_signed(("blog.test",), now, "blog"), self_signed(("shop.test",), now, "shop")
    await secured.put({private.CERTIFICATES + "blog": blog.pem})
    (tmp_path / "shop.pem").write_bytes(shop.pem)
    await becomes(secured, "blog.test", ("blog.test",))
    await becomes(secured, "shop.test", ("shop.test",))
    (tmp_path / "shop.pem").write_bytes(shop.pem[:-100])
    (tmp_path / "blog.pem").write_bytes(self_signed(("blog.test", "file.test"), now, "blog").pem)
    await becomes(secured, "blog.test", ("blog.test", "file.test"))
    assert f"certificate 'shop' in {tmp_path}/shop.pem: it has 0 private keys" in caplog.text
    await becomes(secured, "shop.test", ("shop.test",))
    (tmp_path / "shop.pem").unlink()
    await becomes(secured, "shop.test", ("fastcontainer.invalid",))
    await secured.userlb.close(with_haproxy=False)
    secured.store.down = False
    await secured.put({private.CERTIFICATES + "blog": None})
    (tmp_path / "blog.pem").unlink()
    await secured.start()
    await becomes(secured, "blog.test", ("fastcontainer.invalid",))
    assert "BEGIN" not in caplog.text


async def test_rules_and_challenges_come_from_the_cmdb(world, monkeypatch) -> None:
    monkeypatch.setattr(gate, "REST_S", 0.01)

    async def answers(status: int, host: str, path: str = "/") -> None:
        async def so() -> bool:
            return (await world.ask(host, path)).status == status

        await wait_for(so, 5)

    spec = AppSpec(command=("x",), front=Front(https=True))
    await world.put({keys.spec_key("blog"): msgspec.json.encode(spec), keys.domain_key("blog.test"): b"blog"})
    await answers(308, "blog.test")
    await world.put({keys.spec_key("blog"): msgspec.json.encode(AppSpec(command=("x",)))})
    await answers(200, "blog.test")
    challenge = "/.well-known/acme-challenge/tok"
    await world.put({private.CHALLENGES + "tok": b"tok.print"})
    await answers(200, "any.test", challenge)
    assert (await world.ask("any.test", challenge)).body == b"tok.print"
    await world.put({private.CHALLENGES + "tok": None})
    await answers(404, "any.test", challenge)
