"""The order of a container's operations, without a kernel."""

from dataclasses import replace

import pytest

from containerlib import plan
from containerlib.identity import Identity
from containerlib.operations import (
    AttachMount,
    AttachShared,
    BecomeUser,
    Bind,
    BindReadonly,
    ChangeDirectory,
    DetachMountTree,
    EmptyBoundingSet,
    EnterCgroupNamespace,
    EnterRoot,
    ForbidCoreDumps,
    ForbidNewPrivileges,
    GiveAway,
    LimitResource,
    MakeDevice,
    MakeDirectory,
    MakeSymlink,
    Mask,
    MountProc,
    MountSysfs,
    MountTmpfs,
    Operation,
    PauseAtGate,
    SetHostname,
    TakeTerminal,
    WriteFile,
)
from containerlib.userns import EnterUserNamespace, UserNamespace

STAGE, ETC = "/run/stage", "/images/abc"
BLOG = Identity(
    hostname="blog",
    uid=200_001,
    command=("php", "-S", "0.0.0.0:80"),
    workdir="/srv/www",
    env={"A": "1"},
    mounts=("/srv/www", "/srv/up"),
    address="100.96.0.7",
)


def becoming(mapped: bool = True) -> tuple[Operation, ...]:
    namespace = UserNamespace(3, 4, 5) if mapped else None
    return (*plan.naming_plan(BLOG, mapped=mapped), *plan.identity_plan(BLOG, (7, 8), (1, 2), namespace))


def positions(operations: tuple[Operation, ...], kind: type[Operation]) -> list[int]:
    return [number for number, operation in enumerate(operations) if isinstance(operation, kind)]


def position(operations: tuple[Operation, ...], kind: type[Operation]) -> int:
    (number,) = positions(operations, kind)
    return number


def test_nothing_is_mounted_before_the_tree_is_detached_and_nothing_after_the_root_is_entered() -> None:
    operations = plan.blank_plan(STAGE, ETC)
    assert position(operations, DetachMountTree) == 0
    assert operations[position(operations, EnterRoot)] == EnterRoot(STAGE)
    after = {type(each) for each in operations[position(operations, EnterRoot) + 1 :]}
    assert after == {ForbidCoreDumps, LimitResource, EmptyBoundingSet, ForbidNewPrivileges}


def test_what_lies_in_the_root_is_made_after_the_root() -> None:
    operations = plan.blank_plan(STAGE, ETC)
    root = position(operations, MountTmpfs)
    for kind in (MakeDirectory, MakeSymlink, BindReadonly, MountProc, MountSysfs):
        assert min(positions(operations, kind)) > root


def test_masks_come_after_the_proc_that_they_hide_and_the_device_that_they_hide_it_with() -> None:
    operations = plan.blank_plan(STAGE, ETC)
    first = min(positions(operations, Mask))
    assert first > position(operations, MountProc)
    null = next(number for number, each in enumerate(operations) if getattr(each, "path", "") == f"{STAGE}/dev/null")
    assert first > null


@pytest.mark.parametrize(
    ("source", "target"),
    [("/usr", f"{STAGE}/usr"), (ETC, f"{STAGE}/etc"), (f"{STAGE}/proc/sys", f"{STAGE}/proc/sys")],
)
def test_is_bound_read_only(source: str, target: str) -> None:
    assert BindReadonly(source, target) in plan.blank_plan(STAGE, ETC)


@pytest.mark.parametrize("name", ["kcore", "keys", "sysrq-trigger", "timer_list"])
def test_is_masked(name: str) -> None:
    assert Mask(f"{STAGE}/proc/{name}", f"{STAGE}/dev/null", f"{STAGE}{plan.EMPTY}") in plan.blank_plan(STAGE, ETC)


def test_the_directory_of_generated_files_is_roots() -> None:
    assert MakeDirectory(f"{STAGE}{plan.GENERATED}", 0o755, 0) in plan.blank_plan(STAGE, ETC)


def test_links_into_usr_are_those_of_the_host() -> None:
    links = [each for each in plan.blank_plan(STAGE, ETC, ("bin",)) if isinstance(each, MakeSymlink)]
    assert [each.target for each in links if each.target.startswith("usr/")] == ["usr/bin"]


def test_every_operation_describes_itself_with_its_arguments() -> None:
    operations = (*plan.blank_plan(STAGE, ETC), *becoming())
    descriptions = [operation.describe() for operation in operations]
    assert all(type(each).__name__ in text for each, text in zip(operations, descriptions, strict=True))
    root = f"MountTmpfs(path='{STAGE}', size_bytes={plan.ROOT_BYTES}, inodes={plan.ROOT_INODES}, devices=True)"
    assert root in descriptions


def test_with_shared_mounts_it_has_no_device_and_no_file_system_of_its_own_but_its_root_and_proc() -> None:
    operations = plan.blank_plan(STAGE, ETC, shared=plan.SharedMounts(5, 6))
    assert not {type(each) for each in operations} & {MountSysfs, MakeDevice}
    assert MountTmpfs(STAGE, plan.ROOT_BYTES, plan.ROOT_INODES, devices=False) in operations
    devices, shm = AttachShared(6, f"{STAGE}/dev"), Bind(f"{STAGE}{plan.SHM}", f"{STAGE}/dev/shm")
    assert operations.index(devices) < operations.index(shm) < min(positions(operations, Mask))
    assert AttachShared(5, f"{STAGE}/sys") in operations


def test_shared_devices_are_those_of_a_root_that_has_its_own() -> None:
    own = [each.path for each in plan.blank_plan(STAGE, ETC) if isinstance(each, MakeDevice)]
    shared = [each.path for each in plan.device_plan("/dev") if isinstance(each, MakeDevice)]
    assert own == [f"{STAGE}{path}" for path in shared] and shared


def test_privileges_go_last_and_in_this_order() -> None:
    operations = becoming()
    order = (
        SetHostname, AttachMount, GiveAway, EnterCgroupNamespace, EnterUserNamespace, EmptyBoundingSet, BecomeUser,
        ChangeDirectory,
    )  # fmt: skip
    numbers = [max(positions(operations, kind)) for kind in order]
    assert numbers == sorted(numbers)
    # Whatever runs as the user is harmless: entering its directory, which it may not be allowed to, too.
    assert operations[-1] == ChangeDirectory("/srv/www")


@pytest.mark.parametrize(("mapped", "user"), [(True, 1000), (False, 200_001)])
def test_the_apps_user_has_a_number_of_its_own_where_it_is_mapped(mapped: bool, user: int) -> None:
    operations = becoming(mapped)
    assert operations[position(operations, BecomeUser)] == BecomeUser(user)
    assert len(positions(operations, EnterUserNamespace)) == mapped
    # Its log is a file of the host's.
    assert operations[position(operations, GiveAway)] == GiveAway((1, 2), 200_001)


def test_mounts_are_attached_in_the_order_of_their_descriptors() -> None:
    operations = becoming()
    attached = [each for each in operations if isinstance(each, AttachMount)]
    assert attached == [AttachMount(7, "/srv/www"), AttachMount(8, "/srv/up")]


def test_a_mount_without_descriptor_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        plan.identity_plan(BLOG, (7,), (1, 2), None)


def test_a_gate_and_a_terminal_lie_between_the_mounts_and_the_end_of_privileges() -> None:
    identity = replace(BLOG, gate=True, user=5, group=6, groups=(7,))
    operations = plan.identity_plan(identity, (7, 8), (1, 2), UserNamespace(3, 4, 5), 9, (10,))
    gate, terminal = position(operations, PauseAtGate), position(operations, TakeTerminal)
    assert max(positions(operations, AttachMount)) < gate < terminal < position(operations, GiveAway)
    assert (operations[gate], operations[terminal]) == (PauseAtGate(9), TakeTerminal(10))
    # What the program writes to belongs to its user, as the host numbers that.
    assert operations[position(operations, GiveAway)] == GiveAway((1, 2), BLOG.uid + 6)
    assert operations[position(operations, BecomeUser)] == BecomeUser(5, 6, (7,))


def test_a_site_that_is_woken_passes_no_gate() -> None:
    operations = plan.identity_plan(BLOG, (7, 8), (1, 2), UserNamespace(3, 4, 5), 9)
    assert not positions(operations, PauseAtGate) and not positions(operations, TakeTerminal)


def test_files_that_know_the_app() -> None:
    files = plan.app_files(BLOG)
    assert files["hostname"] == "blog\n"
    assert files["hosts"].splitlines() == ["127.0.0.1 localhost", "::1 localhost", "100.96.0.7 blog"]
    files = plan.user_files(200_001)
    assert "app:x:200001:200001:app:/tmp:/bin/sh" in files["passwd"].splitlines()
    assert "app:x:200001:" in files["group"].splitlines()


@pytest.mark.parametrize(("mapped", "names"), [(True, {"hosts"}), (False, {"hosts", "passwd", "group"})])
def test_what_a_start_writes_is_what_differs_from_app_to_app(mapped: bool, names: set[str]) -> None:
    written = {each.path: each.text for each in becoming(mapped) if isinstance(each, WriteFile)}
    assert written.keys() == {f"{plan.GENERATED}/{name}" for name in names}
    assert written[f"{plan.GENERATED}/hosts"] == plan.app_files(BLOG)["hosts"]
    if not mapped:
        assert written[f"{plan.GENERATED}/passwd"] == plan.user_files(BLOG.uid)["passwd"]


def test_environment_of_the_app_wins_over_the_default() -> None:
    assert plan.environment(BLOG)["HOSTNAME"] == "blog"
    assert plan.environment(replace(BLOG, env={"PATH": "/x", "HOSTNAME": "y"}))["PATH"] == "/x"


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (True, (plan.INIT, "-g", "--", "/usr/bin/php", "-S", "0.0.0.0:80")),
        (False, ("/usr/bin/php", "-S", "0.0.0.0:80")),
    ],
)
def test_argv(init: bool, expected: tuple[str, ...]) -> None:
    assert plan.argv(replace(BLOG, init=init), "/usr/bin/php") == expected
