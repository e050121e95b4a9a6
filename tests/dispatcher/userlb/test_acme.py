"""An authority on this machine (pebble) asks a real UserLB, and gives it a certificate."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from dispatcher.cli import certificates as cli
from dispatcher.coreapi import certificates as service
from dispatcher.problems import Problem
from dispatcher.userlb import acme, gate, private
from dispatcher.userlb.certificates import self_signed
from tests.fakes.ports import free_port


@asynccontextmanager
async def program(*words: str, **environment: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env=dict(os.environ) | environment
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def listens(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


@pytest.fixture
async def authority(world, tmp_path: Path, monkeypatch) -> AsyncIterator[str]:
    """The URL of its directory. All names lead to this machine, and it asks at the UserLB's port."""
    port, management, dns = free_port(), free_port(), free_port()
    own = self_signed(("localhost",), 1.7e9, "pebble")
    pem = tmp_path / "pebble.pem"
    pem.write_bytes(own.pem)
    config = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(pem),
        "privateKey": str(pem),
        "httpPort": world.port,
        "tlsPort": free_port(),
    }
    (tmp_path / "pebble.json").write_text(json.dumps({"pebble": config}))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    monkeypatch.setenv("FASTCONTAINER_USERLB_LISTEN", f"127.0.0.1:{world.port}")
    monkeypatch.setattr(gate, "REST_S", 0.01)
    nothing = ("-http01", "", "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{free_port()}")
    async with AsyncExitStack() as stack:
        names = ("pebble-challtestsrv", "-dns01", f"127.0.0.1:{dns}", "-defaultIPv6", "", *nothing)
        await stack.enter_async_context(program(*names))
        server = ("pebble", "-strict", "-config", str(tmp_path / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}")
        await stack.enter_async_context(program(*server, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0"))
        await listens(port)
        yield f"https://localhost:{port}/dir"


async def test_a_certificate_is_issued_and_nobody_is_woken(world, authority) -> None:
    await world.site("blog")
    made = await cli._issue(world.store, "blog", ["blog.test", "www.blog.test"], authority, "me@example.com")
    assert set(made.hosts) == {"blog.test", "www.blog.test"}
    assert (await service.list_certificates(world.store)) == [made]
    assert world.agent.ensures == []
    assert await world.store.list(private.CHALLENGES) == []
    account = (await world.store.get(private.ACCOUNT)).value
    assert await service.due(world.store, 0) == {}
    ((name, how),) = (await service.due(world.store, 100 * 365)).items()
    again = await cli._issue(world.store, name, how.hosts, how.directory, "")
    assert again.sha1 != made.sha1
    assert (await world.store.get(private.ACCOUNT)).value == account


async def test_what_the_authority_refuses_is_said_with_its_words(world, authority, monkeypatch) -> None:
    def publishes_nothing(token: str, answer: str) -> None:
        pass

    with pytest.raises(Problem, match=r"blog.test: .*404") as refusal:
        await asyncio.to_thread(acme.issue, authority, acme.new_account_key(), "", ["blog.test"], publishes_nothing)
    assert "port 80" in refusal.value.hint
    with pytest.raises(Problem, match="offers no http-01"):
        await cli._issue(world.store, "wild", ["*.blog.test"], authority, "")
    with pytest.raises(Problem, match=r"certificate name '../x'"):
        await cli._issue(world.store, "../x", ["blog.test"], authority, "")
    with pytest.raises(Problem, match="lower-case host name"):
        await cli._issue(world.store, "x", ["Blog Test"], authority, "")
    with pytest.raises(Problem, match=r"https://localhost:1/dir: "):
        await cli._issue(world.store, "x", ["blog.test"], "https://localhost:1/dir", "")
    monkeypatch.setattr(cli, "ANSWER_S", 0.1)
    await world.userlb.close(with_haproxy=True)
    world.store.down = False
    with pytest.raises(Problem, match="does not answer the challenge"):
        await cli._issue(world.store, "x", ["blog.test"], authority, "")
    assert await world.store.list(private.CHALLENGES) == []
    await world.start()
