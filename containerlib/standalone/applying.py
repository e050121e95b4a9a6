"""What a spec wants of a container that its identity does not carry, done from outside."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path

from containerlib.cgroups import Group, settings
from containerlib.checks import SpecError
from containerlib.handle import StartFailed
from containerlib.profiles import parse
from containerlib.seccomp import compile_own
from containerlib.spec import ContainerSpec, Io, Seccomp
from containerlib.spec.seccomp import DEFAULT_PROFILE, USUAL


def write_settings(group: Group, spec: ContainerSpec) -> None:
    """Those beyond CPU, memory and processes. Raises StartFailed."""
    try:
        if spec.cgroup.io:
            group.have_io()
        devices = {each.device: _numbers(each) for each in spec.cgroup.io}
        group.write(settings.contents(group.tree.version, spec.cgroup, devices))
    except (OSError, KeyError) as error:
        raise StartFailed(f"a setting of its cgroup cannot be made: {error}") from error


def _numbers(io: Io) -> str:
    """MAJOR:MINOR of a device that may be named by its file."""
    if not io.device.startswith("/"):
        return io.device
    status = Path(io.device).stat()
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def check_apparmor(profile: str) -> None:
    """Raises StartFailed where it would be left out. Whether the kernel has it loaded shows when the program is executed."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    if profile and not (enabled.exists() and enabled.read_text().strip() == "Y"):
        rule = "cannot be had: this kernel has no AppArmor, or it is off; leave out c.apparmor, or boot with apparmor=1"
        raise StartFailed(f"AppArmor profile {profile!r} {rule}")


def own_filter(wanted: Seccomp) -> bytes | None:
    """None: everybody's. Raises StartFailed."""
    if wanted == USUAL:
        return None
    try:
        profile = None if wanted.profile == DEFAULT_PROFILE else parse(Path(wanted.profile).read_text())
        return compile_own(wanted, profile)
    except (OSError, UnicodeDecodeError, SpecError) as error:
        raise StartFailed(f"its list of system calls cannot be had: {error}") from error


def set_rlimits(spec: ContainerSpec, pids: Iterable[int]) -> None:
    """Raises StartFailed."""
    for pid in pids:
        for limit in spec.rlimits:
            try:
                resource.prlimit(pid, limit.number, limit.values())
            except ProcessLookupError:
                break
            except (OSError, ValueError) as error:
                raise StartFailed(f"rlimit {limit.name} cannot be {limit.values()}: {error}") from error
