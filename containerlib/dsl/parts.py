"""The nouns of a definition that have words of their own: `c.cgroup.cpu = "30%"`, `c.network.outbound = False`."""

import difflib
import inspect
from collections import UserDict
from collections.abc import Callable, Iterable
from typing import Any

from containerlib import checks, spec, units
from containerlib.dsl.errors import DefinitionError, told, where
from containerlib.spec.security import parse_capability

UNLIMITED = "unlimited"


def amount(field: str, value: Any, parse: Callable[[str], float]) -> float:
    """A word such as "256M", or the figure that it stands for."""
    with told(field):
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise checks.SpecError(field, value, "is neither a word nor a number")
        return value


def whole_amount(field: str, value: Any, parse: Callable[[str], float]) -> int:
    return int(amount(field, value, parse))


class Part:
    """A name that nobody has heard of is refused, with the one that was perhaps meant: it would change nothing, in silence."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            known = inspect.getattr_static(type(self), name, None)
            if not isinstance(known, property) or known.fset is None:
                raise DefinitionError(where(), self._unknown(name, "cannot be set" if known else "is unknown"))
        with told():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise DefinitionError(where(), self._unknown(name, "is unknown"))

    def _unknown(self, name: str, what: str) -> str:
        known = [each for each in dir(type(self)) if not each.startswith("_") and each != name]
        close = difflib.get_close_matches(name, known, 1)
        return f"{name!r} {what}" + (f"; did you mean {close[0]!r}?" if close else f": there is {', '.join(known)}")


class Texts(UserDict[str, str]):
    """Names and texts, checked one by one; whole numbers are written out."""

    def __init__(self, field: str, check_name: Callable[[str, Any], str]) -> None:
        self._field = field
        self._check_name = check_name
        super().__init__()

    def __setitem__(self, name: str, value: Any) -> None:
        with told():
            self._check_name(self._field, name)
            is_number = isinstance(value, int) and not isinstance(value, bool)
            self.data[name] = str(value) if is_number else checks.text(f"{self._field} {name}", value)


class BootstrapPart(Part):
    def __init__(self) -> None:
        self._root: spec.Root = spec.Usr()

    def usr(self) -> None:
        """The host's own programs and libraries, read-only."""
        self._root = spec.Usr()

    def image(self, reference: str, bootstrap: object = None, *steps: object) -> None:
        """NAME, the current version of an image, or NAME@VERSION; and how `create` is to build it, by a strategy and steps."""
        with told():
            self._root = spec.Image(reference, bootstrap, steps)


class CgroupPart(Part):
    def __init__(self) -> None:
        self._cpu: float | None = None
        self._memory: int | None = None
        self._pids: int = spec.resources.PIDS
        self._io: dict[str, spec.Io] = {}
        self._v1 = Texts("cgroup.v1", lambda _field, name: spec.Setting(1, name, "").file)
        self._v2 = Texts("cgroup.v2", lambda _field, name: spec.Setting(2, name, "").file)

    @property
    def cpu(self) -> float | None:
        """Cores, as a share: "30%"; None: no limit."""
        return self._cpu

    @cpu.setter
    def cpu(self, value: str | float | None) -> None:
        self._cpu = None if value is None else spec.Cgroup(cpu=amount("cgroup.cpu", value, units.parse_cpu)).cpu

    @property
    def memory(self) -> int | None:
        """Bytes: "256M"; None: no limit."""
        return self._memory

    @memory.setter
    def memory(self, value: str | int | None) -> None:
        wanted = None if value is None else whole_amount("cgroup.memory", value, units.parse_memory)
        self._memory = spec.Cgroup(memory_bytes=wanted).memory_bytes

    @property
    def pids(self) -> int:
        """Processes and threads."""
        return self._pids

    @pids.setter
    def pids(self, value: int) -> None:
        self._pids = spec.Cgroup(pids=value).pids

    def io(
        self,
        device: str,
        *,
        read_bps: str | int | None = None,
        write_bps: str | int | None = None,
        read_iops: int | None = None,
        write_iops: int | None = None,
    ) -> None:
        """Bytes ("10M") and operations a second."""
        read, write = (
            None if value is None else whole_amount(f"cgroup.io {name}", value, units.parse_size)
            for name, value in (("read_bps", read_bps), ("write_bps", write_bps))
        )
        with told():
            self._io[device] = spec.Io(device, read, write, read_iops, write_iops)

    @property
    def v1(self) -> Texts:
        """Files of cgroup v1 by name, where the host has it: c.cgroup.v1["cpu.shares"] = 512"""
        return self._v1

    @property
    def v2(self) -> Texts:
        """Files of cgroup v2 by name, where the host has it."""
        return self._v2

    def _built(self) -> spec.Cgroup:
        settings = [
            spec.Setting(version, file, value)
            for version, files in ((1, self._v1), (2, self._v2))
            for file, value in files.items()
        ]
        return spec.Cgroup(self._cpu, self._memory, self._pids, tuple(self._io.values()), tuple(settings))


class CapabilitiesPart(Part):
    """None unless allowed here or in what is inherited."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()

    def allow(self, *names: str) -> None:
        self._names = tuple(dict.fromkeys((*self._names, *_capabilities(names))))

    def drop(self, *names: str) -> None:
        """Of those that were inherited."""
        dropped = _capabilities(names)
        self._names = tuple(name for name in self._names if name not in dropped)


def _capabilities(names: Iterable[str]) -> list[str]:
    with told():
        return [parse_capability(name) for name in names]


class NetworkPart(Part):
    def __init__(self) -> None:
        self._address = ""
        self._outbound = True
        self._bandwidth: int | None = None
        self._services: tuple[int, ...] = ()

    @property
    def address(self) -> str:
        """A certain one instead of the next free one."""
        return self._address

    @address.setter
    def address(self, value: str) -> None:
        self._address = spec.NetworkAccess(address=value).address

    @property
    def outbound(self) -> bool:
        """It may open connections to other hosts."""
        return self._outbound

    @outbound.setter
    def outbound(self, value: bool) -> None:
        self._outbound = spec.NetworkAccess(outbound=value).outbound

    @property
    def bandwidth(self) -> int | None:
        """Bits a second, each way: "10Mbit"; None: no limit."""
        return self._bandwidth

    @bandwidth.setter
    def bandwidth(self, value: str | int | None) -> None:
        wanted = None if value is None else whole_amount("network.bandwidth", value, units.parse_rate)
        self._bandwidth = spec.NetworkAccess(bandwidth_bps=wanted).bandwidth_bps

    def allow_host_service(self, *ports: int) -> None:
        """TCP ports of the host that it may reach; none unless named."""
        with told():
            spec.NetworkAccess(host_services=ports)
        self._services = tuple(dict.fromkeys((*self._services, *ports)))

    def _built(self) -> spec.NetworkAccess:
        return spec.NetworkAccess(self._address, self._outbound, self._services, self._bandwidth)
