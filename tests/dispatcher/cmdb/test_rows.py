import gc

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cmdb.keys import ComputeKey, ContainerKey, DomainKey, Field, Key, SpecKey, WordKey
from dispatcher.cmdb.rows import Rows

NAMES = st.sampled_from(["a", "b", "a-b"])
KEYS = st.one_of(
    st.builds(SpecKey, NAMES),
    st.builds(WordKey, NAMES, st.sampled_from(Field)),
    st.builds(ContainerKey, NAMES, st.sampled_from(["1", "11", "111"])),
    st.builds(DomainKey, NAMES),
    st.builds(ComputeKey, NAMES),
)


@given(st.lists(st.tuples(KEYS, st.sampled_from([b"x", b"y", None]))))
def test_rows_are_a_mapping(steps: list[tuple[Key, bytes | None]]) -> None:
    rows, model = Rows(), dict[Key, bytes]()
    for key, value in steps:
        if value is None:
            rows.delete(key)
            model.pop(key, None)
        else:
            rows.put(key, value)
            model[key] = value
        assert len(rows) == len(model)
    assert {key: rows.get(key) for key in rows} == model
    for app in ("a", "b", "a-b"):
        assert rows.containers(app) == {
            k.container: v for k, v in model.items() if isinstance(k, ContainerKey) and k.app == app
        }
        assert rows.words(app) == {k.field: v for k, v in model.items() if isinstance(k, WordKey) and k.app == app}


def test_a_thousand_apps_are_no_work_for_the_garbage_collector() -> None:
    gc.collect()
    before = len(gc.get_objects())
    rows = Rows()
    for number in range(1000):
        app = f"site-{number}"
        for key in (SpecKey(app), WordKey(app, Field.CPU), ContainerKey(app, "1"), ContainerKey(app, "2")):
            rows.put(key, b"value")
        rows.put(DomainKey(f"{app}.example.com"), app.encode())
    gc.collect()
    assert len(gc.get_objects()) - before < 100
