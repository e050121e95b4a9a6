"""A DataPool on NFSv4: the server and its client are this guest's own kernel."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.domain import Mount, Status
from tests.plugins.compute import Host, fetch

pytestmark = pytest.mark.system
# Each container says in the pool that it was there, then serves the pool.
COMMAND = ("sh", "-c", "busybox hostname -i >>/srv/started; exec busybox httpd -f -p 80 -h /srv")


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=120)


@pytest.fixture(scope="module")
def datapool() -> Iterator[Path]:
    """Mounted here, as on each Compute; its server's directory is `exported` beside it."""
    with tempfile.TemporaryDirectory() as name:
        exported, mounted = Path(name, "exported"), Path(name, "mounted")
        exported.mkdir()
        exported.chmod(0o777)
        mounted.mkdir()
        Path("/etc/exports").write_text(f"{exported} 127.0.0.1(rw,fsid=0,no_root_squash,no_subtree_check,insecure)\n")
        for directory in ("/var/lib/nfs/v4recovery", "/var/lib/nfs/rpc_pipefs", "/run/rpc_pipefs"):
            Path(directory).mkdir(parents=True, exist_ok=True)
        run("modprobe", "nfsd")
        run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
        run("exportfs", "-ra")
        run("rpc.mountd", "--no-nfs-version", "3")
        run("rpc.nfsd", "--no-nfs-version", "3", "2")
        Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")  # nobody has locks from before
        run("mount", "-t", "nfs4", "-o", "vers=4.2", "127.0.0.1:/", str(mounted))
        yield mounted
        run("umount", str(mounted))
        run("rpc.nfsd", "0")
        run("exportfs", "-ua")


async def test_two_containers_share_a_pool_and_pin_nothing(host: Host, datapool: Path) -> None:
    await host.app("blog", *COMMAND, mounts=(Mount(str(datapool), "/srv"),), words={"containers": "2"})
    await host.until_rows("blog", lambda rows: len(rows) == 2)
    await host.wake("blog")
    proxy = await host.proxy()
    await proxy.until(lambda: sum(each.status is Status.RUNNING for each in proxy.live.values()) == 2, within_s=60)
    addresses = {live.address for live in proxy.live.values()}
    for address in addresses:
        body = (await fetch(address, "/started")).rpartition(b"\r\n\r\n")[2]
        assert {f"{line}:80" for line in body.decode().split()} == addresses
    exported = datapool.with_name("exported") / "started"
    assert exported.stat().st_uid == (await proxy.door("blog")).uid
    exported.with_name("news").write_text("from the server")
    for address in addresses:
        assert (await fetch(address, "/news")).endswith(b"from the server")
    await proxy.stop("blog")


async def test_a_read_only_pool_is_read_only(host: Host, datapool: Path) -> None:
    await host.app("blog", *COMMAND, mounts=(Mount(str(datapool), "/srv", readonly=True),))
    live = await host.wake("blog")
    assert "cannot create /srv/started: Read-only file system" in "\n".join(host.lines("blog"))
    assert (await fetch(live.address, "/started")).startswith(b"HTTP/1.")
