import pytest

from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Delete, Put
from dispatcher.tasks import Tasks
from dispatcher.userlb import private
from dispatcher.userlb.private import CHALLENGES, Private
from tests.plugins.installation import wait_for


@pytest.mark.parametrize(
    ("token", "answer", "expected"),
    [
        ("a_B-1", b"a_B-1.x\n", {"a_B-1": "a_B-1.x"}),
        ("a;show", b"x", {}),
        ("a", b"x y", {}),
        ("a", b"x\ndel map y", {}),
        ("a/b", b"x", {}),
        ("a", "é".encode(), {}),
    ],
)
def test_challenges(token, answer, expected) -> None:
    assert private.challenges({CHALLENGES + token: answer, private.ACCOUNT: b"x"}) == expected


async def test_it_follows_through_an_outage_and_a_lost_history(monkeypatch) -> None:
    monkeypatch.setattr(private, "RETRY_S", 0.01)
    store, told, tasks = MemoryStore(), [], Tasks()
    await store.commit([], [Put(CHALLENGES + "a", b"1"), Put("/fastcontainer/apps/x", b"no")])
    following = Private(store, lambda: told.append(1))
    tasks.start(following.run(), name="follow")

    async def until(values: dict[str, bytes]) -> None:
        wanted = {CHALLENGES + token: value for token, value in values.items()}

        async def so() -> bool:
            return following.values == wanted

        await wait_for(so, 5)

    try:
        await until({"a": b"1"})
        await store.commit([], [Put(CHALLENGES + "b", b"2"), Delete(CHALLENGES + "a")])
        await until({"b": b"2"})
        store.down = True
        store.down = False
        await store.commit([], [Put(CHALLENGES + "c", b"3")])
        store.compact()
        await until({"b": b"2", "c": b"3"})
        assert told
    finally:
        await tasks.close()
