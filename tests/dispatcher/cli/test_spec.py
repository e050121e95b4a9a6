from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cli.flags import Flags
from dispatcher.cli.spec import changed_spec, format_spec, new_spec, parse_env, parse_mount, parse_spec
from dispatcher.domain import AppSpec, Front, ImageAt, Io, Mount, Policy, Start, WhileStarting
from dispatcher.problems import Problem


@pytest.mark.parametrize(
    ("word", "source", "target", "readonly"),
    [
        ("/a:/b", "/a", "/b", False),
        ("./www:/srv/www", "/home/me/www", "/srv/www", False),
        (".:/srv", "/home/me", "/srv", False),
        ("../you/x:/srv:ro", "/home/you/x", "/srv", True),
        ("/a/../../b:/b:rw", "/b", "/b", False),
    ],
)
def test_parse_mount(word: str, source: str, target: str, readonly: bool) -> None:
    assert parse_mount(word, "/home/me") == {"source": source, "target": target, "readonly": readonly}


@pytest.mark.parametrize("word", ["", ":", "/a", "/a:", ":/b", "/a:/b:x", "/a:/b:ro:rw"])
def test_a_mount_that_is_none(word: str) -> None:
    with pytest.raises(Problem, match="mount"):
        parse_mount(word, "/")


@pytest.mark.parametrize("word", ["", "A", "=b"])
def test_an_env_that_is_none(word: str) -> None:
    with pytest.raises(Problem, match="env"):
        parse_env(word)


def test_new_spec() -> None:
    flags = Flags(
        run="sh -c 'a; b' \"$X\"",
        mount=["w:/w", "x:/w"],
        env=["A=1", "A=2"],
        port=81,
        init=False,
        outbound=False,
        host_ports="3306, 6379",
        bandwidth="10Mbit",
        io="read=10M, write=5M,reads=200",
        idle="1h30m",
        start=Start.FROZEN,
        while_starting=WhileStarting.PAGE,
        concurrency="4",
        server_timing=True,
        health_path="/health",
        image_at=ImageAt.READY,
        restore_signal="USR1",
    )
    policy = Policy(
        idle_s=5400.0,
        start=Start.FROZEN,
        while_starting=WhileStarting.PAGE,
        concurrency=4,
        server_timing=True,
        health_path="/health",
        image_at=ImageAt.READY,
        restore_signal="USR1",
    )
    assert new_spec(flags, "/home") == AppSpec(
        command=("sh", "-c", "a; b", "$X"),
        mounts=(Mount("/home/x", "/w"),),
        env={"A": "2"},
        port=81,
        init=False,
        outbound=False,
        host_ports=(3306, 6379),
        bandwidth_bps=10_000_000,
        io=Io(10 << 20, 5 << 20, 200),
        policy=policy,
    )


def test_what_the_userlb_does_for_it(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>soon")
    flags = Flags(
        run="x",
        https=True,
        hsts="1d",
        requests="0.5",
        client_requests="2",
        in_flight="3",
        body_max="1K",
        maintenance_page="page.html",
        static=["/robots.txt=/w/robots.txt", "/css/=/w/css/"],
    )
    front = Front(
        https=True,
        hsts_s=86400,
        requests_per_s=0.5,
        client_requests_per_s=2.0,
        in_flight_max=3,
        body_bytes_max=1 << 10,
        maintenance_page="<p>soon",
        static={"/robots.txt": "/w/robots.txt", "/css/": "/w/css/"},
    )
    spec = new_spec(flags, str(tmp_path))
    assert spec.front == front
    nothing = Flags(
        https=False,
        hsts="",
        requests="",
        client_requests="",
        in_flight="",
        body_max="",
        maintenance_page="",
        static=[""],
    )
    assert changed_spec(spec, nothing, "/").front == Front()
    assert changed_spec(spec, Flags(hsts=""), "/").front.requests_per_s == 0.5


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (Flags(run="x", hsts="1d"), "front.hsts_s needs front.https"),
        (Flags(run="x", static=["/a"]), "'/a' is not URL=PATH"),
        (Flags(run="x", static=["a=/b"]), "'a' is not a path such as /robots.txt"),
        (Flags(run="x", static=["/a/=/b"]), "a tree ends with '/' on both sides"),
        (Flags(run="x", static=["/a=/b/../c"]), "without '..'"),
        (Flags(run="x", requests="0"), "front.requests_per_s 0.0: Expected `float` >= 0.1"),
        (Flags(run="x", body_max="x"), "body_max"),
        (Flags(run="x", maintenance_page="none.html"), "maintenance_page 'none.html'"),
    ],
)
def test_what_the_userlb_cannot_do(flags: Flags, said: str, tmp_path: Path) -> None:
    with pytest.raises(Problem) as refusal:
        new_spec(flags, str(tmp_path))
    assert said in str(refusal.value)


def test_no_flags_change_nothing() -> None:
    old = AppSpec(("x",), 81, (Mount("/a", "/b", True),), {"A": "b"}, policy=Policy(idle_s=3.0, concurrency=2))
    assert changed_spec(old, Flags(), "/") == old
    assert parse_spec(format_spec(old)) == old


def test_on_an_image_the_command_may_be_the_images_own() -> None:
    spec = new_spec(Flags(image="php"), "/")
    assert (spec.image, spec.command) == ("php", ())
    with pytest.raises(Problem, match="command: an app needs one"):
        changed_spec(spec, Flags(image=""), "/")
    assert changed_spec(spec, Flags(image="", run="x"), "/") == AppSpec(("x",))


def test_flags_can_take_back() -> None:
    old = AppSpec(
        ("x",),
        host_ports=(80,),
        bandwidth_bps=9_000,
        io=Io(5),
        policy=Policy(concurrency=2, health_path="/h", server_timing=True),
    )
    flags = Flags(concurrency="auto", health_path="", server_timing=False, host_ports="", bandwidth="", io="")
    assert changed_spec(old, flags, "/") == AppSpec(("x",))


@pytest.mark.parametrize(
    ("word", "said"), [("80,x", "'x' is not a port number"), ("0", "host_ports"), ("70000", "host_ports")]
)
def test_ports_of_the_host_that_are_none(word: str, said: str) -> None:
    with pytest.raises(Problem, match=said):
        new_spec(Flags(run="x", host_ports=word), "/")


@given(st.text())
def test_any_text_is_a_spec_or_a_problem(text: str) -> None:
    try:
        parse_spec(text)
    except Problem as problem:
        assert problem.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[]", "the spec: Expected `object`"),
        ("{}", "command: an app needs one"),
        ('{"command": ["x"], "prot": 80}', "prot"),
        ('{"command": ["x"], "port": "80"}', "port '80': Expected `int`"),
        ('{"command": ["x"], "workdir": "srv"}', "'srv' is not an absolute path"),
        ('{"command": ["x"], "mounts": [{"source": "/a/../b", "target": "/c"}]}', "'/a/../b'"),
        ('{"command": ["x"], "env": {"A=": "b"}}', "a name in env"),
        ('{"command": ["x"], "io": {"write_bps": 0}}', "io.write_bps 0: Expected `int` >= 1"),
        ('{"command": ["x"], "io": {"write": 5}}', "write"),
    ],
)
def test_refusals_of_specs(text: str, said: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_spec(text)
    assert said in refused.value.message
