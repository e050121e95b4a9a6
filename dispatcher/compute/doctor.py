"""What this kernel and host offer and lack, with the remedy. One small function a check; see kernel_checks and service_checks."""

from dispatcher.compute import kernel_checks, service_checks
from dispatcher.compute.findings import Finding, State
from dispatcher.settings import Settings

__all__ = ["Finding", "State", "examine"]


def examine(settings: Settings) -> list[Finding]:
    found = [check() for check in kernel_checks.CHECKS]
    for check in service_checks.CHECKS:
        answer = check(settings)
        found += answer if isinstance(answer, list) else [answer]
    return found
