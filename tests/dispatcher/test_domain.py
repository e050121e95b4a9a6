import msgspec
import pytest

from dispatcher.domain import AppSpec, Mount, Policy, Status, check_app_name, check_domain, life_name


@pytest.mark.parametrize("name", ["a", "blog", "my-blog-2", "0", "a" * 63])
def test_app_names(name: str) -> None:
    assert check_app_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "..", "a_b", "a" * 64, "bl\u00f6g", "a\n"])
def test_what_is_no_app_name(name: str) -> None:
    with pytest.raises(ValueError, match="app name"):
        check_app_name(name)


@pytest.mark.parametrize(
    "domain", ["localhost", "blog.localhost", "*.example.com", "xn--bcher-kva.example", "a_b.example", "1.2"]
)
def test_domains(domain: str) -> None:
    assert check_domain(domain) == domain


@pytest.mark.parametrize(
    "domain",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a.",
        "Blog.example",
        "*",
        "a.*.b",
        "*a.example",
        "a b",
        "a:80",
        "a/b",
        "-a.b",
        "a" * 64,
        "a." * 127 + "a",
    ],
)
def test_what_is_no_domain(domain: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        check_domain(domain)


def test_what_is_alive() -> None:
    alive = [status for status in Status if status.is_alive()]
    assert alive == [Status.STARTING, Status.RUNNING, Status.FROZEN, Status.DRAINING]


@pytest.mark.parametrize(
    "values",
    [
        {"command": []},
        {"command": ["a"], "image": "Big"},
        {"command": ["a"], "image": "a/../b"},
        {"command": ["a"], "image": "a@20260101-000000-00000000"},
        {"command": ["a\0b"]},
        {"command": ["a"], "env": {"A=B": "c"}},
        {"command": ["a"], "env": {"": "c"}},
        {"command": ["a"], "env": {"A": "b\0"}},
        {"command": ["a"], "workdir": "relative"},
        {"command": ["a"], "port": 0},
        {"command": ["a"], "pids": 1},
        {"command": ["a"], "unknown": 1},
        {"command": ["a"], "policy": {"idle_s": 0}},
        {"command": ["a"], "policy": {"idle_s": -1}},
        {"command": ["a"], "policy": {"lifespan_jitter": 0.6}},
        {"command": ["a"], "policy": {"concurrency": 0}},
        {"command": ["a"], "mounts": [{"source": "a", "target": "/b"}]},
        {"command": ["a"], "mounts": [{"source": "/a", "target": "/b/../../c"}]},
    ],
)
def test_specs_that_are_refused(values: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(values, AppSpec)


def test_a_spec_keeps_its_value_through_json() -> None:
    spec = AppSpec(("a", "b"), 81, (Mount("/a", "/b", True),), {"A": "b"}, "/srv", policy=Policy(idle_s=1.5))
    assert msgspec.json.decode(msgspec.json.encode(spec), type=AppSpec) == spec


def test_life_name() -> None:
    assert life_name("blog", "1", 3) == "blog/1.3"


@pytest.mark.parametrize("word", ["lots", "", "0%", "50"])
def test_a_boot_cpu_that_is_no_share_of_a_core_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is not a share of one core"):
        Policy(boot_cpu=word)
