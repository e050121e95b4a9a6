import asyncio
from collections.abc import Sequence
from itertools import islice

import msgspec
import pytest

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Delete, Put, Store, Unavailable, Unchanged
from dispatcher.coreapi.service import create_app, edit_app, remove_app
from dispatcher.coreapi.uids import UIDS_OF_APP, bases
from dispatcher.coreapi.views import domains_of, show_app
from dispatcher.domain import UID_FIRST, AppSpec, ComputeRow, ContainerRow, Policy, Status, Switch
from dispatcher.problems import Code, Problem

SPEC = AppSpec(command=("php", "-S", "0.0.0.0:80"))
HERE = "node1"


async def put(store: Store, key: str, value: str | bytes) -> None:
    assert await store.commit([], [Put(key, value if isinstance(value, bytes) else value.encode())])


async def test_create_writes_everything_at_once(store: Store) -> None:
    words = {"cpu": "30%", "memory": "256M", "containers": "2"}
    await create_app(store, "blog", SPEC, domains=["Blog.localhost", "*.blog.example"], words=words, compute=HERE)
    view = await show_app(store, "blog")
    assert view.app is not None
    assert (view.app.spec, view.app.containers, view.app.cpu, view.app.memory_bytes) == (SPEC, 2, 0.3, 256 << 20)
    assert view.app.uid is not None and view.app.uid >= UID_FIRST
    assert view.domains == ["*.blog.example", "blog.localhost"]
    assert [(each.id, each.row) for each in view.containers] == [("1", ContainerRow(HERE)), ("2", ContainerRow(HERE))]
    revisions = {value.mod_revision for _, value in await store.list(keys.PREFIX)}
    assert revisions == {view.revision}


async def test_containers_are_registered_where_there_is_room(store: Store) -> None:
    full, empty = (ComputeRow(":1", cores=2, memory_bytes=4 << 30, cpu_committed=cpu) for cpu in (2.0, 0.0))
    await put(store, keys.compute_key("full"), codec.encode(full))
    await put(store, keys.compute_key("empty"), codec.encode(empty))
    await create_app(store, "blog", SPEC, compute="elsewhere")
    assert [each.row.compute for each in (await show_app(store, "blog")).containers] == ["empty"]


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("name", {"name": "Blog"}, "'Blog'"),
        ("name", {"name": "../x"}, "'../x'"),
        ("name", {"name": "a" * 64}, "1 to 63"),
        ("domain", {"domains": ["blog..example"]}, "'blog..example'"),
        ("domain", {"domains": ["http://blog.example"]}, "'http://blog.example'"),
        ("domain", {"domains": ["a.*.example"]}, "'a.*.example'"),
        ("cpu", {"words": {"cpu": "lots"}}, "'lots' is not a share"),
        ("memory", {"words": {"memory": "1M"}}, "at least 4M"),
        ("containers", {"words": {"containers": "-1"}}, "containers: '-1': it must be"),
        ("switch", {"words": {"switch": "maybe"}}, "switch: 'maybe': it must be one of on, off"),
        ("uid_base", {"words": {"uid_base": "0"}}, "'uid_base' is none of"),
    ],
)
async def test_refusals_name_field_value_and_rule_and_write_nothing(field: str, given: dict, said: str) -> None:  # type: ignore[type-arg]
    store = MemoryStore()
    with pytest.raises(Problem) as refused:
        await create_app(store, **({"name": "blog", "spec": SPEC, "compute": HERE} | given))
    assert refused.value.code is Code.INVALID
    assert said in refused.value.message
    assert await store.list(keys.PREFIX) == []


async def test_an_app_is_created_once(store: Store) -> None:
    async def create() -> str:
        try:
            await create_app(store, "blog", SPEC, compute=HERE)
        except Problem as problem:
            return problem.code
        return "created"

    answers = await asyncio.gather(*(create() for _ in range(4)))
    assert sorted(answers) == ["created", "exists", "exists", "exists"]


async def test_a_domain_has_one_owner_and_the_refusal_names_it(store: Store) -> None:
    await create_app(store, "blog", SPEC, domains=["blog.localhost"], compute=HERE)
    await create_app(store, "shop", SPEC, compute=HERE)
    for change in (
        create_app(store, "other", SPEC, domains=["blog.localhost"], compute=HERE),
        edit_app(store, "shop", add_domains=["blog.localhost"]),
    ):
        with pytest.raises(Problem, match=r"blog\.localhost belongs to app blog") as refused:
            await change
        assert refused.value.code is Code.EXISTS
    with pytest.raises(Problem, match="not one of app shop"):
        await edit_app(store, "shop", remove_domains=["blog.localhost"])
    assert await domains_of(store, "blog") == ["blog.localhost"]
    assert await store.get(keys.spec_key("other")) is None


async def test_a_domain_written_by_hand_with_a_newline_counts(store: Store) -> None:
    await create_app(store, "blog", SPEC, compute=HERE)
    await put(store, keys.domain_key("blog.localhost"), "blog\n")
    await edit_app(store, "blog", add_domains=["blog.localhost"])
    await edit_app(store, "blog", remove_domains=["blog.localhost"])
    assert await domains_of(store, "blog") == []


async def test_creates_at_once_get_ranges_of_user_ids_of_their_own(store: Store) -> None:
    names = [f"app{number}" for number in range(25)]
    await asyncio.gather(*(create_app(store, name, SPEC, compute=HERE) for name in names))
    views = [await show_app(store, name) for name in names]
    bases = [view.app.uid for view in views if view.app and view.app.uid]
    assert len(set(bases)) == 25
    assert all((base - UID_FIRST) % UIDS_OF_APP == 0 for base in bases)


async def test_names_with_the_same_preferred_range_do_not_share_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.coreapi.service.bases", lambda app: bases("one name for all"))
    await asyncio.gather(*(create_app(store, name, SPEC, compute=HERE) for name in ("a", "b", "c")))
    views = [await show_app(store, name) for name in ("a", "b", "c")]
    assert {view.app.uid for view in views if view.app} == set(islice(bases("one name for all"), 3))


async def test_a_removed_apps_range_is_taken_when_no_other_is_near(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.coreapi.service.bases", lambda app: islice(bases("one name for all"), 2))
    for name in ("a", "b"):
        await create_app(store, name, SPEC, compute=HERE)
    with pytest.raises(Problem, match="all in use"):
        await create_app(store, "c", SPEC, compute=HERE)
    before = (await show_app(store, "b")).app
    await remove_app(store, "b")
    await create_app(store, "c", SPEC, compute=HERE)
    after = (await show_app(store, "c")).app
    assert before and after and before.uid == after.uid


async def test_an_app_created_again_finds_its_range_and_nobody_else_does(store: Store) -> None:
    await create_app(store, "blog", SPEC, compute=HERE)
    before = (await show_app(store, "blog")).app
    await remove_app(store, "blog")
    await create_app(store, "blog", SPEC, compute=HERE)
    after = (await show_app(store, "blog")).app
    assert before and after and before.uid == after.uid


async def test_edit_changes_what_is_given_and_nothing_else(store: Store) -> None:
    await create_app(store, "blog", SPEC, domains=["a.example"], words={"cpu": "30%", "memory": "64M"}, compute=HERE)
    before = await show_app(store, "blog")
    await edit_app(store, "blog", words={"cpu": "60%"}, add_domains=["b.example"])
    view = await show_app(store, "blog")
    assert view.words == before.words | {"cpu": "60%"}
    assert view.domains == ["a.example", "b.example"]
    await edit_app(
        store,
        "blog",
        change=lambda spec: msgspec.structs.replace(spec, port=8000),
        words={"memory": "", "switch": "off"},
        remove_domains=["a.example"],
    )
    view = await show_app(store, "blog")
    assert view.app is not None
    assert (view.app.spec.port, view.app.memory_bytes, view.app.switch) == (8000, None, Switch.OFF)
    assert view.domains == ["b.example"]


async def test_two_edits_at_once_both_take_place(store: Store) -> None:
    await create_app(store, "blog", SPEC, compute=HERE)

    def policy(**values: float) -> object:
        def change(spec: AppSpec) -> AppSpec:
            return msgspec.structs.replace(spec, policy=msgspec.structs.replace(spec.policy, **values))

        return edit_app(store, "blog", change=change)

    await asyncio.gather(policy(idle_s=5.0), policy(lifespan_s=50.0), policy(stop_grace_s=1.0))  # type: ignore[arg-type]
    app = (await show_app(store, "blog")).app
    assert app and app.spec.policy == Policy(idle_s=5.0, lifespan_s=50.0, stop_grace_s=1.0)


async def test_a_spec_that_was_written_from_an_old_one_is_refused(store: Store) -> None:
    await create_app(store, "blog", SPEC, compute=HERE)
    seen = (await show_app(store, "blog")).revision
    await edit_app(store, "blog", change=lambda spec: msgspec.structs.replace(spec, port=81))
    with pytest.raises(Problem) as refused:
        await edit_app(store, "blog", change=SPEC, revision=seen)
    assert refused.value.code is Code.BUSY


async def test_what_does_not_exist_is_said(store: Store) -> None:
    for change in (edit_app(store, "blog", words={"cpu": "1%"}), remove_app(store, "blog"), show_app(store, "blog")):
        with pytest.raises(Problem, match="no app 'blog'") as refused:
            await change
        assert refused.value.code is Code.UNKNOWN_APP
    assert await store.list(keys.PREFIX) == []


async def test_remove_leaves_the_living_to_their_agents(store: Store) -> None:
    await create_app(store, "blog", SPEC, domains=["blog.localhost"], words={"containers": "3"}, compute=HERE)
    await create_app(store, "shop", SPEC, domains=["shop.localhost"], compute=HERE)
    await put(store, keys.container_key("blog", "2"), codec.encode(ContainerRow(HERE, Status.RUNNING, 4)))
    assert await remove_app(store, "blog") == ["2"]
    left = {key for key, _ in await store.list(keys.PREFIX) if "blog" in key}
    assert left == {keys.container_key("blog", "2")}
    assert await domains_of(store, "shop") == ["shop.localhost"]


async def test_an_app_is_created_again_while_its_former_container_drains(store: Store) -> None:
    draining = codec.encode(ContainerRow(HERE, status=Status.DRAINING))
    await put(store, keys.container_key("blog", "3"), draining)
    await create_app(store, "blog", SPEC, compute=HERE)
    assert [(each.id, each.row.status) for each in (await show_app(store, "blog")).containers] == [
        ("3", Status.DRAINING),
        ("4", Status.REGISTERED),
    ]


async def test_a_broken_row_does_not_keep_an_app(store: Store) -> None:
    await create_app(store, "blog", SPEC, compute=HERE)
    await put(store, keys.container_key("blog", "1"), "{")
    assert await remove_app(store, "blog") == []
    assert await store.get(keys.container_key("blog", "1")) is None


async def test_more_than_one_transaction_holds(store: Store) -> None:
    domains = [f"{number}.example" for number in range(300)]
    await create_app(store, "blog", SPEC, domains=domains, words={"containers": "200"}, compute=HERE)
    view = await show_app(store, "blog")
    assert set(view.domains) == set(domains)
    assert [each.id for each in view.containers] == [str(number) for number in range(1, 201)]
    await remove_app(store, "blog")
    assert [key for key, _ in await store.list(keys.PREFIX) if not key.startswith(keys.UIDS)] == []


class Meddling(MemoryStore):
    """Somebody else writes just before each of the first `times` commits."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = 0
        self.wanted = times

    async def commit(self, when: Sequence[Unchanged], then: Sequence[Put | Delete]) -> int | None:
        if self.times < self.wanted and when:
            self.times += 1
            value = await self.get(keys.spec_key("blog"))
            await super().commit([], [Put(keys.spec_key("blog"), value.value if value else b"{}")])
        return await super().commit(when, then)


@pytest.mark.parametrize(("times", "wins"), [(1, True), (7, True), (8, False)])
async def test_tries_are_bounded(times: int, wins: bool) -> None:
    store = Meddling(0)
    await create_app(store, "blog", SPEC, compute=HERE)
    store.wanted = times
    if wins:
        await edit_app(store, "blog", words={"cpu": "5%"})
        assert (await show_app(store, "blog")).words["cpu"] == "5%"
    else:
        with pytest.raises(Problem) as refused:
            await edit_app(store, "blog", words={"cpu": "5%"})
        assert refused.value.code is Code.BUSY


async def test_a_broken_spec_can_be_replaced_but_not_changed(store: Store) -> None:
    await create_app(store, "blog", SPEC, compute=HERE)
    await put(store, keys.spec_key("blog"), "{}")
    with pytest.raises(Problem, match="does not parse"):
        await edit_app(store, "blog", change=lambda spec: spec)
    await edit_app(store, "blog", change=SPEC)
    assert (await show_app(store, "blog")).refused == []


async def test_a_store_that_is_down_says_so() -> None:
    store = MemoryStore()
    store.down = True
    with pytest.raises(Unavailable):
        await create_app(store, "blog", SPEC, compute=HERE)
