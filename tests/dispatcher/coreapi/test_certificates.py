import time

import pytest

from dispatcher.cmdb.memory import MemoryStore
from dispatcher.coreapi import certificates as service
from dispatcher.coreapi.certificates import Issued
from dispatcher.problems import Problem
from dispatcher.userlb.certificates import self_signed
from dispatcher.userlb.private import CERTIFICATES


async def test_put_list_and_remove() -> None:
    store, made = MemoryStore(), self_signed(("a.test",), time.time(), "a")
    await service.put_certificate(store, "a", made.pem, "a.pem", Issued(("a.test",), "https://x/dir"))
    assert await service.list_certificates(store) == [made]
    assert list(await service.due(store, 20 * 365)) == ["a"]
    await service.put_certificate(store, "a", made.pem, "a.pem")
    assert await service.due(store, 20 * 365) == {}  # brought by hand now: nobody else renews it
    await service.remove_certificate(store, "a")
    assert await service.list_certificates(store) == []
    with pytest.raises(Problem, match="no certificate 'a'"):
        await service.remove_certificate(store, "a")


async def test_what_is_refused_changes_nothing() -> None:
    store = MemoryStore()
    old = self_signed(("a.test",), time.time() - 11 * 365 * 86400, "a")
    for pem, rule in ((old.pem, "has expired"), (b"x", "0 private keys")):
        with pytest.raises(Problem, match=rule):
            await service.put_certificate(store, "a", pem, "a.pem")
    assert await store.list(CERTIFICATES) == []


async def test_one_account_for_all() -> None:
    store = MemoryStore()
    assert await service.account_key(store, b"first") == await service.account_key(store, b"second") == b"first"


async def test_a_challenge_goes_by_itself() -> None:
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    await service.publish_challenge(store, "t", "t.x")
    assert len(await store.list("/")) == 1
    now = service.CHALLENGE_S + 1
    assert await store.list("/") == []
