from pathlib import Path

import pytest

from dispatcher.quickstart.cgroup import directories, join

HYBRID = "4:memory:/session/one\n3:cpu,cpuacct:/\n2:name=systemd:/x\n0::/unified\n"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (HYBRID, ["/cg/memory/session/one", "/cg/cpu", "/cg/cpuacct"]),
        ("0::/user.slice/session-1.scope\n", []),
        ("", []),
    ],
)
def test_v1_directories(groups: str, expected: list[str]) -> None:
    assert [str(path) for path in directories(groups, Path("/cg"))] == expected


def test_join_enters_what_is_there_and_ignores_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    join(HYBRID, tmp_path)
    assert (tmp_path / "cpu" / "cgroup.procs").read_text() == "0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cpu"]
