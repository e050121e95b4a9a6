"""Which apps begin from an image. That they do is in tests/system/test_restored.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from containerlib.checkpoint import criu, images
from containerlib.checkpoint.criu import Criu, Unavailable
from containerlib.checkpoint.images import Manifest, Moment, NoImage
from containerlib.handle import Kind
from dispatcher.compute import restored
from dispatcher.compute.restored import Keeper
from dispatcher.domain import App, AppSpec, ImageAt, Policy, Start

SPEC = AppSpec(command=("php",), policy=Policy(start=Start.RESTORED))
APP = App("blog", SPEC, uid=300_000)


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    monkeypatch.setattr(criu, "find", lambda: Criu(("criu",), "4.2.1"))
    return Keeper(SimpleNamespace(maps_users=True), tmp_path)  # type: ignore[arg-type]


def made(directory: Path, app: App = APP) -> images.Image:
    assert app.uid is not None
    manifest = Manifest(
        app.name,
        Moment.WARMED,
        "4.2.1",
        images.kernel_release(),
        restored._digest(life(app)),
        app.uid,
        True,
        (),
        (),
        1.0,
    )
    with images.making(directory / app.name) as fresh:
        return images.keep(fresh, manifest)


def life(app: App = APP, *, dumpable: bool = True, **more: Any) -> Any:
    more.setdefault("definition", None)
    return SimpleNamespace(**more, app=app, handle=SimpleNamespace(kind=Kind(dumpable=app.uid if dumpable else None)))


def test_only_apps_that_say_so(keeper: Keeper) -> None:
    assert keeper.can(APP)
    assert not keeper.can(msgspec.structs.replace(APP, uid=None))
    assert keeper.cannot(life()) == []
    assert keeper.cannot(life(App("blog", AppSpec(image="x", policy=Policy(start=Start.AUTO))))) == ["bootstrap.image"]
    for start in Start:
        policy = Policy(start=start)
        app = msgspec.structs.replace(APP, spec=msgspec.structs.replace(SPEC, policy=policy))
        assert keeper.can(app) is (start in (Start.RESTORED, Start.AUTO))


def test_an_image_is_due_until_there_is_one_that_can_be_restored(keeper: Keeper, tmp_path: Path) -> None:
    assert keeper.find(life()) is None
    assert keeper.is_due(life())
    assert not keeper.is_due(life(dumpable=False))
    image = made(tmp_path)
    assert keeper.find(life()) == image
    assert not keeper.is_due(life())
    keeper.forget("blog")
    assert keeper.is_due(life())


def test_a_changed_policy_keeps_it_and_a_changed_definition_does_not(keeper: Keeper, tmp_path: Path) -> None:
    made(tmp_path)
    slower = msgspec.structs.replace(SPEC, policy=Policy(start=Start.RESTORED, idle_s=9))
    assert keeper.find(life(msgspec.structs.replace(APP, spec=slower))) is not None
    other = msgspec.structs.replace(APP, spec=msgspec.structs.replace(SPEC, env={"A": "1"}))
    with pytest.raises(NoImage, match="its definition has changed since"):
        keeper.find(life(other))
    assert keeper.is_due(life(other))


def test_one_of_another_moment_is_taken_anew(keeper: Keeper, tmp_path: Path) -> None:
    made(tmp_path)
    for at in (ImageAt.LISTEN, ImageAt.READY):
        early = msgspec.structs.replace(SPEC, policy=Policy(start=Start.RESTORED, image_at=at))
        app = msgspec.structs.replace(APP, spec=early)
        with pytest.raises(NoImage, match=f"not of the moment that it names now .{at}."):
            keeper.find(life(app))
        assert keeper.is_due(life(app))


async def test_each_app_has_one_moment(keeper: Keeper) -> None:
    """The last is none where it goes for good: nobody would restore what was taken."""
    going = {"is_leaving": False, "draining": SimpleNamespace(cut_at=None)}
    for at in ImageAt:
        policy = Policy(start=Start.RESTORED, image_at=at)
        app = msgspec.structs.replace(APP, spec=msgspec.structs.replace(SPEC, policy=policy))
        assert [each for each in ImageAt if await keeper.is_to_be_dumped(life(app, **going), each)] == [at]
    for gone in ({"is_leaving": True}, {"draining": SimpleNamespace(cut_at=1.0)}):
        assert not await keeper.is_to_be_dumped(life(**going | gone), ImageAt.WARMED)


def test_without_criu_none_is_due(keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Criu:
        raise Unavailable("no CRIU")

    monkeypatch.setattr(criu, "find", missing)
    made(tmp_path)
    assert not keeper.is_due(life())


@pytest.mark.parametrize("change", [{"image": "php"}, {"policy": {"start": "restored", "restore_signal": "NONSENSE"}}])
def test_what_cannot_be_is_refused_at_the_border(change: dict[str, object]) -> None:
    values = {"command": ["php"], "policy": {"start": "restored"}, **change}
    with pytest.raises(msgspec.ValidationError, match=r"restored|restore_signal"):
        msgspec.convert(values, AppSpec)
