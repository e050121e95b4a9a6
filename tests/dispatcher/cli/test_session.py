from collections.abc import Callable
from typing import Any

import pytest

from tests.plugins.etcd import free_port

Cli = Callable[..., Any]


def test_no_etcd(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("FASTCONTAINER_ETCD", endpoint)
    said = cli("app", "list")
    assert (said.code, said.out) == (6, "")
    assert endpoint in said.err and "Traceback" not in said.err


def test_settings_that_do_not_parse(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONTAINER_BLANKS", "many")
    said = cli("ps")
    assert said.code == 2 and "blanks" in said.err


def test_a_settings_file_that_is_not_there(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONTAINER_CONFIG", "/no/such/file.toml")
    said = cli("ps")
    assert said.code == 2 and "/no/such/file.toml" in said.err
