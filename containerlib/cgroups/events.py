"""The kernel's word on a group's memory, as something to wait for: pressure, and processes that it killed.

v1: eventfds registered with cgroup.event_control. v2: low pressure (the limit was hit, so that the kernel has to reclaim) and kills
by memory.events, more pressure by a PSI trigger, both by polling for POLLPRI; where PSI is off, memory.events stands in. Such a
file is always readable, so that it is not polled by the event loop itself but by an epoll of its own, which the loop polls.
"""

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from containerlib.cgroups.tree import Group

# Stalled for so many microseconds of a second: some tasks, or (critical) all that could run.
PSI = {"medium": "some 100000 1000000", "critical": "full 300000 1000000"}
LOOK_AGAIN_S = (0.005, 0.05, 0.5)


class Watch:
    """Calls back in the loop until it is closed. The group may go first."""

    def __init__(self, waits: int, callback: Callable[[], None], close: Callable[[], None]) -> None:
        self._waits = waits
        self._callback = callback
        self._close = close
        asyncio.get_running_loop().add_reader(waits, callback)

    def look(self) -> None:
        """Of a kill: as if the kernel had told of it. Its word may come a moment later than the end of the process."""
        self._callback()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._waits)
        self._close()


def watch_pressure(group: Group, level: str, callback: Callable[[], None]) -> Watch:
    """Raises OSError where the kernel offers neither."""
    if group.tree.version == 1:
        return _eventfd(group, "memory.pressure_level", level, callback)
    directory = _directory(group)
    if level in PSI and (fd := _psi(directory, PSI[level])) is not None:
        return _priority(fd, callback)
    return _changes(directory / "memory.events", lambda: _field(directory, "max"), callback)


def _psi(directory: Path, trigger: str) -> int | None:
    """None: not compiled in, or off."""
    try:
        fd = os.open(directory / "memory.pressure", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.write(fd, trigger.encode())
    except OSError:
        os.close(fd)
        return None
    return fd


def watch_oom(group: Group, callback: Callable[[], None]) -> Watch:
    """Once for each time that processes of it were killed. Not for its removal, of which v1 tells the same way."""
    last = group.oom_kills()
    later: list[asyncio.TimerHandle] = []

    def look() -> None:
        nonlocal last
        now = group.oom_kills()
        if now > last:
            callback()
        last = now

    def told() -> None:
        before = last
        look()
        if last == before:  # v1 tells before it kills
            later[:] = [asyncio.get_running_loop().call_later(delay_s, look) for delay_s in LOOK_AGAIN_S]

    def close() -> None:
        for timer in later:
            timer.cancel()

    if group.tree.version == 1:
        return _eventfd(group, "memory.oom_control", "", told, close)
    return _priority(os.open(_directory(group) / "memory.events", os.O_RDONLY | os.O_CLOEXEC), told, close)


def _directory(group: Group) -> Path:
    base = group.tree.bases.get("memory") or group.tree.bases[""]
    return base / group.name


def _nothing() -> None: ...


def _eventfd(
    group: Group, name: str, argument: str, callback: Callable[[], None], also: Callable[[], None] = _nothing
) -> Watch:
    directory = _directory(group)
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        watched = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            (directory / "cgroup.event_control").write_text(f"{event} {watched} {argument}".rstrip())
        finally:
            os.close(watched)  # the kernel holds what it needs
    except BaseException:
        os.close(event)
        raise

    def readable() -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(event)
        if directory.exists():
            callback()

    def close() -> None:
        also()
        os.close(event)

    return Watch(event, readable, close)


def _priority(fd: int, callback: Callable[[], None], also: Callable[[], None] = _nothing) -> Watch:
    poll = select.epoll()
    poll.register(fd, select.EPOLLPRI)

    def readable() -> None:
        poll.poll(0)
        os.pread(fd, 4096, 0)  # memory.events is said to have changed until it is read
        callback()

    def close() -> None:
        also()
        poll.close()
        os.close(fd)

    return Watch(poll.fileno(), readable, close)


def _changes(path: Path, count: Callable[[], int], callback: Callable[[], None]) -> Watch:
    last = count()

    def changed() -> None:
        nonlocal last
        now = count()
        if now > last:
            callback()
        last = now

    return _priority(os.open(path, os.O_RDONLY | os.O_CLOEXEC), changed)


def _field(directory: Path, name: str) -> int:
    for line in (directory / "memory.events").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
