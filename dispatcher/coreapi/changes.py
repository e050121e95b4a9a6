"""A change of configuration as guarded steps, committed in as few transactions as the store allows."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import batched, chain
from typing import NamedTuple

from dispatcher.cmdb.store import Delete, Put, Store, Unchanged
from dispatcher.problems import Code, Problem

OPERATIONS_MAX = 128  # of one transaction
TRIES_MAX = 8


class Step(NamedTuple):
    operation: Put | Delete
    guard: Unchanged | None = None  # what it was decided from


async def commit(store: Store, steps: Sequence[Step], *, guard: Unchanged) -> list[Step] | None:
    """None: something that the first transaction depends on has changed, and nothing was written; decide again.

    `guard` holds for the first transaction, which carries as many steps as fit: put the state there. Answers those later steps
    whose own guard no longer held; they were left out, all others took place.
    """
    first, rest = steps[: OPERATIONS_MAX - 1], steps[OPERATIONS_MAX - 1 :]  # one comparison is the guard's
    guards = [guard, *(own for own in _guards(first) if own.key != guard.key)]
    if await store.commit(guards, [step.operation for step in first]) is None:
        return None
    lost = [await _commit_rest(store, chunk) for chunk in batched(rest, OPERATIONS_MAX)]
    return list(chain.from_iterable(lost))


async def _commit_rest(store: Store, chunk: Sequence[Step]) -> list[Step]:
    if await store.commit(_guards(chunk), [step.operation for step in chunk]) is not None:
        return []
    return [step for step in chunk if await store.commit(_guards([step]), [step.operation]) is None]


def _guards(steps: Sequence[Step]) -> list[Unchanged]:
    return [step.guard for step in steps if step.guard]


async def until_won[T](attempt: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Decides again while others' changes come between, and gives up after TRIES_MAX."""
    for _ in range(TRIES_MAX):
        answer = await attempt()
        if answer is not None:
            return answer
    raise Problem(Code.BUSY, f"{what} is being changed by others all the time", hint="try again in a moment")
