from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cmdb import keys
from dispatcher.cmdb.keys import ComputeKey, ContainerKey, DomainKey, EventKey, Field, SpecKey, WordKey

APPS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
KEYS = st.one_of(
    st.builds(SpecKey, APPS),
    st.builds(WordKey, APPS, st.sampled_from(Field)),
    st.builds(ContainerKey, APPS, st.integers(1, 999_999_999).map(str)),
    st.builds(DomainKey, APPS.map(lambda name: f"*.{name}.example.com")),
    st.builds(ComputeKey, APPS.map(lambda name: f"{name}.Example")),
    st.builds(EventKey, APPS, st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True)),
)


@given(KEYS)
def test_what_is_built_parses_back(key: Any) -> None:
    assert keys.parse(keys.text(key)) == key


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_parses_or_is_refused(first: str, second: str) -> None:
    for text in (first, keys.PREFIX + first, f"{keys.APPS}{first}/{second}", keys.DOMAINS + first):
        try:
            assert keys.text(keys.parse(text)) == text
        except ValueError as error:
            assert str(error)
        keys.app_of(text)


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("/elsewhere/apps/blog/spec", "does not begin with /fastcontainer/"),
        ("/fastcontainer/apps/blog/cpuu", "'cpuu' is none of spec, containers, cpu"),
        ("/fastcontainer/apps/Blog/cpu", "app name 'Blog'"),
        ("/fastcontainer/apps/../cpu", "app name '..'"),
        ("/fastcontainer/apps/blog/cpu/x", "not a key"),
        ("/fastcontainer/domains/Blog.Example.com", "lower-case host name"),
        ("/fastcontainer/domains/a/b", "not a key"),
        ("/fastcontainer/containers/blog/0", "container id '0'"),
        ("/fastcontainer/containers/blog/01", "container id '01'"),
        ("/fastcontainer/containers/blog/1\n", "container id"),
        ("/fastcontainer/computes/", "compute name ''"),
        ("/fastcontainer/images/php", "not a key"),
    ],
)
def test_refusal_names_the_rule(key: str, rule: str) -> None:
    with pytest.raises(ValueError) as refusal:
        keys.parse(key)
    assert rule in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "app"),
    [
        ("/fastcontainer/apps/blog/cpuu", "blog"),
        ("/fastcontainer/containers/blog/x", "blog"),
        ("/fastcontainer/apps/Blog/cpu", None),
        ("/fastcontainer/domains/blog.example.com", None),
    ],
)
def test_app_of_a_key_that_may_be_wrong(key: str, app: str | None) -> None:
    assert keys.app_of(key) == app


def test_configuration_is_one_range_without_the_events() -> None:
    for key in (SpecKey("0"), WordKey("z", Field.CPU), DomainKey("*.z"), ContainerKey("a", "1"), ComputeKey("zz")):
        assert keys.CONFIGURATION <= keys.text(key) < keys.CONFIGURATION_END
    assert not keys.text(EventKey("a", "1")) < keys.CONFIGURATION_END
