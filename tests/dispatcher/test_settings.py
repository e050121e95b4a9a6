from pathlib import Path

import pytest

from dispatcher.settings import Settings, host_port, load


def test_the_file_then_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "fastcontainer.toml"
    file.write_text('compute = "node1"\netcd = ["a:1", "b:2"]\nblanks = 2\nshort_cut = false\n')
    environ = {"FASTCONTAINER_CONFIG": str(file), "FASTCONTAINER_ETCD": "c:3,d:4", "FASTCONTAINER_BLANKS": "7"}
    settings = load(environ)
    assert (settings.compute, settings.etcd, settings.blanks, settings.short_cut) == ("node1", ("c:3", "d:4"), 7, False)


def test_defaults() -> None:
    settings = load({})
    assert settings.compute and settings.etcd == Settings().etcd
    assert Settings(run_dir="/x").agent_socket == "/x/agent.sock"
    assert Settings(run_dir="/x").route_key_path == "/x/route.key"
    assert Settings(route_key_file="/k").route_key_path == "/k"


@pytest.mark.parametrize(
    ("text", "said"),
    [("blnks = 2", "blnks"), ('blanks = "many"', "blanks"), ("etcd = 5", "etcd"), ("compute =", "fastcontainer.toml")],
)
def test_refusals_name_the_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "fastcontainer.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=said):
        load({"FASTCONTAINER_CONFIG": str(file)})


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(ValueError, match="no such file"):
        load({"FASTCONTAINER_CONFIG": "/no/such/file.toml"})


@pytest.mark.parametrize(("word", "pair"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:8080", ("::1", 8080))])
def test_host_port(word: str, pair: tuple[str, int]) -> None:
    assert host_port(word) == pair


@pytest.mark.parametrize("word", ["", "host", "host:", "host:x", "host:0", "host:65536", "host:-1"])
def test_what_is_no_host_port(word: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        host_port(word)


def test_workers_have_ports_of_their_own() -> None:
    settings = Settings(userproxy_listen="[::1]:8082", userproxy_workers=3)
    assert [(each.userproxy_listen, each.userproxy_metrics) for each in settings.userproxies] == [
        ("[::1]:8082", "127.0.0.1:9180"),
        ("[::1]:8083", "127.0.0.1:9190"),
        ("[::1]:8084", "127.0.0.1:9200"),
    ]
    assert settings.of_worker(2).userproxy_workers == 1
    settings.check_listeners()
    assert Settings().userproxies == (Settings(),)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"userproxy_workers": 2}, "webdispatcher_listen and userproxy_listen both come to 127.0.0.1:8081"),
        ({"userproxy_workers": 3, "userproxy_listen": "a:1", "userlb_listen": "a:3"}, "userproxy_listen and userlb_listen"),
        ({"userproxy_workers": 9, "userproxy_listen": "a:65530"}, "no port 6 above"),
        ({"userproxy_workers": 2, "userproxy_metrics": "127.0.0.1:9172", "userproxy_listen": "a:1"}, "agent_metrics"),
    ],
)  # fmt: skip
def test_workers_whose_ports_are_others(told: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**told).check_listeners()  # type: ignore[arg-type]


@pytest.mark.parametrize("count", ["0", "65", "two"])
def test_numbers_of_workers(count: str) -> None:
    with pytest.raises(ValueError, match="userproxy_workers"):
        load({"FASTCONTAINER_USERPROXY_WORKERS": count})
