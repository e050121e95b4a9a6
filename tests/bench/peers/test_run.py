from pathlib import Path

import pytest

from bench import peers
from bench.peers.activated import Activated
from bench.peers.fastcontainer import FastContainer
from bench.peers.peer import Peer
from bench.peers.phpfpm import PhpFpm
from bench.peers.place import Page

pytestmark = pytest.mark.system


def test_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = peers.run(True, (FastContainer, PhpFpm, Activated))
    assert found.left_out == {}
    by_name = {peer.name: peer for peer in found.peers}
    assert list(by_name) == ["FastContainer", "php-fpm", "systemd"]
    for peer in found.peers:
        assert peer.sites_awake == found.sites, peer.name
        assert peer.asleep.processes < peer.awake.processes, peer.name
        assert all(len(peer.first[page]) == found.sites and peer.warm[page].n > 0 for page in Page), peer.name
        assert peer.isolation.user == "own", peer.name
    assert by_name["FastContainer"].isolation.namespaces == ("mnt", "pid", "net", "user")
    assert by_name["php-fpm"].isolation.namespaces == ()
    assert list(tmp_path.iterdir()) == []


class Broken(PhpFpm):
    name = "broken"

    def _start(self) -> None:
        super()._start()
        raise RuntimeError("it does not work here")


class Absent(Peer):
    name, about, package = "absent", "what nobody has", "nothing"
    needs = ("/nowhere/at-all",)


def test_who_does_not_run_is_named_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    found = peers.run(True, (Broken, Absent))
    assert found.peers == []
    assert found.left_out == {
        "broken": "RuntimeError: it does not work here",
        "absent": "/nowhere/at-all not installed (package nothing)",
    }
    assert "it does not work here" in capsys.readouterr().err
