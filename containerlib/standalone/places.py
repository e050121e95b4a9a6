"""Where each container's things are, and what is known of it.

    RUN_DIR/NAME/lock           held by its runner for as long as that lives: who can take it knows that there is none
    RUN_DIR/NAME/record.json    what others need to know; written before what it tells of is made
    RUN_DIR/NAME/control.sock   asks its runner for something
    STATE_DIR/ids.json          NAME -> range of user ids, for good: what a container wrote stays its own
    LOG_DIR/NAME.out, .err      what it writes, unless its definition says otherwise

A container has a network of its own, 16 addresses of NETWORK, so that runners need not know of each other.
"""

import dataclasses
import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from containerlib import idmap, rootfs
from containerlib.cgroups.settings import controllers
from containerlib.cgroups.tree import version
from containerlib.spec import ContainerSpec
from containerlib.spec.process import ID_BASE_MAX
from containerlib.whole import write_whole

SUBNET_PREFIX = 28
# Above what the platform hands to its apps.
ID_BASE_FIRST = 2_000_000_000 + idmap.IDS
PREFIX = "FASTCONTAINER_CONTAINERS_"


class Taken(Exception):
    """Somebody else has it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of this host, from FASTCONTAINER_CONTAINERS_RUN_DIR and so on."""

    run_dir: Path = Path("/run/fastcontainer-containers")
    state_dir: Path = Path("/var/lib/fastcontainer-containers")
    log_dir: Path = Path("/var/log/fastcontainer-containers")
    network: str = "100.88.0.0/16"
    cgroup: str = "fastcontainer-containers"

    @property
    def roots(self) -> Path:
        """Images, as a store has them."""
        return self.state_dir / "roots"

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Settings":
        given = {each.name: environment.get(PREFIX + each.name.upper()) for each in dataclasses.fields(cls)}
        texts = {name: text for name, text in given.items() if text}
        return cls(**{name: Path(text) if name.endswith("_dir") else text for name, text in texts.items()})  # type: ignore[arg-type]

    def environment(self) -> dict[str, str]:
        """For a process that is to have the same."""
        return {PREFIX + each.name.upper(): str(getattr(self, each.name)) for each in dataclasses.fields(self)}


@dataclass(frozen=True, slots=True)
class Record:
    """Of a container that somebody runs, or ran when he died. `pid` is the host's number of its PID 1, 0 before there is one."""

    name: str
    status: str
    runner: int
    network: str
    slot: int
    id_base: int
    cgroup: str
    started: float  # Unix time
    controllers: tuple[str, ...] = ()  # of its cgroups, beyond the usual ones
    pid: int = 0
    start_time: int = 0
    address: str = ""
    cgroups: tuple[str, ...] = ()
    workdir: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    user: int = idmap.APP_USER  # its program's, as the container numbers it, with `group` and `groups`
    group: int | None = None
    groups: tuple[int, ...] = ()
    stdout: str = ""
    stderr: str = ""
    source: str = ""
    restored: bool = False  # from an image of its processes
    image: str = ""  # NAME@VERSION of what it runs on, which must stay


@dataclass(frozen=True, slots=True)
class Place:
    """Of one container, held by whoever runs it, or clears away after who did."""

    settings: Settings
    name: str
    lock: int

    @property
    def directory(self) -> Path:
        return self.settings.run_dir / self.name

    def write(self, record: Record) -> None:
        """Whole or not at all, whoever reads it when. The environment in it is nobody's business."""
        write_whole(self.directory / "record.json", msgspec.json.encode(record), 0o600)

    def record(self) -> Record | None:
        return read_record(self.settings, self.name)

    def remove(self) -> None:
        """What its runner made here, the record last: until then there is something to clear away."""
        for name in ("control.sock", "launcher.sock", "launcher.log", "record.new"):
            (self.directory / name).unlink(missing_ok=True)
        for layer in rootfs.LAYERS:  # attached still where a helper died
            rootfs.clear(self.directory / "root" / layer)
        for name in ("slots", "stage", "root"):
            with suppress(FileNotFoundError):
                (self.directory / name).rmdir()
        (self.directory / "record.json").unlink(missing_ok=True)
        (self.directory / "lock").unlink(missing_ok=True)
        self.directory.rmdir()


@contextmanager
def hold(settings: Settings, name: str) -> Iterator[Place]:
    """Raises Taken while a runner has it, PermissionError for who is not root."""
    directory = settings.run_dir / name
    while True:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed the file between our opening and our locking it.
            if _is(lock, directory / "lock"):
                yield Place(settings, name, lock)
                return
        except BlockingIOError:
            raise Taken(f"{name} runs already") from None
        finally:
            os.close(lock)


def _is(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def is_held(settings: Settings, name: str) -> bool:
    """A runner of it lives."""
    try:
        lock = os.open(settings.run_dir / name / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def wait_until_free(settings: Settings, name: str) -> None:
    """Until no runner of it lives."""
    with suppress(FileNotFoundError):
        lock = os.open(settings.run_dir / name / "lock", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)


def read_record(settings: Settings, name: str) -> Record | None:
    try:
        return msgspec.json.decode((settings.run_dir / name / "record.json").read_bytes(), type=Record)
    except FileNotFoundError:
        return None


def records(settings: Settings) -> list[Record]:
    """Of all that run, and of those whose runner died, by name."""
    names = (
        sorted(each.name for each in settings.run_dir.iterdir() if each.is_dir()) if settings.run_dir.is_dir() else []
    )
    return [found for name in names if (found := read_record(settings, name))]


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One at a time hands out what must be handed out once."""
    settings.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(settings.run_dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def register(place: Place, spec: ContainerSpec, now: float) -> Record:
    """Its first record, with a network and a range of ids that are nobody else's. Raises Taken where there are none left."""
    settings = place.settings
    with _alone(settings):
        subnet, slot = choose_subnet(
            settings.network, {each.network for each in records(settings)}, spec.network.address
        )
        record = Record(
            name=spec.name,
            status="starting",
            runner=os.getpid(),
            network=subnet,
            slot=slot,
            id_base=spec.id_base or _range_of(settings, spec.name),
            cgroup=f"{settings.cgroup}-{spec.name}",
            started=now,
            controllers=controllers(version(), spec.cgroup),
            workdir=spec.workdir or "/",
            env=dict(spec.env),
            stdout=spec.log.stdout or str(settings.log_dir / f"{spec.name}.out"),
            stderr=spec.log.stderr or str(settings.log_dir / f"{spec.name}.err"),
            source=spec.source,
        )
        place.write(record)
    return record


def choose_subnet(network: str, taken: set[str], address: str) -> tuple[str, int]:
    """Pure: a network of 16 addresses for one container, and which of them is its own: the first free ones, or as asked for."""
    if address:
        subnet = ipaddress.IPv4Network((address, SUBNET_PREFIX), strict=False)
        slot = int(ipaddress.IPv4Address(address)) - int(subnet.network_address)
        if not 2 <= slot < subnet.num_addresses - 1:
            raise Taken(f"address {address} is the first, second or last of 16: those are the network's and the host's")
        if str(subnet) in taken:
            raise Taken(f"address {address} is taken: another container has {subnet}")
        return str(subnet), slot
    for subnet in ipaddress.IPv4Network(network).subnets(new_prefix=SUBNET_PREFIX):
        if str(subnet) not in taken:
            return str(subnet), 2
    raise Taken(f"all addresses of {network} are taken")


def _range_of(settings: Settings, name: str) -> int:
    path = settings.state_dir / "ids.json"
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    ranges: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    if name not in ranges:
        taken = set(ranges.values())
        free = (base for base in range(ID_BASE_FIRST, ID_BASE_MAX, idmap.IDS) if base not in taken)
        if (base := next(free, None)) is None:
            raise Taken(f"no range of user ids is left in {path}: take names out of it whose files are gone")
        ranges[name] = base
        write_whole(path, json.dumps(ranges).encode())
    return ranges[name]
