"""kill -9 of launcher, blank and agent at every step of a start: the request is answered, and nothing half-made remains."""

import pytest

from tests.walk.conftest import Walk
from tests.walk.steps import AGENT, BLANK, LAUNCHER

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

# Steps that must be among those that were found: one of each part of a start.
EXPECTED = {
    LAUNCHER: (": unshare", ": fork", ": pidfd_open", ": sendmsg", ": waitpid"),
    BLANK: (
        "EnterGroup.execute: write",
        "run: unshare",
        "MountTmpfs.execute: mount",
        "EnterRoot.execute: pivot_root",
        "make_user_namespace: fork",
        "_unshare_user: unshare",
        "LoadFilter.execute: set_seccomp_filter",
        "SetHostname.execute: sethostname",
        "AttachMount.execute: move_mount",
        "EnterUserNamespace.execute: setns",
        "BecomeUser.execute: setresuid",
        ": posix_spawn",
        ": execve",
    ),
    AGENT: (
        "Tree.create: mkdir",
        "_make_fifos: mkfifo",
        "LauncherLine.ask: sendmsg",
        "Route.request: send",
        "Journal.write: write",
        "send_identity: send",
        "open_mount: open_tree",
        "send_mounts: sendmsg",
        "Group.remove: rmdir",
    ),
}


@pytest.mark.parametrize(
    ("victim", "role"),
    [(LAUNCHER, LAUNCHER), (LAUNCHER, BLANK), (BLANK, BLANK), (AGENT, LAUNCHER), (AGENT, BLANK), (AGENT, AGENT)],
)
async def test_killed_at_each_step(walk: Walk, victim: str, role: str) -> None:
    names = walk.names(role)
    missing = [part for part in EXPECTED[role] if not any(part in name for name in names)]
    assert not missing, (missing, names)
    missed = []
    for name in names:
        try:
            if not await walk.die(victim, role, name):
                missed.append(name)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{victim} killed while {role} was at {name}: {error}") from error
    print(f"{len(names)} steps, missed: {missed}")
    assert len(missed) <= len(names) // 10, missed
