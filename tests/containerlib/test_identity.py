import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerlib.identity import Identity
from containerlib.idmap import APP_USER

text = st.text(max_size=20)


@given(
    st.builds(
        Identity,
        hostname=text,
        uid=st.integers(0, 2**31),
        command=st.lists(text, min_size=1).map(tuple),
        workdir=text,
        env=st.dictionaries(text, text),
        mounts=st.lists(text).map(tuple),
        address=text,
        init=st.booleans(),
        spawn=st.booleans(),
        user=st.sampled_from([0, APP_USER]),
        group=st.sampled_from([None, 5]),
        groups=st.lists(st.integers(0, 9)).map(tuple),
        gate=st.booleans(),
    )
)
def test_a_message_gives_the_same_identity(identity: Identity) -> None:
    assert Identity.from_bytes(identity.to_bytes()) == identity


def test_a_message_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown"):
        Identity.from_bytes(b'{"hostname": "a", "uid": 1, "command": [], "mounts": [], "unknown": 1}')


def test_of_what_a_site_that_is_woken_never_has_nothing_is_said() -> None:
    usual, rare = Identity("a", 1, ("x",)), Identity("a", 1, ("x",), gate=True)
    assert set(json.loads(rare.to_bytes())) - set(json.loads(usual.to_bytes())) == {
        "user", "group", "groups", "capabilities", "apparmor", "gate",
    }  # fmt: skip
