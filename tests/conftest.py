"""What every test run has: the leak check, the shared servers, and rules about root and about skipping."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parent / "plugins"

pytest.register_assert_rewrite("tests.plugins")  # before one of them imports another
pytest_plugins = [f"tests.plugins.{path.stem}" for path in sorted(SHARED.glob("*.py"))]

# As root nothing may be skipped in silence: a skip counts as a failure unless its reason begins with one of these.
ALLOWED_SKIPS = (
    "needs another kernel:",
    "needs cgroup v2:",
    "needs cgroup v1:",
    "needs systemd:",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: `./quickstart test` runs it")
    for item in items:
        if item.get_closest_marker("system") or item.get_closest_marker("chaos"):
            item.add_marker(skip)


class SkipsAreFailures:
    def __init__(self) -> None:
        self.refused: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if not reason.startswith(ALLOWED_SKIPS):
                self.refused.append(f"{report.nodeid}: {reason}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.refused:
            terminalreporter.write_line(f"SKIPPED AS ROOT, which counts as a failure: {line}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0:
        config.pluginmanager.register(SkipsAreFailures())
