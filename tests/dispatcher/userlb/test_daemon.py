import pytest

from dispatcher.problems import Problem
from dispatcher.settings import Settings
from dispatcher.userlb import daemon


@pytest.mark.parametrize("listen", ["", "off"])
def test_it_has_to_be_told_where_to_listen(listen) -> None:
    with pytest.raises(Problem, match="userlb_listen says nowhere"):
        daemon.pool_of(Settings(userlb_listen=listen))


def test_without_haproxy_it_says_so(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(Problem, match="there is no haproxy"):
        daemon.pool_of(Settings(userlb_listen="127.0.0.1:1"))


def test_connections_are_as_many_as_there_are_descriptors_for(monkeypatch) -> None:
    settings = Settings(userlb_listen="127.0.0.1:1", userproxy_listen="127.0.0.1:2", trusted_proxies=("10.0.0.0/8",))
    for limit, wanted in ((65_536, 10_000), (20_000, 9_950)):
        monkeypatch.setattr("resource.getrlimit", lambda _, limit=limit: (limit, limit))
        pool = daemon.pool_of(settings)
        assert pool.connections_max == wanted
    assert (pool.listen, pool.proxies, pool.trusted) == (("127.0.0.1:1",), ("127.0.0.1:2",), ("10.0.0.0/8",))
    assert pool.directory == "/run/fastcontainer/userlb"


def test_the_proxies_are_all_workers() -> None:
    settings = Settings(userlb_listen="127.0.0.1:1", userproxy_listen="127.0.0.1:8082", userproxy_workers=2)
    assert daemon.pool_of(settings).proxies == ("127.0.0.1:8082", "127.0.0.1:8083")
