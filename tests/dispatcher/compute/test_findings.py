import msgspec

from dispatcher.compute.findings import State, degraded, missing, ok


def test_what_scripts_read() -> None:
    assert [each.state for each in (ok("a", "b"), degraded("a", "b", "c"), missing("a", "b", "c"))] == list(State)
    assert msgspec.to_builtins(missing("a", "b", "c")) == {"state": "missing", "what": "a", "found": "b", "remedy": "c"}
