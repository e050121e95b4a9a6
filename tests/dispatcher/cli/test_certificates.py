import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dispatcher.userlb.certificates import self_signed


def test_import_list_and_remove(cli: Callable[..., Any], tmp_path: Path) -> None:
    made = self_signed(("a.test", "b.test"), time.time(), "shop")
    file = tmp_path / "any.pem"
    file.write_bytes(made.pem)
    assert cli("certificate", "import", "shop", str(file)).code == 0
    listed = cli("certificate", "list", "--json")
    assert [(each["name"], each["hosts"]) for each in listed.json] == [("shop", ["a.test", "b.test"])]
    assert "a.test, b.test" in cli("certificate", "list").out
    assert "PRIVATE" not in listed.out
    assert cli("certificate", "remove", "shop").code == 0
    assert cli("certificate", "list", "--json").json == []


def test_refusals(cli: Callable[..., Any], tmp_path: Path) -> None:
    said = cli("certificate", "import", "shop", "none.pem")
    assert said.code == 2 and "none.pem: No such file" in said.err
    (tmp_path / "bad.pem").write_text("x")
    said = cli("certificate", "import", "shop", "bad.pem")
    assert said.code == 2 and "'shop' in bad.pem: it has 0 private keys" in said.err
    said = cli("certificate", "issue", "shop", "--host", "a.test")
    assert said.code == 2 and "--agree" in said.err
    said = cli("certificate", "issue", "shop", "--host", "a.test", "--agree", "--directory", "https://localhost:1/dir")
    assert said.code == 2 and "https://localhost:1/dir" in said.err
    assert cli("certificate", "renew").code == 0
