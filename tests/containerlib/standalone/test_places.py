"""Where each container's things are, and who holds them."""

import fcntl
import os
from pathlib import Path

import pytest

from containerlib.spec import ContainerSpec, Io, NetworkAccess
from containerlib.spec.resources import Cgroup
from containerlib.standalone import places
from containerlib.standalone.places import Settings, Taken, choose_subnet, hold, is_held, read_record, records, register

NETWORK = "100.88.0.0/26"
FIRST, SECOND = "100.88.0.0/28", "100.88.0.16/28"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "run", tmp_path / "state", tmp_path / "log", NETWORK)


@pytest.mark.parametrize(
    ("taken", "address", "expected"),
    [
        (set(), "", (FIRST, 2)),
        ({FIRST}, "", (SECOND, 2)),
        ({SECOND}, "", (FIRST, 2)),
        ({FIRST}, "100.88.0.21", (SECOND, 5)),
        (set(), "10.1.2.30", ("10.1.2.16/28", 14)),  # an address may be of another network than ours
    ],
)
def test_a_network_for_each(taken: set[str], address: str, expected: tuple[str, int]) -> None:
    assert choose_subnet(NETWORK, taken, address) == expected


@pytest.mark.parametrize(
    ("taken", "address", "why"),
    [
        ({FIRST, SECOND, "100.88.0.32/28", "100.88.0.48/28"}, "", "all addresses of 100.88.0.0/26 are taken"),
        ({FIRST}, "100.88.0.9", "address 100.88.0.9 is taken: another container has 100.88.0.0/28"),
        (set(), "100.88.0.1", "address 100.88.0.1 is the first, second or last of 16"),
        (set(), "100.88.0.15", "address 100.88.0.15 is the first, second or last of 16"),
    ],
)
def test_no_network(taken: set[str], address: str, why: str) -> None:
    with pytest.raises(Taken, match=why):
        choose_subnet(NETWORK, taken, address)


def test_one_runner_holds_a_name(settings: Settings) -> None:
    assert not is_held(settings, "web")
    with hold(settings, "web") as place:
        assert is_held(settings, "web")
        with pytest.raises(Taken, match="web runs already"), hold(settings, "web"):
            pass
        assert not is_held(settings, "other")
        place.remove()
    assert not is_held(settings, "web")
    assert not (settings.run_dir / "web").exists()


def test_a_lock_that_its_holder_removed_before_we_had_it_is_not_the_lock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = settings.run_dir / "web/lock", fcntl.flock
    removed = []

    def late(fd: int, operation: int) -> None:
        if not removed:
            removed.append(path)
            path.unlink()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with hold(settings, "web") as place:
        assert removed
        assert os.path.samestat(os.fstat(place.lock), path.stat())
        assert is_held(settings, "web")
        place.remove()


def test_records(settings: Settings) -> None:
    spec = ContainerSpec("web", ("x",), env={"A": "1"}, source="a.py:3", cgroup=Cgroup(io=(Io("7:0", 1),)))
    with hold(settings, "web") as place, hold(settings, "api") as other:
        assert place.record() is None
        first = register(place, spec, 100.0)
        assert (first.network, first.slot, first.status, first.runner) == (FIRST, 2, "starting", os.getpid())
        assert (first.env, first.source, first.stdout) == ({"A": "1"}, "a.py:3", f"{settings.log_dir}/web.out")
        assert first.controllers in (("blkio",), ("io",))
        assert read_record(settings, "web") == first
        assert (place.directory / "record.json").stat().st_mode & 0o777 == 0o600
        second = register(other, ContainerSpec("api", ("x",)), 101.0)
        assert second.network == SECOND
        assert [record.name for record in records(settings)] == ["api", "web"]
        third = ContainerSpec("third", ("x",), network=NetworkAccess(address="100.88.0.18"))
        with hold(settings, "third") as late:
            with pytest.raises(Taken, match="is taken"):
                register(late, third, 1.0)
            late.remove()
        place.remove()
        other.remove()
    assert records(settings) == []


def test_ranges_of_ids_are_for_good(settings: Settings) -> None:
    def base(name: str, own: int | None = None) -> int:
        with hold(settings, name) as place:
            record = register(place, ContainerSpec(name, ("x",), id_base=own), 1.0)
            place.remove()
        return record.id_base

    first, second = base("a"), base("b")
    assert first == places.ID_BASE_FIRST
    assert second - first == 1024
    assert (base("b"), base("a")) == (second, first)
    assert base("c", 300_000) == 300_000
    assert base("d") == second + 1024


def test_when_no_range_of_ids_is_left_it_says_so_and_leaves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "ID_BASE_MAX", places.ID_BASE_FIRST + 1)
    for name in ("a", "b"):
        with hold(settings, name) as place:
            if name == "b":
                with pytest.raises(Taken, match=r"no range of user ids is left in .*ids\.json"):
                    register(place, ContainerSpec(name, ("x",)), 1.0)
            else:
                register(place, ContainerSpec(name, ("x",)), 1.0)
            place.remove()
    assert records(settings) == []


def test_settings_pass_through_the_environment(settings: Settings) -> None:
    assert Settings.of(settings.environment()) == settings
    assert Settings.of({}) == Settings()
