"""Which version the next life of an app has, and until when that version stays."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from containerlib import images, starting
from containerlib.bootstrap.function import Function
from containerlib.handle import StartFailed
from containerlib.images import Config, Image, ImageError, Progress, Store, hold
from dispatcher.compute.roots import Root, Roots, clear_stages
from dispatcher.domain import App, AppSpec, Mount

pytestmark = pytest.mark.system

APP = App("blog", AppSpec(("serve",), image="box"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def roots(store: Store, tmp_path: Path) -> Iterator[Roots]:
    roots = Roots(store, tmp_path)
    yield roots
    roots.close()


def make(root: Path, _progress: Progress) -> None:
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("www:x:33:34::/srv:/bin/sh\n")


def build(store: Store, recipe: str = "1") -> Image:
    return images.build(store, "box", Function(make, recipe))


async def test_a_version_is_looked_up_once_until_something_changes(store: Store, roots: Roots) -> None:
    first = build(store)
    found = await roots.find(APP)
    assert found.name == f"box@{first.version}" and found.resolved.command == ("serve",)
    assert await roots.find(APP) is found  # no file was read
    second = build(store, "2")
    assert roots.newest(APP) == found.name and roots.changed() == {"blog"}
    assert (await roots.find(APP)).name == roots.newest(APP) == f"box@{second.version}"
    assert roots.changed() == set()
    other = msgspec.structs.replace(APP, spec=msgspec.structs.replace(APP.spec, command=("other",)))
    assert (await roots.find(other)).resolved.command == ("other",)


@pytest.mark.parametrize(
    "spec, message",
    [
        (AppSpec(("x",), image="never"), "image 'never' is not built on this host: there is no version in .*container create FILE"),
        (AppSpec((), image="box"), "image box: command: .* is neither in the definition nor in image"),
        (AppSpec(("x",), image="box", mounts=(Mount("/a", "/proc/x"),)), "image box: mount.target: '/proc/x'"),
    ],
)  # fmt: skip
async def test_what_cannot_be(store: Store, roots: Roots, spec: AppSpec, message: str) -> None:
    build(store)
    with pytest.raises(StartFailed, match=message):
        await roots.find(App("blog", spec))
    assert roots.newest(App("blog", spec)) == ""


async def test_its_user_is_the_apps_unless_the_image_names_one(store: Store, roots: Roots) -> None:
    image = build(store)
    assert starting.identity_of((await roots.find(APP)).resolved, 300_000, "100.96.0.2").user == 1000
    named = replace(image.manifest, config=Config(user="www"))
    (image.path / "manifest.json").write_bytes(named.to_bytes())
    roots.forget("blog")
    identity = starting.identity_of((await roots.find(APP)).resolved, 300_000, "100.96.0.2")
    assert (identity.user, identity.group, identity.env["HOME"]) == (33, 34, "/srv")


async def test_what_is_held_is_not_removed_and_what_is_released_is(store: Store, roots: Roots) -> None:
    old = build(store)
    first, second = await roots.find(APP), await roots.find(APP)
    build(store, "2")
    roots.release(first)
    assert await roots.remove_unused({"box"}) == [] and old.path.exists()
    roots.release(second)
    assert await roots.remove_unused({"box", "never"}) == [second.name] and not old.path.exists()


async def test_somebody_elses_hold_counts_too(store: Store, roots: Roots) -> None:
    old = build(store)
    fd = hold(old)  # as a container by itself does
    build(store, "2")
    assert await roots.remove_unused({"box"}) == []
    os.close(fd)
    assert await roots.remove_unused({"box"}) == [f"box@{old.version}"]
    with pytest.raises(ImageError, match="is gone"):
        hold(old)


async def test_a_version_that_went_between_two_looks_is_looked_up_again(store: Store, roots: Roots) -> None:
    old = build(store)
    found = await roots.find(APP)
    roots.release(found)
    new = build(store, "2")
    store.remove_unused("box")
    known = roots._known["blog"]
    object.__setattr__(known, "seen", roots._changed_at("box"))  # it looks as if nothing had changed
    assert not old.path.exists()
    assert (await roots.find(APP)).name == f"box@{new.version}"


async def test_a_former_agents_is_held_again(store: Store, roots: Roots) -> None:
    old = build(store)
    again = roots.find_again(APP, f"box@{old.version}")
    assert isinstance(again, Root)
    build(store, "2")
    assert await roots.remove_unused({"box"}) == []
    assert roots.find_again(APP, "box@20200101-000000-00000000") is None


def test_stages_of_a_killed_helper_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "roots/17/lower").mkdir(parents=True)
    clear_stages(tmp_path)
    clear_stages(tmp_path)
    assert not (tmp_path / "roots").exists()
