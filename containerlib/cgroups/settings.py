"""What a spec says of cgroups beyond CPU, memory and processes -> contents of cgroup files. Pure."""

from collections.abc import Mapping

from containerlib.cgroups.limits import FileContent
from containerlib.spec import Cgroup, Io

# v1 file and v2 key of each limit.
_IO = {
    "read_bps": ("blkio.throttle.read_bps_device", "rbps"),
    "write_bps": ("blkio.throttle.write_bps_device", "wbps"),
    "read_iops": ("blkio.throttle.read_iops_device", "riops"),
    "write_iops": ("blkio.throttle.write_iops_device", "wiops"),
}


def contents(version: int, cgroup: Cgroup, devices: Mapping[str, str]) -> tuple[FileContent, ...]:
    """`devices`: MAJOR:MINOR of each device that the spec names. Settings of the other version are for another host."""
    io = tuple(content for each in cgroup.io for content in _io(version, each, devices[each.device]))
    own = (each for each in cgroup.settings if each.version == version)
    return io + tuple(FileContent(each.controller if version == 1 else "", each.file, each.value) for each in own)


def controllers(version: int, cgroup: Cgroup) -> tuple[str, ...]:
    """That `contents` needs, whoever else needs them."""
    io = ("blkio" if version == 1 else "io",) if cgroup.io else ()
    own = (each.controller for each in cgroup.settings if each.version == version)
    return tuple(dict.fromkeys((*io, *own)))


def _io(version: int, io: Io, device: str) -> tuple[FileContent, ...]:
    values = {name: value for name in _IO if (value := getattr(io, name)) is not None}
    if version == 1:
        return tuple(FileContent("blkio", _IO[name][0], f"{device} {value}") for name, value in values.items())
    words = [f"{_IO[name][1]}={value}" for name, value in values.items()]
    return (FileContent("", "io.max", f"{device} {' '.join(words)}"),) if words else ()
