"""What a runner runs its container with: a launcher and a runtime of its own; and clearing away after a runner that died."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from containerlib import launcher
from containerlib.readiness import ListenEvents, remove_instance
from containerlib.runtime import Config, Runtime
from containerlib.standalone.places import Place, Record

LAUNCHER_TIMEOUT_S = 10.0


def config_of(place: Place, record: Record) -> Config:
    return Config(
        run_dir=place.directory,
        images=place.settings.state_dir / "images",
        launcher_socket=str(place.directory / "launcher.sock"),
        network=record.network,
        cgroup=record.cgroup,
        controllers=record.controllers,
    )


@asynccontextmanager
async def machine(place: Place, record: Record) -> AsyncIterator[Runtime]:
    """Of what it makes nothing is left afterwards. Raises OSError that says what this host lacks."""
    config = config_of(place, record)
    config.images.mkdir(mode=0o755, parents=True, exist_ok=True)
    runtime = Runtime(config)
    await runtime.start()
    try:
        parent = _start_launcher(config)
        try:
            await _connect(runtime, parent)
            yield runtime
        finally:
            parent.kill()
            parent.wait()
            await runtime.remove_all()
    finally:
        await runtime.close()


def _start_launcher(config: Config) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-SI", launcher.__file__, config.launcher_socket, f"{config.run_dir}/stage"]
    # Nothing of ours in its hands: whoever reads what we write would wait for it, too. A session of its own, because Ctrl-C on our
    # terminal is for us to answer. No environment: the container's PID 1 is a copy of it until it becomes its init.
    with (config.run_dir / "launcher.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={}, start_new_session=True
        )


async def _connect(runtime: Runtime, parent: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(LAUNCHER_TIMEOUT_S):
        while True:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                runtime.connect_launcher()
                return
            if parent.poll() is not None:
                raise OSError(f"the launcher ended with {parent.returncode}")
            await asyncio.sleep(0.005)


@asynccontextmanager
async def listen_events(name: str) -> AsyncIterator[ListenEvents]:
    """Where the kernel tells of them; else whoever waits looks again and again."""
    events = ListenEvents(name)
    with suppress(OSError):
        events.open()
    try:
        yield events
    finally:
        events.close()


def events_name(record: Record) -> str:
    return f"fastcontainer-{record.name}-{record.network.partition('/')[0]}"


async def clean(place: Place, record: Record) -> None:
    """Everything that a runner left which died: its launcher, its container, what the kernel holds of it, its files."""
    config = config_of(place, record)
    _kill_launcher(config.launcher_socket)
    runtime = Runtime(config)
    await runtime.start()
    try:
        await runtime.remove_all()
    finally:
        await runtime.close()
    with suppress(OSError):  # without tracefs there is none
        remove_instance(events_name(record))
    place.remove()


def _kill_launcher(path: str) -> None:
    """By its socket, which nobody else can listen on: a number on paper may be somebody else's by now."""
    if not Path(path).exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(path)
        except ConnectionRefusedError:
            return
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
