import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.etcd import EtcdServer

Cli = Callable[..., Any]
BLOG = ("app", "create", "blog", "--domain", "blog.localhost", "--run", "php -S 0.0.0.0:80 -t '/srv/my www'")


@pytest.fixture
def blog(cli: Cli) -> Cli:
    assert cli(*BLOG, "--mount", "./www:/srv/www", "--cpu", "30%", "--memory", "256M").code == 0
    return cli


def test_create_and_show(blog: Cli, tmp_path: Path) -> None:
    shown = blog("app", "show", "blog", "--json").json
    assert shown["app"]["spec"] == {
        "command": ["php", "-S", "0.0.0.0:80", "-t", "/srv/my www"],
        "mounts": [{"source": str(tmp_path / "www"), "target": "/srv/www"}],
    }
    assert (shown["app"]["cpu"], shown["app"]["memory_bytes"], shown["domains"]) == (0.3, 268435456, ["blog.localhost"])
    assert [(each["life"], each["status"], each["compute"]) for each in shown["containers"]] == [
        ("blog/1.0", "registered", "here")
    ]
    text = blog("app", "show", "blog").out
    assert "30% (by hand)" in text and "blog.localhost" in text and "blog/1.0  registered  here" in text


def test_list(blog: Cli) -> None:
    assert blog("app", "create", "shop", "--run", "shop", "--containers", "3").code == 0
    listed = blog("app", "list")
    assert [line.split() for line in listed.out.splitlines()][1:] == [
        ["blog", "on", "0/1", "30%", "256M", "blog.localhost"],
        ["shop", "on", "0/3", "no", "limit", "no", "limit"],
    ]
    assert [each["name"] for each in blog("app", "list", "--json").json] == ["blog", "shop"]


def test_edit_changes_what_is_given(blog: Cli) -> None:
    before = blog("app", "show", "blog", "--json").json
    said = blog("app", "edit", "blog", "--idle", "5m", "--env", "A=b=c", "--domain", "b.example", "--cpu", "")
    assert (said.code, said.err) == (0, "")
    after = blog("app", "show", "blog", "--json").json
    assert after["app"]["spec"] == before["app"]["spec"] | {"env": {"A": "b=c"}, "policy": {"idle_s": 300.0}}
    assert after["app"]["cpu"] is None and after["app"]["memory_bytes"] == 268435456
    assert after["domains"] == ["b.example", "blog.localhost"]
    said = blog(
        "app", "edit", "blog", "--remove-env", "A", "--remove-mount", "/srv/www", "--remove-domain", "b.example"
    )
    assert said.code == 0
    last = blog("app", "show", "blog", "--json").json
    assert last["app"]["spec"] == {"command": before["app"]["spec"]["command"], "policy": {"idle_s": 300.0}}
    assert last["domains"] == ["blog.localhost"]


def test_edit_takes_a_whole_spec(blog: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"command": ["other"], "port": 8000}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(spec)))
    assert blog("app", "edit", "blog", "--spec", "-").code == 0
    assert blog("app", "show", "blog", "--json").json["app"]["spec"] == spec
    (tmp_path / "spec.json").write_text(json.dumps(spec | {"prot": 1}))
    said = blog("app", "edit", "blog", "--spec", "spec.json")
    assert said.code == 2 and "prot" in said.err
    assert blog("app", "edit", "blog", "--spec", "nowhere.json").code == 2


def test_a_broken_spec_is_shown_and_can_be_written_anew(blog: Cli, etcd: EtcdServer, tmp_path: Path) -> None:
    etcd.ctl("put", "/fastcontainer/apps/blog/spec", '{"command": []}')
    assert "refused: /fastcontainer/apps/blog/spec" in blog("app", "show", "blog").out
    said = blog("app", "edit", "blog", "--port", "81")
    assert said.code == 2 and "--spec" in said.err
    (tmp_path / "spec.json").write_text('{"command": ["again"]}')
    assert blog("app", "edit", "blog", "--spec", "spec.json").code == 0
    assert blog("app", "show", "blog", "--json").json["app"]["spec"] == {"command": ["again"]}


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VISUAL", str(path))


def test_edit_without_flags_opens_an_editor(blog: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(tmp_path, monkeypatch, 'echo \'{"command": ["by", "hand"]}\' > "$1"')
    assert blog("app", "edit", "blog").code == 0
    assert blog("app", "show", "blog", "--json").json["app"]["spec"] == {"command": ["by", "hand"]}


def test_what_changed_while_the_editor_was_open_is_not_lost(
    blog: Cli, etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = f"ETCDCTL_API=3 etcdctl --endpoints {etcd.endpoint} put /fastcontainer/apps/blog/spec"
    editor(tmp_path, monkeypatch, f'{put} \'{{"command": ["theirs"]}}\' >&2; echo \'{{"command": ["mine"]}}\' > "$1"')
    said = blog("app", "edit", "blog")
    assert said.code == 4 and "changed meanwhile" in said.err
    assert blog("app", "show", "blog", "--json").json["app"]["spec"] == {"command": ["theirs"]}


def test_remove_asks_unless_told(blog: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    said = blog("app", "remove", "blog")
    assert said.code == 2 and "--yes" in said.err
    assert blog("app", "remove", "blog", "--yes", "--json").json == {"app": "blog", "removed": True, "draining": []}
    assert blog("app", "list", "--json").json == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("app", "create", "blog", "--run", "x"), 4, "app blog exists already"),
        (("app", "create", "Blog", "--run", "x"), 2, "'Blog'"),
        (("app", "create", "other"), 2, "--run"),
        (("app", "create", "other", "--run", "php 'x"), 2, 'run: "php \'x"'),
        (("app", "create", "other", "--run", ""), 2, "command"),
        (("app", "create", "other", "--run", "x", "--domain", "blog.localhost"), 4, "belongs to app blog"),
        (("app", "create", "other", "--run", "x", "--mount", "/a"), 2, "mount: '/a'"),
        (("app", "create", "other", "--run", "x", "--mount", "/a:b"), 2, "mount"),
        (("app", "create", "other", "--run", "x", "--env", "=b"), 2, "env: '=b'"),
        (("app", "create", "other", "--run", "x", "--idle", "soon"), 2, "idle: 'soon'"),
        (("app", "create", "other", "--run", "x", "--boot-cpu", "much"), 2, "boot_cpu: 'much'"),
        (("app", "edit", "blog", "--port", "99999"), 2, "port 99999: Expected `int` <= 65535"),
        (("app", "edit", "blog", "--lifespan", "0s"), 2, "policy.lifespan_s 0.0: Expected `float` > 0"),
        (("app", "edit", "blog", "--concurrency", "many"), 2, "concurrency: 'many'"),
        (("app", "edit", "blog", "--memory", "1"), 2, "at least 4M"),
        (("app", "edit", "blog", "--while-starting", "dance"), 2, "while-starting"),
        (("app", "edit", "blog", "--start", "tepid"), 2, "--start"),
        (("app", "edit", "blog", "--remove-env", "NONE"), 2, "no 'NONE'"),
        (("app", "edit", "blog", "--remove-domain", "x.example"), 2, "'x.example'"),
        (("app", "edit", "nobody", "--port", "81"), 3, "no app 'nobody'"),
        (("app", "show", "nobody"), 3, "app list"),
        (("app", "remove", "nobody", "--yes"), 3, "no app 'nobody'"),
        (("app", "nonsense"), 2, "nonsense"),
    ],
)
def test_refusals(blog: Cli, words: tuple[str, ...], code: int, said: str) -> None:
    before = blog("app", "list", "--json").out
    answer = blog(*words)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert blog("app", "list", "--json").out == before


def test_a_problem_as_json(cli: Cli) -> None:
    error = json.loads(cli("app", "show", "nobody", "--json").err)["error"]
    assert error["code"] == "unknown_app" and error["hint"]
