"""The units in deploy/ as systemd reads them, and what they promise."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[1] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


def service(name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / f"fastcontainer-{name}.service")
    return dict(parser["Service"])


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd: systemd-analyze is not installed")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/fastcontainer/bin", str(Path(sys.executable).parent))
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", *sorted(tmp_path.iterdir())], capture_output=True, text=True)
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line] == []


@pytest.mark.parametrize("name", ["launcher", "agent"])
def test_a_restart_spares_the_containers(name: str) -> None:
    assert service(name)["KillMode"] == "process"
    assert service(name)["Delegate"] == "yes"
    assert service(name)["Restart"] == "always"


def test_a_restart_of_the_userlb_leaves_haproxy_to_the_next_and_its_stop_does_not() -> None:
    unit = service("userlb")
    assert (unit["KillMode"], unit["KillSignal"], unit["RestartKillSignal"]) == ("process", "SIGINT", "SIGTERM")


@pytest.mark.parametrize("name", ["userlb", "userproxy", "webdispatcher"])
def test_what_parses_traffic_is_confined(name: str) -> None:
    unit = service(name)
    assert unit["User"] == "fastcontainer"
    assert (unit["NoNewPrivileges"], unit["ProtectSystem"], unit["PrivateDevices"]) == ("yes", "strict", "yes")
    assert unit["CapabilityBoundingSet"] in ("", "CAP_NET_BIND_SERVICE")
