"""Containers of a test's own: directories, a network and control groups that nobody else has, runners as processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from containerlib.standalone.places import Record, Settings, Taken, read_record, records
from containerlib.standalone.run import clear_away
from tests.plugins.compute import free_network

HEAD = "from containerlib import OnFailure, Phase, Side, define\nimport os, sys, time\n"
HTTPD = '    c.command("busybox", "httpd", "-f", "-p", "80", "-h", "/srv")\n    c.readiness(port=80)\n    c.stop(grace="2s")\n'
SLEEP = '    c.command("sleep", "100")\n    c.stop(grace="2s")\n'


def until(condition: Callable[[], object], *, within_s: float = 60.0, why: str = "") -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, why or "it did not come to pass"
        time.sleep(0.005)


@dataclass
class Box:
    directory: Path
    settings: Settings
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def define(self, body: str, name: str = "web", head: str = "") -> Path:
        """A file with one definition that says these lines, which are indented already."""
        path = self.directory / f"{name}.py"
        path.write_text(f'{HEAD}{head}@define("{name}")\ndef {name}(c):\n{body}')
        path.chmod(0o644)
        return path

    def command(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-m", "containerlib", *map(str, words)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.settings.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}

    def call(self, *words: str | Path, timeout_s: float = 40.0) -> subprocess.CompletedProcess[str]:
        """`python -m containerlib WORDS`, until it ends."""
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def record(self, name: str = "web") -> Record | None:
        return read_record(self.settings, name)

    def until_running(self, name: str = "web") -> Record:
        def runs() -> bool:
            for process in self.started:
                assert process.poll() is None, process.stdout.read() if process.stdout else ""
            record = self.record(name)
            return record is not None and record.status == "running"

        until(runs)
        record = self.record(name)
        assert record is not None
        return record

    def log(self, name: str = "web") -> str:
        path = self.settings.log_dir / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def names(self) -> list[str]:
        found = self.settings.run_dir
        return sorted(each.name for each in found.iterdir() if each.is_dir()) if found.is_dir() else []

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        left = records(self.settings)
        for record in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.runner, signal.SIGKILL)
            until(lambda name=record.name: self._cleared(name))
        assert self.names() == []

    def _cleared(self, name: str) -> bool:
        try:
            clear_away(self.settings, name)
        except Taken:  # it takes a killed runner a moment to let go
            return False
        return True


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of /etc: made once."""
    return tmp_path_factory.mktemp("images-of-boxes")


@pytest.fixture
def box(tmp_path: Path, images: Path) -> Iterator[Box]:
    tmp_path.chmod(0o755)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/images").symlink_to(images)
    settings = Settings(
        tmp_path / "run",
        tmp_path / "state",
        tmp_path / "log",
        free_network(),
        f"fctest-{os.getpid()}-{tmp_path.name[-12:]}",
    )
    box = Box(tmp_path, settings)
    yield box
    box.close()
