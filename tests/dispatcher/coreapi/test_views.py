from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.store import Put, Store
from dispatcher.coreapi.service import create_app
from dispatcher.coreapi.views import list_apps, list_containers, list_events, show_app
from dispatcher.domain import AppSpec, ContainerRow, EventRow, Scaling, Status

SPEC = AppSpec(command=("true",))


async def put(store: Store, **values: bytes) -> None:
    for key, value in values.items():
        await store.commit([], [Put(keys.PREFIX + key.replace("__", "/"), value)])


async def test_what_does_not_parse_is_told_and_the_rest_still_shown(store: Store) -> None:
    await create_app(store, "blog", SPEC, words={"cpu": "30%"}, compute="here")
    await put(store, apps__blog__cpu=b"lots", apps__blog__memory=b"64M\n", containers__blog__2=b"{")
    view = await show_app(store, "blog")
    assert view.app and (view.app.cpu, view.app.memory_bytes) == (None, 64 << 20)
    assert {(each.key, each.value) for each in view.refused} == {
        (keys.word_key("blog", "cpu"), "lots"),
        (keys.container_key("blog", "2"), "{"),
    }
    assert [each.id for each in view.containers] == ["1"]
    await put(store, apps__blog__spec=b"[]")
    view = await show_app(store, "blog")
    assert view.app is None
    assert keys.spec_key("blog") in {each.key for each in view.refused}
    assert [each.app for each in await list_apps(store)] == [None]


async def test_scaling_counts_where_people_wrote_auto(store: Store) -> None:
    scaling = codec.encode(Scaling(containers=3, cpu=0.5, reason="busy"))
    await create_app(store, "blog", SPEC, words={"containers": "auto", "cpu": "20%"}, compute="here")
    await put(store, apps__blog__scaling=scaling)
    view = await show_app(store, "blog")
    assert view.app and (view.app.containers, view.app.cpu) == (3, 0.2)
    assert view.scaling and view.scaling.reason == "busy"


async def test_containers_are_in_order_of_their_numbers(store: Store) -> None:
    await create_app(store, "blog", SPEC, words={"containers": "11"}, compute="here")
    await create_app(store, "blog2", SPEC, compute="here")
    assert [each.id for each in await list_containers(store, "blog")] == [str(number) for number in range(1, 12)]
    assert len(await list_containers(store)) == 12


async def test_why_it_last_failed(store: Store) -> None:
    await create_app(store, "blog", SPEC, compute="here")
    old, new = EventRow(2.0, "failed", "exited with 1"), EventRow(1.0, "started", "request")
    await put(store, events__blog__b=codec.encode(old), events__blog__c=codec.encode(new), events__blog__d=b"{")
    view = await show_app(store, "blog")
    assert [each.at for each in view.events] == [1.0, 2.0]
    assert view.last_failure == "exited with 1"
    failed = ContainerRow("here", Status.FAILED, reason="never listened")
    await put(store, containers__blog__1=codec.encode(failed))
    assert (await show_app(store, "blog")).last_failure == "never listened"
    assert len(await list_events(store)) == 2


async def test_list(store: Store) -> None:
    await create_app(store, "blog", SPEC, domains=["a.example", "b.example"], words={"containers": "2"}, compute="here")
    await create_app(store, "shop", SPEC, compute="here")
    await put(store, containers__blog__2=codec.encode(ContainerRow("here", Status.RUNNING, 1)))
    found = await list_apps(store)
    assert [(each.name, each.domains, each.alive) for each in found] == [
        ("blog", ["a.example", "b.example"], 1),
        ("shop", [], 0),
    ]
