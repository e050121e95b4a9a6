from bench.steps import parse


def test_steps_are_summed_in_a_wake_and_listed_by_wake() -> None:
    lines = [
        '2026-11-24T10:00:00.000000Z err steps [["WriteFile", 10.0], ["WriteFile", 5.5], ["posix_spawn", 200.0]]',
        "2026-11-24T10:00:00.000000Z out hello",
        '2026-11-24T10:00:01.000000Z err steps [["WriteFile", 12.0], ["posix_spawn", 190.0]]',
    ]
    assert parse(lines) == {"WriteFile": [15.5, 12.0], "posix_spawn": [200.0, 190.0]}


def test_without_a_wake_there_are_none() -> None:
    assert parse(["2026-11-24T10:00:00.000000Z out hello"]) == {}
