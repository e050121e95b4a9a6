"""Dumped and restored by the runtime itself: how long it takes, and what is refused."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from containerlib.cgroups import Limits
from containerlib.checkpoint import criu, dumping, restoring
from containerlib.checkpoint.criu import CriuFailed
from containerlib.checkpoint.dumping import Facts
from containerlib.checkpoint.images import Image, Moment
from containerlib.handle import Container, Kind, StartFailed
from containerlib.identity import Identity
from tests.containerlib.test_runtime import Lab
from tests.plugins.compute import until

pytestmark = pytest.mark.system
BASE = 2_140_000_000
LIMITS = Limits(cpu=1.0, memory_bytes=128 << 20, pids=50)
SERVER = """
import os, socket, sys, time
time.sleep(float(sys.argv[1]))
listener = socket.create_server(('0.0.0.0', 80))
hits = 0
while True:
    peer, _ = listener.accept()
    hits += 1
    peer.sendall(f'{hits} {socket.gethostname()}'.encode())
    peer.close()
"""


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def start(lab: Lab, boot_s: float = 0.0, **identity: Any) -> Container:
    blank: Container = await lab.runtime.make_blank(kind=Kind(dumpable=BASE))
    lab.made.append(blank)
    command = ("/usr/bin/python3", "-SIuc", SERVER, str(boot_s))
    await lab.runtime.wake(blank, Identity("web", BASE, command, address=blank.address, **identity), (), LIMITS)
    return blank


async def answer(container: Container) -> str:
    """To the first byte, however long it takes to listen."""
    async with asyncio.timeout(10):
        while True:
            try:
                reader, writer = await asyncio.open_connection(container.address, 80)
            except OSError:
                await asyncio.sleep(0.002)
                continue
            said = (await reader.read()).decode()
            writer.close()
            await writer.wait_closed()
            if said:
                return said


def facts(moment: Moment = Moment.READY, *, init: bool = True) -> Facts:
    return Facts("web", moment, "digest", BASE, init)


async def dump(container: Container, place: Path, **how: Any) -> Image:
    return await dumping.dump(criu.find(), container, facts(**how), place, leave_running=False)


async def restore(lab: Lab, image: Image, hostname: str = "other") -> Container:
    container = await restoring.restore(lab.runtime, criu.find(), image, restoring.Who(hostname, (), LIMITS))
    lab.made.append(container)
    return container


async def test_a_restored_program_answers_three_times_as_fast_as_one_that_boots_for_two_seconds(
    lab: Lab, tmp_path: Path
) -> None:
    began = time.monotonic()
    cold = await start(lab, 2.0)
    assert await answer(cold) == "1 web"
    cold_s = time.monotonic() - began
    image = await dump(cold, tmp_path, moment=Moment.WARMED)
    address = cold.address
    await lab.destroy(cold)
    for number in range(2):
        began = time.monotonic()
        restored = await restore(lab, image, f"other{number}")
        assert await answer(restored) == f"2 other{number}"
        restored_s = time.monotonic() - began
        print(f"cold {cold_s:.3f} s, restored {restored_s:.3f} s, {image.manifest.size_bytes >> 20} MiB")
        assert restored_s * 3 < cold_s
    assert address not in {each.address for each in lab.made}
    assert len({each.address for each in lab.made}) == 2


async def test_how_a_restored_program_ends_is_known(lab: Lab, tmp_path: Path) -> None:
    image = await dump(await start(lab), tmp_path)
    restored = await restore(lab, image)
    assert restored.program is not None or not lab.runtime.can_spawn
    restored.ask_to_stop(init=True)
    await lab.ended(restored)
    assert await lab.runtime.exit_status(restored) == 15


async def test_without_an_init_too(lab: Lab, tmp_path: Path) -> None:
    cold = await start(lab, init=False)
    assert await answer(cold) == "1 web"
    image = await dump(cold, tmp_path, init=False)
    restored = await restore(lab, image)
    assert restored.program is None
    assert await answer(restored) == "2 other"


async def test_its_limits_are_in_force(lab: Lab, tmp_path: Path) -> None:
    image = await dump(await start(lab), tmp_path)
    restored = await restore(lab, image)
    await until(lambda: len(restored.group.processes()) == 2)  # whoever restored it has ended
    directory = next(each for each in restored.group.directories() if "/pids/" in str(each) or each.match("*unified*"))
    assert (directory / "pids.max").read_text().strip() == "50"


async def test_a_container_of_the_usual_kind_is_not_dumped(lab: Lab, tmp_path: Path) -> None:
    container = await lab.wake()
    with pytest.raises(CriuFailed, match=r"was not started to be dumped"):
        await dump(container, tmp_path)


async def test_it_runs_on_after_a_dump_that_took_too_long(lab: Lab, tmp_path: Path) -> None:
    container = await start(lab)
    assert await answer(container) == "1 web"
    with pytest.raises(CriuFailed, match=r"took longer than 0.001 s"):
        await dumping.dump(criu.find(), container, facts(), tmp_path, leave_running=True, timeout_s=0.001)
    assert await answer(container) == "2 web"
    assert left_in(tmp_path) == []


async def test_of_a_restore_that_fails_nothing_is_left(lab: Lab, tmp_path: Path) -> None:
    image = await dump(await start(lab), tmp_path)
    for path in image.directory.glob("core-*.img"):
        path.write_bytes(b"x")
    groups = lab.runtime.tree.names()
    with pytest.raises(StartFailed, match=r"criu restore ended with 1: "):
        await restore(lab, image)
    assert lab.runtime.tree.names() == groups
    assert len(list((lab.runtime.config.run_dir / "slots").iterdir())) == len(lab.made)


async def test_an_image_of_other_mounts_is_refused(lab: Lab, tmp_path: Path) -> None:
    cold = await start(lab)
    image = await dumping.dump(
        criu.find(), cold, Facts("web", Moment.READY, "digest", BASE, True, ("/srv",)), tmp_path, leave_running=False
    )
    with pytest.raises(StartFailed, match="the image was taken with other mounts"):
        await restore(lab, image)


async def test_a_dumpable_blank_ends_with_whoever_made_it(lab: Lab) -> None:
    blank = await lab.runtime.make_blank(kind=Kind(dumpable=BASE))
    group = blank.group
    assert len(group.processes()) == 2
    lab.made.append(blank)
    blank.control.close()
    blank.control = None
    await until(lambda: not group.processes())
