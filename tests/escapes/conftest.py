"""Hosts that lack some of their protections, and what hostile programs get out of them."""

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from dispatcher.compute.protocol import Live
from tests.escapes import launcher
from tests.escapes.cases import CASES
from tests.plugins.compute import Host, python, until
from tests.plugins.etcd import EtcdServer

LAUNCHER = launcher.__file__
ATTACKS = (Path(__file__).parent / "attacks.py").read_text()
VARIABLE = "ESCAPES_SECRET"  # in the launcher's environment
NEIGHBOUR = "neighbour-of-the-escapes"

Removed = frozenset[str]
HostWithout = Callable[..., AbstractAsyncContextManager[Host]]
Outcome = Callable[[str, Removed], Awaitable[str]]


def attack(*names: str) -> tuple[str, ...]:
    return python(f"{ATTACKS}\nmain({names!r})")


@pytest.fixture
def host_without(
    new_host: Callable[..., AbstractAsyncContextManager[Host]], monkeypatch: pytest.MonkeyPatch
) -> HostWithout:
    monkeypatch.setenv(VARIABLE, "secret")
    return lambda *removed: new_host(LAUNCHER, *removed)


@pytest.fixture(scope="session")
def _outcomes() -> dict[Removed, dict[str, str]]:
    return {}


@pytest.fixture
def outcome(host_without: HostWithout, etcd: EtcdServer, _outcomes: dict[Removed, dict[str, str]]) -> Outcome:
    """Of one attack where these protections are missing. All that are to be seen without the same ones run in one container."""

    async def find(name: str, removed: Removed) -> str:
        if removed not in _outcomes:
            names = [case.attack for case in CASES if removed in case.variants]
            async with host_without(*removed) as host:
                with targets(host, etcd) as found:
                    if "net namespace" not in removed:  # it would listen on the host's own port
                        await start_neighbour(host)
                    _outcomes[removed] = await outcomes(host, names, found)
        return _outcomes[removed][name]

    return find


async def start_neighbour(host: Host) -> Live:
    await host.app("neighbour", *python("serve()"), NEIGHBOUR, env={VARIABLE: "the neighbour's"})
    return await host.wake("neighbour")


async def outcomes(host: Host, names: list[str], targets: dict[str, Any], **spec: Any) -> dict[str, str]:
    await host.app("attacker", *attack(*names), env={"TARGETS": json.dumps(targets)}, **spec)
    await host.known("attacker")
    waking = asyncio.get_running_loop().create_task(host.ensure("attacker"))  # it never listens: in vain
    try:
        await until(lambda: "out end" in host.lines("attacker"), within_s=60, why="it did not end")
    finally:
        await waking
    return outcomes_in(host.lines("attacker"))


def outcomes_in(log: list[str]) -> dict[str, str]:
    lines = [line.removeprefix("out ") for line in log if line.startswith("out ")]
    return {name: how for name, _, how in (line.partition(" ") for line in lines)}


@contextlib.contextmanager
def targets(host: Host, etcd: EtcdServer) -> Iterator[dict[str, Any]]:
    """What there is to be had on the host."""
    secret = host.directory / "secret"
    secret.write_text("secret")
    shutil.copy("/usr/bin/id", host.content / "id")
    (host.content / "id").chmod(0o4755)
    address, _, port = etcd.endpoint.rpartition("//")[2].partition(":")
    with contextlib.ExitStack() as stack:
        local = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{host.directory}")
        abstract.listen()
        yield {
            "outside": str(secret),
            "handle": file_handle(secret).hex(),
            "disk": a_disk(),
            "neighbour": NEIGHBOUR,
            "variable": f"{VARIABLE}=",
            "key": launcher.KEY.decode(),
            "shared_memory": stack.enter_context(shared_memory()),
            "abstract": str(host.directory),
            "loopback": local.getsockname()[1],
            "etcd": (address, int(port)),
        }


def a_disk() -> int:
    return next(os.makedev(*map(int, path.read_text().split(":"))) for path in Path("/sys/block").glob("*/dev"))


def file_handle(path: Path) -> bytes:
    """As open_by_handle_at takes it."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136)
    mount_id = ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount_id), 0) < 0:
        raise OSError(ctypes.get_errno(), "name_to_handle_at", str(path))
    return handle.raw[: 8 + int.from_bytes(handle.raw[:4], "little")]


@contextlib.contextmanager
def shared_memory() -> Iterator[int]:
    """Key of a segment of the host's that anybody may read."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    key = 0x0FC00000 + os.getpid()
    if (number := libc.shmget(key, 4096, 0o1666)) < 0:  # IPC_CREAT
        raise OSError(ctypes.get_errno(), "shmget")
    try:
        address = libc.shmat(number, None, 0)
        ctypes.memmove(address, b"secret", 7)
        libc.shmdt(ctypes.c_void_p(address))
        yield key
    finally:
        libc.shmctl(number, 0, None)  # IPC_RMID
