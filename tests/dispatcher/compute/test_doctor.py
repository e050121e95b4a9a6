import pytest

from dispatcher.compute import doctor, kernel_checks, service_checks
from dispatcher.compute.findings import missing, ok
from dispatcher.settings import Settings


def test_examine_puts_all_findings_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [ok("a", ""), missing("b", "", "do b"), ok("c", ""), ok("d", "")]
    monkeypatch.setattr(kernel_checks, "CHECKS", (lambda: found[0], lambda: found[1]))
    monkeypatch.setattr(service_checks, "CHECKS", (lambda settings: found[2:3], lambda settings: found[3]))
    assert doctor.examine(Settings()) == found
