"""Every change of configuration. The command line calls these functions, the REST layer wraps them; there is no other write path.

    await create_app(store, "blog", AppSpec(command=("php", "-S", "0.0.0.0:80")), domains=["blog.localhost"], compute="node1")
    await edit_app(store, "blog", words={"cpu": "60%"}, add_domains=["*.blog.example"])

One change is one transaction, compared on the mod_revision of what it was decided from, and decided again a bounded number of times
when something changed meanwhile. What is too large for one transaction goes in several, the state first. Every refusal is a Problem
that names field, value and rule.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.keys import Field
from dispatcher.cmdb.store import Delete, Put, Store, Unchanged, Value
from dispatcher.coreapi.changes import Step, commit, until_won
from dispatcher.coreapi.placement import place
from dispatcher.coreapi.uids import bases
from dispatcher.coreapi.views import domains_of, list_computes, text_of, unknown_app
from dispatcher.domain import AppSpec, ContainerRow, Status, check_app_name, check_domain
from dispatcher.problems import Code, Problem

WORDS = (
    Field.CONTAINERS,
    Field.CPU,
    Field.MEMORY,
    Field.SWITCH,
)  # what people write; the other keys of an app are not theirs

SpecChange = Callable[[AppSpec], AppSpec]


async def create_app(
    store: Store,
    name: str,
    spec: AppSpec,
    *,
    domains: Iterable[str] = (),
    words: Mapping[str, str] | None = None,
    compute: str,
) -> None:
    """`compute`: where its containers are registered while no Compute is in the CMDB."""
    _checked(check_app_name, name)
    wanted, given = _checked_domains(domains), _checked_words(words or {})

    async def attempt() -> list[Step] | None:
        if await store.get(keys.spec_key(name)):
            raise Problem(
                Code.EXISTS, f"app {name} exists already", hint=f"to change it: fastcontainer app edit {name}"
            )
        steps = [
            Step(Put(keys.spec_key(name), codec.encode(spec))),
            *(await _claim(store, name)),
            *(_word(name, field, word) for field, word in given.items() if word),
            *(await _additions(store, name, wanted)),
            *(await _new_rows(store, name, given, compute)),
        ]
        return await commit(store, steps, guard=Unchanged(keys.spec_key(name), 0))

    await _refuse_lost(store, name, await until_won(attempt, f"app {name}"))


async def edit_app(
    store: Store,
    name: str,
    *,
    change: SpecChange | AppSpec | None = None,
    words: Mapping[str, str] | None = None,
    add_domains: Iterable[str] = (),
    remove_domains: Iterable[str] = (),
    revision: int | None = None,
) -> None:
    """Changes what is given and nothing else. An empty word removes its key, so that the default counts again.

    `change`: a new spec, or what makes one of the old; called again when another change came between. `revision`: refuse with BUSY
    unless the spec is still that of this mod_revision; for a spec that a person was shown and wrote anew.
    """
    given, adding, removing = (
        _checked_words(words or {}),
        _checked_domains(add_domains),
        _checked_domains(remove_domains),
    )
    if both := set(adding) & set(removing):
        raise Problem(Code.INVALID, f"domain {min(both)!r} is to be added and removed at once")

    async def attempt() -> list[Step] | None:
        found = await _found(store, name)
        if revision is not None and found.mod_revision != revision:
            raise Problem(Code.BUSY, f"app {name} was changed meanwhile", hint="read it again and repeat your change")
        steps = [_word(name, field, word) for field, word in given.items()]
        if change is not None:
            new = change if isinstance(change, AppSpec) else change(_old_spec(name, found))
            steps.insert(0, Step(Put(keys.spec_key(name), codec.encode(new))))
        elif adding:
            # Touches the spec, so that a removal decided before these domains does not leave them behind.
            steps.insert(0, Step(Put(keys.spec_key(name), found.value)))
        steps += await _additions(store, name, adding)
        steps += await _removals(store, name, removing)
        return await commit(store, steps, guard=Unchanged(keys.spec_key(name), found.mod_revision)) if steps else []

    await _refuse_lost(store, name, await until_won(attempt, f"app {name}"))


async def remove_app(store: Store, name: str) -> list[str]:
    """Removes an app with its domains and sleeping containers. Answers the ids of those containers that have a life: their
    agents see that the app is gone, drain them and remove the rows."""
    living: list[str] = []

    async def attempt() -> list[Step] | None:
        found = await _found(store, name)
        rows = await store.list(keys.containers_prefix(name))
        asleep = [(key, row.mod_revision) for key, row in rows if _is_asleep(row.value)]
        living[:] = sorted({key.rpartition("/")[2] for key, _ in rows} - {key.rpartition("/")[2] for key, _ in asleep})
        steps = [Step(Delete(key)) for key, _ in await store.list(keys.app_prefix(name))]
        steps += await _removals(store, name, await domains_of(store, name))
        steps += [Step(Delete(key), Unchanged(key, revision)) for key, revision in asleep]
        return await commit(store, steps, guard=Unchanged(keys.spec_key(name), found.mod_revision))

    await until_won(attempt, f"app {name}")
    return living


async def claim_uids(store: Store, name: str) -> None:
    """For an app whose spec was put by hand: the range of user ids that create_app would have given it."""

    async def attempt() -> list[Step] | None:
        found = await _found(store, name)
        return await commit(store, await _claim(store, name), guard=Unchanged(keys.spec_key(name), found.mod_revision))

    await until_won(attempt, f"app {name}")


async def _found(store: Store, name: str) -> Value:
    found = await store.get(keys.spec_key(name))
    if found is None:
        raise unknown_app(name)
    return found


def _old_spec(name: str, found: Value) -> AppSpec:
    try:
        return codec.decode_spec(name, found.value)
    except ValueError as error:
        hint = f"write it anew: fastcontainer app edit {name} --spec -"
        raise Problem(Code.INVALID, f"the spec of app {name} does not parse: {error}", hint=hint) from error


def _is_asleep(value: bytes) -> bool:
    try:
        return codec.decode_container("-", "-", value).status is Status.REGISTERED
    except ValueError:
        return True  # nobody can run what nobody can read


def _word(name: str, field: str, word: str) -> Step:
    key = keys.word_key(name, field)
    return Step(Put(key, word.encode()) if word else Delete(key))


async def _additions(store: Store, name: str, domains: list[str]) -> list[Step]:
    """Steps for those that the app does not have yet; EXISTS if one belongs to another."""
    owners = await asyncio.gather(*(store.get(keys.domain_key(domain)) for domain in domains))
    steps = []
    for domain, owner in zip(domains, owners, strict=True):
        key = keys.domain_key(domain)
        if owner is None:
            steps.append(Step(Put(key, name.encode()), Unchanged(key, 0)))
        elif text_of(owner.value) != name:
            raise _taken(domain, owner.value)
    return steps


async def _removals(store: Store, name: str, domains: list[str]) -> list[Step]:
    owners = await asyncio.gather(*(store.get(keys.domain_key(domain)) for domain in domains))
    steps = []
    for domain, owner in zip(domains, owners, strict=True):
        if owner is None or text_of(owner.value) != name:
            hint = f"its domains: fastcontainer app show {name}"
            raise Problem(Code.INVALID, f"domain {domain!r} is not one of app {name}", hint=hint)
        steps.append(Step(Delete(keys.domain_key(domain)), Unchanged(keys.domain_key(domain), owner.mod_revision)))
    return steps


async def _refuse_lost(store: Store, name: str, lost: list[Step]) -> None:
    """Of a change in several transactions: a domain that somebody else took between them is worth a refusal; a container row that
    an agent wrote first is what was wanted anyway."""
    for step in lost:
        owner = await store.get(step.operation.key)
        if (
            isinstance(step.operation, Put)
            and step.operation.value == name.encode()
            and owner
            and text_of(owner.value) != name
        ):
            raise _taken(step.operation.key.rpartition("/")[2], owner.value)


def _taken(domain: str, owner: bytes) -> Problem:
    other = text_of(owner)
    hint = f"to free it: fastcontainer app edit {other} --remove-domain {domain}"
    return Problem(Code.EXISTS, f"domain {domain} belongs to app {other}", hint=hint)


async def _claim(store: Store, name: str) -> list[Step]:
    """Steps that give the app its range of user ids."""
    owners: list[tuple[int, Value]] = []
    for base in bases(name):
        claim = await store.get(keys.uid_key(base))
        if claim is None or text_of(claim.value) == name:
            return _claim_steps(name, base, claim)
        owners.append((base, claim))
    for base, claim in owners:
        if await store.get(keys.spec_key(text_of(claim.value))) is None:
            return _claim_steps(name, base, claim)
    raise Problem(
        Code.INVALID,
        f"the {len(owners)} ranges of user ids that app {name!r} could have are all in use",
        hint="another name begins to look elsewhere",
    )


def _claim_steps(name: str, base: int, claim: Value | None) -> list[Step]:
    key = keys.uid_key(base)
    return [
        Step(Put(keys.word_key(name, Field.UID_BASE), str(base).encode())),
        Step(Put(key, name.encode()), Unchanged(key, claim.mod_revision if claim else 0)),
    ]


async def _new_rows(store: Store, name: str, words: Mapping[Field, str], otherwise: str) -> list[Step]:
    """Numbered after those that a removed app of this name may still have: they drain, and their agents remove them."""
    written = {field: word.encode() for field, word in words.items() if word}
    app = codec.assemble(name, AppSpec(command=("-",)), written)
    computes = await list_computes(store)
    places = place(computes, app.containers, app.cpu or 0.0, app.memory_bytes or 0, otherwise)
    left = [key.rpartition("/")[2] for key, _ in await store.list(keys.containers_prefix(name))]
    first = 1 + max((int(id) for id in left if id.isdigit()), default=0)
    return [
        Step(Put(key, codec.encode(ContainerRow(compute))), Unchanged(key, 0))
        for key, compute in ((keys.container_key(name, str(n)), compute) for n, compute in enumerate(places, first))
    ]


def _checked_words(words: Mapping[str, str]) -> dict[Field, str]:
    checked = {}
    for name, word in words.items():
        if name not in WORDS:
            raise Problem(Code.INVALID, f"{name!r} is none of {', '.join(WORDS)}")
        try:
            checked[Field(name)] = word
            if word:
                codec.parse_word("-", Field(name), word.encode())
        except codec.Refused as refused:
            rule = refused.rule if repr(word) in refused.rule else f"{word!r}: {refused.rule}"
            raise Problem(Code.INVALID, f"{name}: {rule}") from refused
    return checked


def _checked_domains(domains: Iterable[str]) -> list[str]:
    return [_checked(check_domain, domain.lower().rstrip(".")) for domain in dict.fromkeys(domains)]


def _checked(check: Callable[[str], str], word: str) -> str:
    try:
        return check(word)
    except ValueError as error:
        raise Problem(Code.INVALID, str(error)) from error
