import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.codec import Refused
from dispatcher.cmdb.keys import Field, SpecKey, WordKey
from dispatcher.domain import App, AppSpec, ComputeRow, ContainerRow, EventRow, Policy, Scaling, Status, Switch

SPEC = AppSpec(command=("serve",))


@given(st.text(max_size=80), st.sampled_from(Status), st.integers(0, 10**9), st.floats(0, 4e9))
def test_rows_come_back_as_they_went(text: str, status: Status, number: int, at: float) -> None:
    row = ContainerRow(compute=text, status=status, generation=number, started=at, reason=text)
    assert codec.decode_container("blog", "1", codec.encode(row)) == row
    event = EventRow(at=at, kind="refused", message=text, value=text)
    assert codec.decode_event("blog", "1", codec.encode(event)) == event
    compute = ComputeRow(dispatcher=text, cores=at, memory_bytes=number)
    assert codec.decode_compute("one", codec.encode(compute)) == compute
    spec = AppSpec(command=("sh", "-c"), env={"A": "b"}, policy=Policy(idle_s=at + 1))
    assert codec.decode_spec("blog", codec.encode(spec)) == spec


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        (Field.CONTAINERS, b"0", 0),
        (Field.CONTAINERS, b"1000", 1000),
        (Field.CONTAINERS, b" 3\n", 3),
        (Field.CONTAINERS, b"auto", None),
        (Field.CPU, b"60%", 0.6),
        (Field.CPU, b"auto\n", None),
        (Field.MEMORY, b"256M", 256 << 20),
        (Field.MEMORY, b"auto", None),
        (Field.SWITCH, b"maintenance", Switch.MAINTENANCE),
        (Field.UID_BASE, b"200000", 200_000),
        (Field.SCALING, b'{"containers":2}', Scaling(containers=2)),
    ],
)
def test_words(field: Field, value: bytes, word: codec.Word) -> None:
    assert codec.parse_word("blog", field, value) == word


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        (Field.CONTAINERS, b"1001", "from 0 to 1000, or auto"),
        (Field.CONTAINERS, b"-1", "from 0 to 1000, or auto"),
        (Field.CONTAINERS, b"", "from 0 to 1000, or auto"),
        (Field.CONTAINERS, "٣".encode(), "from 0 to 1000, or auto"),
        (Field.CONTAINERS, b"9" * 100_000, "from 0 to 1000, or auto"),
        (Field.CONTAINERS, b"\xff\xfe", "utf-8"),
        (Field.CPU, b"lots", "share of one core such as 60%"),
        (Field.CPU, b"0%", "from 1% to"),
        (Field.MEMORY, b"256m", "such as 256M"),
        (Field.SWITCH, b"ON", "one of on, off, maintenance"),
        (Field.SWITCH, b"auto", "one of on, off, maintenance"),
        (Field.UID_BASE, b"0", "from 200000"),
        (Field.UID_BASE, b"auto", "from 200000"),
        (Field.SCALING, b'{"containers":-1}', "from 0 to 1000"),
        (Field.SCALING, b'{"cpu":0}', "cores"),
        (Field.SCALING, b'{"memory_bytes":1}', "at least"),
        (Field.SCALING, b"{", "JSON"),
    ],
)
def test_refusal_names_key_value_and_rule(field: Field, value: bytes, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        codec.parse_word("blog", field, value)
    refused = caught.value
    assert refused.key == f"/fastcontainer/apps/blog/{field}"
    assert refused.value == codec.shown(value)
    assert len(refused.value) <= codec.SHOWN_MAX
    assert rule in refused.rule
    assert refused.key in str(refused) and refused.rule in str(refused)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (b"{}", "command"),
        (b'{"command":["a"],"domains":[]}', "unknown field `domains`"),
        (b'{"command":["a"],"port":0}', "port"),
        (b'{"command":["a"],"workdir":"x"}', "absolute path"),
        (b"[]", "object"),
        (b"\xff", ""),
    ],
)
def test_bad_spec(value: bytes, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        codec.check(SpecKey("blog"), value)
    assert rule in caught.value.rule


@given(st.sampled_from(Field), st.binary(max_size=40))
def test_any_bytes_are_a_word_or_refused(field: Field, value: bytes) -> None:
    try:
        codec.check(WordKey("blog", field), value)
    except Refused as refused:
        assert refused.key == keys.word_key("blog", field)


@pytest.mark.parametrize(
    ("words", "app"),
    [
        ({}, App("blog", SPEC)),
        (
            {
                Field.CONTAINERS: b"3",
                Field.CPU: b"50%",
                Field.MEMORY: b"64M",
                Field.SWITCH: b"off",
                Field.UID_BASE: b"300000",
            },
            App("blog", SPEC, 3, 0.5, 64 << 20, Switch.OFF, 300_000),
        ),
        (
            {
                Field.CONTAINERS: b"auto",
                Field.CPU: b"50%",
                Field.SCALING: b'{"containers":4,"cpu":2.0,"memory_bytes":8388608}',
            },
            App("blog", SPEC, 4, 0.5, 8 << 20),
        ),
        ({Field.CONTAINERS: b"auto", Field.CPU: b"auto", Field.SCALING: b"{}"}, App("blog", SPEC)),
        ({Field.CONTAINERS: b"0", Field.SCALING: b'{"containers":4}'}, App("blog", SPEC, 0)),
    ],
    ids=["defaults", "by hand", "auto takes scaling's", "auto without scaling's", "zero is a word, not an absence"],
)
def test_effective_values(words: dict[Field, bytes], app: App) -> None:
    assert codec.assemble("blog", SPEC, words) == app
