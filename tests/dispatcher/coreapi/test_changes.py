import pytest

from dispatcher.cmdb.store import Delete, Put, Store, Unchanged
from dispatcher.coreapi.changes import OPERATIONS_MAX, Step, commit, until_won
from dispatcher.problems import Code, Problem

FREE = Unchanged("/test/guard", 0)


def steps(count: int) -> list[Step]:
    names = [f"/test/{number:04}" for number in range(count)]
    return [Step(Put(name, b"mine"), Unchanged(name, 0)) for name in names]


@pytest.mark.parametrize("count", [1, OPERATIONS_MAX - 1, OPERATIONS_MAX, 3 * OPERATIONS_MAX])
async def test_all_steps_are_taken(store: Store, count: int) -> None:
    assert await commit(store, steps(count), guard=FREE) == []
    assert len(await store.list("/test/")) == count


async def test_nothing_is_written_when_the_guard_or_a_first_step_has_changed(store: Store) -> None:
    await store.commit([], [Put("/test/0005", b"theirs")])
    assert await commit(store, steps(300), guard=FREE) is None
    await store.commit([], [Delete("/test/0005"), Put("/test/guard", b"")])
    assert await commit(store, steps(300), guard=FREE) is None
    assert len(await store.list("/test/")) == 1


async def test_a_later_step_that_is_lost_is_told_and_the_others_are_taken(store: Store) -> None:
    await store.commit([], [Put("/test/0200", b"theirs")])
    all_steps = steps(300)
    assert await commit(store, all_steps, guard=FREE) == [all_steps[200]]
    values = {key: value.value for key, value in await store.list("/test/")}
    assert len(values) == 300
    assert values.pop("/test/0200") == b"theirs"
    assert set(values.values()) == {b"mine"}


async def test_until_won() -> None:
    answers = iter([None, None, "won"])

    async def attempt() -> str | None:
        return next(answers)

    async def never() -> str | None:
        return None

    assert await until_won(attempt, "app blog") == "won"
    with pytest.raises(Problem, match="app blog is being changed") as refused:
        await until_won(never, "app blog")
    assert refused.value.code is Code.BUSY
