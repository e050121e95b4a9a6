"""Where our groups lie and what is written there, on trees of plain directories that look like cgroups."""

import errno
import os
import threading
from pathlib import Path

import pytest

from containerlib.cgroups import IoLimits, Limits, tree
from containerlib.cgroups.limits import FileContent
from containerlib.cgroups.tree import CONTROLLERS_V1, Group, Tree

V1_OWN = "".join(
    f"{number}:{name}:/{'jail' if name == 'memory' else ''}\n" for number, name in enumerate(CONTROLLERS_V1)
)


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    top = tmp_path / "cgroup"
    top.mkdir()
    monkeypatch.setattr(tree, "MOUNT", top)
    return top


def own_groups(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(tree, "_own_groups", lambda: tree.parse_groups(text))


@pytest.fixture
def v1(top: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    for name in CONTROLLERS_V1:
        (top / name).mkdir()
    own_groups(monkeypatch, V1_OWN + "0::/\n")
    return tree.find("ours")


def make_v2(top: Path, *, controllers: str = "cpuset cpu io memory pids") -> None:
    (top / "cgroup.controllers").write_text(controllers)
    (top / "cgroup.subtree_control").touch()


@pytest.fixture
def v2(top: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    make_v2(top)
    own_groups(monkeypatch, "0::/\n")
    return tree.find("ours")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/\n", [("", "/")]),
        ("3:cpu,cpuacct:/a\n1:name=systemd:/b\n", [("cpu", "/a"), ("cpuacct", "/a"), ("name=systemd", "/b")]),
        ("0::/odd:name\n", [("", "/odd:name")]),
    ],
)
def test_groups_of_this_process(text: str, expected: list[tuple[str, str]]) -> None:
    assert tree.parse_groups(text) == expected


def test_v1_lies_below_the_group_that_limits_us(top: Path, v1: Tree) -> None:
    assert v1.version == 1
    assert v1.bases["cpu"] == top / "cpu/ours"
    assert v1.bases["memory"] == top / "memory/jail/ours"


def test_v1_names_what_is_missing(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / "cpu").mkdir()
    own_groups(monkeypatch, "1:cpu:/\n2:memory:/\n")
    with pytest.raises(OSError, match=r"not mounted under .*: memory, pids, freezer"):
        tree.find("ours")


def test_v1_with_nothing_mounted_names_everything(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_groups(monkeypatch, "")
    with pytest.raises(OSError, match="cpu, memory, pids, freezer"):
        tree.find("ours")


def test_v2_at_the_top_hands_its_controllers_down(top: Path, v2: Tree) -> None:
    assert v2 == Tree(2, {"": top / "ours"})
    assert (top / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (top / "ours/cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_v2_names_what_is_missing(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_v2(top, controllers="cpuset io pids")
    own_groups(monkeypatch, "0::/\n")
    with pytest.raises(OSError, match=r"not available in .*: cpu, memory"):
        tree.find("ours")


def test_v2_below_a_delegated_group_moves_its_processes_to_a_leaf_first(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_v2(top)
    unit = top / "system.slice/agent.service"
    unit.mkdir(parents=True)
    make_v2(unit, controllers="cpu memory pids")
    (unit / "cgroup.procs").write_text("41\n42\n")
    own_groups(monkeypatch, "0::/system.slice/agent.service\n")
    monkeypatch.setattr(tree, "_is_delegated", lambda directory: directory == unit)
    assert tree.find("ours").bases == {"": unit / "ours"}
    assert (unit / "agent/cgroup.procs").read_text() == "42"  # the last one written; the kernel would hold both
    assert (top / "cgroup.subtree_control").read_text() == ""


def test_v2_below_a_group_that_is_not_delegated_lies_at_the_top(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_v2(top)
    (top / "user.slice").mkdir()
    own_groups(monkeypatch, "0::/user.slice\n")
    assert tree.find("ours").bases == {"": top / "ours"}


def test_v1_group_is_one_directory_a_hierarchy(top: Path, v1: Tree) -> None:
    group = v1.create("17")
    assert group.directories() == tuple(
        top / name / ("jail" if name == "memory" else "") / "ours/17" for name in CONTROLLERS_V1
    )
    assert all(directory.is_dir() for directory in group.directories())
    assert v1.create("17") == group
    assert v1.names() == {"17"}


def test_hierarchies_mounted_together_are_entered_once(tmp_path: Path) -> None:
    group = Tree(1, {"cpu": tmp_path, "cpuacct": tmp_path}).create("1")
    assert group.directories() == (tmp_path / "1",)


def test_every_hierarchy_has_its_entrance(v1: Tree) -> None:
    group = v1.create("1")
    assert group.entrances() == tuple(f"{directory}/tasks" for directory in group.directories())


def test_the_one_tree_is_entered_as_a_process(v2: Tree, top: Path) -> None:
    assert v2.create("1").entrances() == (f"{top}/ours/1/cgroup.procs",)


def offer_in(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).touch()


def offer(group: Group, *names: str) -> None:
    """The files that the kernel puts into each new group."""
    for directory in group.directories():
        for name in names:
            (directory / name).touch()


V1_FILES = ("cpu.cfs_period_us", "cpu.cfs_quota_us", "memory.limit_in_bytes", "pids.max")
V2_FILES = ("cpu.max", "memory.max", "pids.max")


def test_v1_limits_are_written(top: Path, v1: Tree) -> None:
    group = v1.create("1")
    offer(group, *V1_FILES)
    group.set_limits(Limits(0.5, 1 << 27, 40))
    assert (top / "cpu/ours/1/cpu.cfs_quota_us").read_text() == "50000"
    assert (top / "memory/jail/ours/1/memory.limit_in_bytes").read_text() == str(1 << 27)
    assert (top / "pids/ours/1/pids.max").read_text() == "40"
    # This kernel accounts no swap: nothing is made up.
    assert not (top / "memory/jail/ours/1/memory.memsw.limit_in_bytes").exists()


def test_limits_in_force_are_not_written_again(v2: Tree, top: Path) -> None:
    group = v2.create("1")
    offer(group, *V2_FILES)

    def written() -> set[str]:
        return {entry.name for entry in (top / "ours/1").iterdir() if entry.read_text()}

    group.set_limits(Limits(1.0, 1 << 27, 40), before=Limits(1.0, None, 40))
    assert written() == {"memory.max"}
    group.set_limits(Limits(None, 1 << 27, None), before=Limits(1.0, 1 << 27, 40))
    assert written() == {"memory.max", "cpu.max", "pids.max"}


def test_v1_swap_is_limited_where_it_is_accounted(top: Path, v1: Tree) -> None:
    group = v1.create("1")
    offer(group, *V1_FILES, "memory.memsw.limit_in_bytes")
    group.set_memory(1 << 27)
    assert (top / "memory/jail/ours/1/memory.memsw.limit_in_bytes").read_text() == str(1 << 27)


def test_v2_limits_are_written_and_lifted(top: Path, v2: Tree) -> None:
    group = v2.create("1")
    offer(group, *V2_FILES)
    group.set_limits(Limits(0.5, 1 << 27, 40))
    directory = top / "ours/1"
    assert (directory / "cpu.max").read_text() == "50000 100000"
    assert (directory / "memory.max").read_text() == str(1 << 27)
    assert (directory / "pids.max").read_text() == "40"
    group.set_limits(Limits())
    assert (directory / "cpu.max").read_text() == "max 100000"
    assert (directory / "memory.max").read_text() == "max"
    assert (directory / "pids.max").read_text() == "max"


def test_v2_refuses_a_memory_limit_below_what_is_in_use_and_cannot_be_had_back(top: Path, v2: Tree) -> None:
    group = v2.create("1")
    offer(group, *V2_FILES, "memory.reclaim")
    (top / "ours/1/memory.max").write_text("max")
    (top / "ours/1/memory.current").write_text("100")
    with pytest.raises(OSError, match="100 bytes are in use") as refused:
        group.set_memory(60)
    assert refused.value.errno == errno.EBUSY
    assert (top / "ours/1/memory.reclaim").read_text() == "40"
    assert (top / "ours/1/memory.max").read_text() == "max"
    group.set_memory(100)
    assert (top / "ours/1/memory.max").read_text() == "100"


@pytest.mark.parametrize("version", [1, 2])
def test_counts_of_kills_and_refusals(version: int, request: pytest.FixtureRequest) -> None:
    group = request.getfixturevalue(f"v{version}").create("1")
    assert (group.oom_kills(), group.pids_refused()) == (0, 0)  # the kernel says nothing
    memory = next(each for each in group.directories() if version == 2 or "memory" in each.parts)
    name = "memory.events" if version == 2 else "memory.oom_control"
    (memory / name).write_text("oom_kill_disable 0\nunder_oom 0\noom 3\noom_kill 2\n")
    pids = next(each for each in group.directories() if version == 2 or "pids" in each.parts)
    (pids / "pids.events").write_text("max 7\n")
    assert (group.oom_kills(), group.pids_refused()) == (2, 7)


def test_processes_of_a_group(v2: Tree) -> None:
    group = v2.create("1")
    assert group.processes() == []
    (group.directories()[0] / "cgroup.procs").write_text("12\n13\n")
    assert group.processes() == [12, 13]


def test_removing_takes_every_directory_and_twice_is_harmless(v1: Tree) -> None:
    group = v1.create("1")
    group.remove()
    assert not any(directory.exists() for directory in group.directories())
    group.remove()
    v1.remove()
    assert not any(base.exists() for base in v1.bases.values())
    v1.remove()


@pytest.fixture
def with_blkio(top: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    for name in (*CONTROLLERS_V1, "blkio"):
        (top / name).mkdir()
    own_groups(monkeypatch, V1_OWN + "9:blkio:/jail\n0::/\n")
    return tree.find("ours")


def test_v1_io_has_a_directory_only_in_groups_that_are_limited(top: Path, with_blkio: Tree) -> None:
    group, other = with_blkio.create("1"), with_blkio.create("2")
    base, own = top / "blkio/jail/ours", top / "blkio/jail/ours/1"
    assert not base.exists() and not group.has_io() and len(group.entrances()) == len(CONTROLLERS_V1)
    group.have_io()
    offer_in(own, "blkio.throttle.write_bps_device", "blkio.throttle.read_bps_device")
    offer_in(own, "blkio.throttle.write_iops_device", "blkio.throttle.read_iops_device")
    group.set_io({"8:0": IoLimits(write_bps=1000, read_iops=5)})
    said = {each.name.removeprefix("blkio.throttle."): each.read_text() for each in own.iterdir()}
    assert said == {
        "read_bps_device": "8:0 0",
        "write_bps_device": "8:0 1000",
        "read_iops_device": "8:0 5",
        "write_iops_device": "8:0 0",
    }
    assert group.has_io() and not other.has_io()
    assert str(own / "tasks") in group.entrances() and len(other.entrances()) == len(CONTROLLERS_V1)
    for each in own.iterdir():
        each.unlink()
    other.remove()
    assert with_blkio.names() == {"1"}
    (top / "cpu/ours/1").rmdir()  # whoever removed it died half-way
    group.remove()
    assert with_blkio.names() == set()
    with_blkio.remove()
    assert not base.exists()


def test_v1_brings_all_its_processes_in_while_they_fork(
    top: Path, with_blkio: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = with_blkio.create("1")
    running, moved, gone = [[1, 2], [1, 2, 3, 66], [1, 2, 3, 4, 66], [1, 2, 3, 4, 66]], list[str](), "66"
    monkeypatch.setattr(Group, "processes", lambda _self: running.pop(0))
    write = Path.write_text

    def take(path: Path, text: str) -> int:
        if text == gone:
            raise ProcessLookupError
        moved.append(text)
        return write(path, "\n".join(moved))

    monkeypatch.setattr(Path, "write_text", take)
    group.have_io()
    assert moved == ["1", "2", "3", "4"] and running == []


def test_v1_gives_up_on_who_forks_faster(top: Path, with_blkio: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    group, numbers = with_blkio.create("1"), iter(range(10_000))
    monkeypatch.setattr(Group, "processes", lambda _self: [next(numbers)])
    with pytest.raises(OSError, match="fork faster than they can be moved"):
        group.have_io()


def test_v1_without_the_hierarchy_names_it(v1: Tree) -> None:
    with pytest.raises(OSError, match=r"cgroup v1 hierarchy not mounted under .*: blkio"):
        v1.create("1").set_io({"8:0": IoLimits()})


def test_v2_io_is_handed_down_when_somebody_asks(top: Path, v2: Tree) -> None:
    group = v2.create("1")
    (top / "ours/cgroup.controllers").write_text("cpu memory pids io")
    offer(group, "io.max")
    assert not group.has_io() and "io" not in (top / "cgroup.subtree_control").read_text()
    group.set_io({"8:0": IoLimits(1000, 2000, None, 4)})
    assert (top / "cgroup.subtree_control").read_text() == (top / "ours/cgroup.subtree_control").read_text() == "+io"
    assert (top / "ours/1/io.max").read_text() == "8:0 rbps=1000 wbps=2000 riops=max wiops=4"
    assert group.has_io()


def test_v2_names_who_does_not_hand_it_down(top: Path, v2: Tree) -> None:
    (top / "cgroup.controllers").write_text("cpu memory pids")
    with pytest.raises(OSError, match=f"cgroup v2 controller not available in {top}: io"):
        v2.create("1").set_io({"8:0": IoLimits()})


def test_removing_waits_for_a_group_that_is_busy_for_a_moment(v2: Tree) -> None:
    group = v2.create("1")
    (directory,) = group.directories()
    busy = directory / "busy"
    busy.touch()
    thread = threading.Timer(0.05, busy.unlink)
    thread.start()
    group.remove()
    thread.join()
    assert not directory.exists()


def test_removing_gives_up_on_a_group_that_stays_busy(v2: Tree) -> None:
    group = v2.create("1")
    (group.directories()[0] / "busy").touch()
    with pytest.raises(OSError, match="not empty"):
        group.remove(wait_s=0.02)


@pytest.mark.system
def test_this_machine_has_a_tree_that_takes_limits() -> None:
    ours = tree.find(f"fctest-tree-{os.getpid()}")
    group = ours.create("1")
    try:
        group.set_limits(Limits(0.25, 64 << 20, 20))
        assert group.processes() == []
        assert (group.oom_kills(), group.pids_refused()) == (0, 0)
        group.set_limits(Limits(0.5, 32 << 20, None))
        group.set_limits(Limits())
    finally:
        group.remove()
        ours.remove()
    assert not any(base.exists() for base in ours.bases.values())


# Of a file that is not there (another process froze the group, or the kernel is older) nothing is made up.
@pytest.mark.parametrize(
    ("version", "name", "text", "expected"),
    [
        (1, "freezer.state", "FROZEN\n", True),
        (1, "freezer.state", "FREEZING\n", False),  # some have not stopped yet
        (1, "freezer.state", "THAWED\n", False),
        (1, "absent", "", False),
        (2, "cgroup.events", "populated 1\nfrozen 1\n", True),
        (2, "cgroup.events", "populated 1\nfrozen 0\n", False),
        (2, "absent", "", False),
    ],
)
def test_what_says_that_all_have_stopped(
    version: int, name: str, text: str, expected: bool, request: pytest.FixtureRequest
) -> None:
    group = request.getfixturevalue(f"v{version}").create("1")
    (of(group, "freezer") / name).write_text(text)
    assert group.is_frozen() is expected


def of(group: Group, controller: str) -> Path:
    base = group.tree.bases.get(controller) or group.tree.bases[""]
    return base / group.name


@pytest.mark.parametrize(
    ("version", "name", "words"), [(1, "freezer.state", "FROZEN THAWED"), (2, "cgroup.freeze", "1 0")]
)
def test_freezing_and_thawing(version: int, name: str, words: str, request: pytest.FixtureRequest) -> None:
    group = request.getfixturevalue(f"v{version}").create("1")
    offer(group, name)
    frozen, thawed = words.split()
    group.freeze()
    assert (of(group, "freezer") / name).read_text() == frozen
    group.thaw()
    assert (of(group, "freezer") / name).read_text() == thawed
    for directory in group.directories():
        (directory / name).unlink()
    group.thaw()  # it is gone, or its kernel has no freezer
    with pytest.raises(FileNotFoundError):
        group.freeze()


def test_v2_reclaims_by_its_own_file_where_the_kernel_has_it(top: Path, v2: Tree) -> None:
    group = v2.create("1")
    offer(group, "memory.current")
    (top / "ours/1/memory.current").write_text("1000\n")
    assert (group.memory_bytes(), group.reclaim(600)) == (1000, 0)  # before 5.19
    offer(group, "memory.reclaim")
    assert group.reclaim(600) == 0
    assert (top / "ours/1/memory.reclaim").read_text() == "600"


def test_v1_reclaims_by_a_limit_that_is_gone_again(top: Path, v1: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    group = v1.create("1")
    memory = top / "memory/jail/ours/1"
    (memory / "memory.usage_in_bytes").write_text("1000\n")
    (memory / "memory.limit_in_bytes").write_text("5000\n")
    written: list[str] = []
    plain = Group.write
    monkeypatch.setattr(
        Group, "write", lambda self, contents: (written.extend(each.value for each in contents), plain(self, contents))
    )
    group.reclaim(600)
    group.reclaim(6000)
    assert written == ["400", "5000", "0", "5000"]
    assert (memory / "memory.limit_in_bytes").read_text() == "5000"


def test_v1_limit_comes_back_when_the_kernel_had_no_more_to_take(
    top: Path, v1: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = v1.create("1")
    memory = top / "memory/jail/ours/1"
    (memory / "memory.usage_in_bytes").write_text("1000\n")
    (memory / "memory.limit_in_bytes").write_text("5000\n")
    plain = Group.write

    def refuse(self: Group, contents: tuple[FileContent, ...]) -> None:
        if contents[0].value == "400":
            raise OSError(number, "refused")
        plain(self, contents)

    monkeypatch.setattr(Group, "write", refuse)
    number = errno.EBUSY
    assert group.reclaim(600) == 0
    number = errno.EIO
    with pytest.raises(OSError, match="refused"):
        group.reclaim(600)
    assert (memory / "memory.limit_in_bytes").read_text() == "5000"


def test_a_group_that_goes_while_it_is_read_is_empty(v1: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def goes(_: Path) -> str:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(Path, "read_text", goes)
    assert v1.group("7").processes() == []
