import os
from pathlib import Path

import pytest

from dispatcher.compute import kernel_checks
from dispatcher.compute.findings import State


@pytest.mark.system
def test_this_host_has_what_is_needed() -> None:
    findings = [check() for check in kernel_checks.CHECKS]
    assert [each for each in findings if each.state is State.MISSING] == []
    assert len({each.what for each in findings}) == len(findings)
    assert all(each.remedy for each in findings if each.state is not State.OK)


def test_a_proc_without_anything_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_checks, "PROC", tmp_path)
    monkeypatch.setattr(kernel_checks, "SYS", tmp_path)
    (tmp_path / "filesystems").write_text("nodev\tproc\n\text4\n")
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    (tmp_path / "sys/net/ipv4/ip_forward").write_text("0\n")
    checks = (kernel_checks.overlayfs, kernel_checks.forwarding, kernel_checks.pressure, kernel_checks.listen_events)
    assert {check().state for check in checks} == {State.DEGRADED}


def test_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = kernel_checks.root()
    assert found.state is State.MISSING and "sudo" in found.remedy


def test_no_init(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_checks.plan, "INIT", "/no/such/init")
    assert "apt install catatonit" in kernel_checks.init().remedy


def test_a_slow_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_checks, "SYS", tmp_path)
    source = tmp_path / "devices/system/clocksource/clocksource0/current_clocksource"
    source.parent.mkdir(parents=True)
    source.write_text("hpet\n")
    assert kernel_checks.clock().found == "reads hpet"
