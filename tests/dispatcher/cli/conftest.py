"""The command line against a real etcd, in this process: its exit code and what it printed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dispatcher.cli.root import run
from tests.plugins.etcd import EtcdServer


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Said]


@pytest.fixture
def cli(etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("ETCD", etcd.endpoint),
        ("COMPUTE", "here"),
        ("RUN_DIR", str(tmp_path / "run")),
        ("LOG_DIR", str(tmp_path / "log")),
    ):
        monkeypatch.setenv(f"FASTCONTAINER_{name}", value)

    def call(*words: str) -> Said:
        capsys.readouterr()
        try:
            code = run(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return call
