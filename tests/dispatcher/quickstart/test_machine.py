import socket
from pathlib import Path

import pytest

from dispatcher.quickstart import machine
from dispatcher.settings import Settings

MOUNTINFO = """\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:26 / /run/fc/stage rw - tmpfs none rw
31 30 0:27 / /run/fc/stage/deep\\040er rw - tmpfs none rw
32 22 0:28 / /run/fcother rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/run/fc", ["/run/fc/stage/deep er", "/run/fc/stage"]),
        ("/run/fc/stage", ["/run/fc/stage/deep er", "/run/fc/stage"]),
        ("/run/f", []),
    ],
)
def test_mounts_below_a_path_deepest_first(path: str, expected: list[str]) -> None:
    assert machine.mounts_below(path, MOUNTINFO) == expected


def test_a_taken_port_is_named_with_its_holder_and_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        (line,) = [line for line in machine.taken_ports(Settings(userproxy_listen=address)) if address in line]
    assert "process" in line
    assert "FASTCONTAINER_USERPROXY_LISTEN" in line


def test_a_port_of_closed_connections_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with socket.create_connection(server.getsockname()):
            server.accept()[0].close()  # we close first: TIME_WAIT stays on the server's port
    assert not [line for line in machine.taken_ports(Settings(userproxy_listen=address)) if address in line]


@pytest.mark.system
def test_a_tree_with_a_mount_in_it_is_not_removed(tmp_path: Path) -> None:
    import subprocess

    target = tmp_path / "tree" / "content"
    target.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)
    try:
        (target / "precious").touch()
        with pytest.raises(OSError, match="still mounted"):
            machine.remove_tree(str(tmp_path / "tree"))
        assert (target / "precious").exists()
    finally:
        subprocess.run(["umount", target], check=True)
    machine.remove_tree(str(tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()
    machine.remove_tree(str(tmp_path / "tree"))  # nothing there is fine, too
