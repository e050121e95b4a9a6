"""What a container may talk to, and where its links lead: held from outside of it, by the host's rules, the agent, and the walk to
a mount's source."""

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from containerlib import sources
from containerlib.firewall import table_name
from containerlib.network import Addresses
from containerlib.sources import open_source
from dispatcher.domain import Mount
from tests.escapes.conftest import HostWithout, outcomes, start_neighbour
from tests.plugins.compute import Host, fetch, python, until

pytestmark = pytest.mark.system


async def reached(host: Host, app: str, address: str, port: int) -> str:
    """Tried by a container of its own."""
    program = f"""
try: socket.create_connection(({address!r}, {port}), timeout=2).close(); print("reached", flush=True)
except OSError as error: print("held", flush=True)
serve()
"""
    await host.app(app, *python(program))
    await host.wake(app)
    await until(lambda: bool(host.lines(app)))
    return host.lines(app)[0]


def let_through(host: Host) -> None:
    table = table_name(Addresses.parse(host.settings.network).network)
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)


def forward_from(address: str) -> None:
    """As a host does that forwards; of this link only, which goes with its container."""
    route = json.loads(subprocess.check_output(["ip", "-j", "route", "get", address]))
    Path(f"/proc/sys/net/ipv4/conf/{route[0]['dev']}/forwarding").write_text("1")


async def test_the_host_is_not_reached_but_for_the_firewall(host: Host) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0")
    async with server:
        own = str(Addresses.parse(host.settings.network).host)
        port: int = server.sockets[0].getsockname()[1]
        assert await reached(host, "first", own, port) == "out held"
        let_through(host)
        assert await reached(host, "second", own, port) == "out reached"


# Asked, it dials: by then its link forwards, as a host's does that forwards.
DIALS = """
def answer(connection):
    connection.recv(65536)
    try:
        socket.create_connection((ADDRESS, 80), timeout=2).close()
        how = "reached"
    except OSError as error:
        how = "held"
    print(how, flush=True)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nok")
    connection.close()
serve()
"""


async def test_no_neighbour_is_reached_even_where_the_host_forwards(host: Host) -> None:
    neighbour = (await start_neighbour(host)).address
    address = neighbour.partition(":")[0]
    await host.app("blog", *python(DIALS.replace("ADDRESS", repr(address))))
    blog = (await host.wake("blog")).address
    for each in (neighbour, blog):
        forward_from(each.partition(":")[0])
    await fetch(blog)
    let_through(host)
    await fetch(blog)
    await until(lambda: len(host.lines("blog")) == 2)
    assert host.lines("blog") == ["out held", "out reached"]


@pytest.mark.parametrize(
    ("removed", "mounted", "how"),
    [
        (("no capabilities", "user namespace"), True, "escaped: "),
        ((), True, "held: Permission denied"),
        (("no capabilities", "user namespace"), False, "held: No such file or directory"),
    ],
)
async def test_the_agents_socket_is_not_there_and_its_mode_would_refuse(
    host_without: HostWithout, removed: tuple[str, ...], mounted: bool, how: str
) -> None:
    async with host_without(*removed) as host:
        spec: dict[str, Any] = {"mounts": (Mount(host.settings.run_dir, "/srv"),)} if mounted else {}
        path = "/srv/agent.sock" if mounted else host.settings.agent_socket
        found = await outcomes(host, ["agent_socket"], {"agent_socket": path}, **spec)
        assert found["agent_socket"].startswith(how)


async def test_a_link_that_a_container_swaps_in_leads_nobody_astray(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant flips a directory of his and a link to what is the host's, while the agent looks up a mount's source there."""
    host.content.chmod(0o777)
    secret = host.directory / "secret"
    secret.mkdir()
    program = f"""
os.mkdir("/srv/there")
os.symlink({str(secret)!r}, "/srv/link")
def flip():
    while True:
        os.rename("/srv/there", "/srv/aside"); os.rename("/srv/link", "/srv/there")
        os.rename("/srv/there", "/srv/link"); os.rename("/srv/aside", "/srv/there")
threading.Thread(target=flip, daemon=True).start()
serve()
"""
    await host.app("blog", *python(program), mounts=(Mount(str(host.content), "/srv"),))
    await host.wake("blog")
    path = str(host.content / "there")
    protected = tried(path, secret, ("own", "refused"))
    assert protected["secret"] == 0
    assert protected["own"] and protected["refused"]
    monkeypatch.setattr(sources, "CONTAINER_UIDS_FROM", 1 << 32)
    assert tried(path, secret, ("secret",))["secret"]


def tried(path: str, secret: Path, awaited: tuple[str, ...]) -> dict[str, int]:
    """Some thousand times, and on until each of the `awaited` came: which one does is the scheduler's business."""
    found = {"own": 0, "secret": 0, "refused": 0, "absent": 0}
    deadline = time.monotonic() + 15
    while sum(found.values()) < 3000 or not all(found[how] for how in awaited):
        assert time.monotonic() < deadline, found
        try:
            fd = open_source(path)
        except FileNotFoundError:  # between two renames
            found["absent"] += 1
            continue
        except PermissionError:
            found["refused"] += 1
            continue
        found["secret" if os.path.samestat(os.fstat(fd), secret.stat()) else "own"] += 1
        os.close(fd)
    return found
