"""Containers of a lane are killed while wrk asks as fast as it can: no request may fail.

    .venv/bin/python -m tests.chaos.lane_kills [--kills 20] [--containers 4] [--every 3]

One container of the lane at a time, none twice within ten seconds: what dies before it has proven itself rests before it is started
again. With one container its visitors wait for the next.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

from dispatcher.userlb.config import Pool
from dispatcher.userlb.haproxy import Runtime
from tests.fakes.ports import free_port
from tests.plugins.installation import Installation, _free_network, wait_for

CONNECTIONS = 32
START_S = 15.0


async def kills(installation: Installation, count: int, containers: int, every_s: float) -> dict[str, object]:
    await installation.create(
        "mortal", "python3", "-SI", "/srv/fast.py", words={"containers": str(containers)}, lifespan_s=3600.0
    )
    first = await installation.ask("mortal")
    assert first.status == 200, first.raw
    runtime = Runtime(Pool((), (), (), installation.settings.userlb_dir))

    async def all_open() -> bool:
        return sum(slot.is_open for slot in (await runtime.read()).slots.values()) == containers

    await wait_for(all_open, START_S)
    seconds = count * every_s + 5
    wrk = await asyncio.create_subprocess_exec(
        "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--timeout", "20s", "--latency",
        "-H", "Host: mortal.localhost", f"http://127.0.0.1:{installation.port}/",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    killed: list[str] = []
    began = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + (number + 1) * every_s - time.monotonic()))
        running = {live.container: live for live in await installation.running("mortal")}
        assert running, "nothing runs"
        last = {id: number for number, id in enumerate(killed)}
        target = min(running, key=lambda id, last=last: (last.get(id, -1), id))  # whose turn is longest ago
        os.kill(min(installation.pids_of(running[target])), signal.SIGKILL)
        killed.append(target)
    output, _ = await wrk.communicate()
    text = output.decode()
    print(text)
    found = re.search(r"(\d+) requests in", text), re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    await wait_for(all_open, START_S)
    slots = (await runtime.read()).slots.values()
    assert found[0] is not None
    return {
        "requests": int(found[0][1]),
        "requests_per_s": round(int(found[0][1]) / seconds),
        "kills": len(killed),
        "not_200": int(found[1][1]) if found[1] else 0,
        "socket_errors": sum(map(int, errors.groups())) if errors else 0,
        "given_to_slots": sum(slot.total for slot in slots),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--containers", type=int, default=4)
    parser.add_argument("--every", type=float, default=3.0)
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="fastcontainer-test-"))
    base.chmod(0o755)
    installation = Installation(base, _free_network(), {"userlb_listen": f"127.0.0.1:{free_port()}"})
    try:
        installation.quickstart("up", "--detach")
        print(json.dumps(asyncio.run(kills(installation, arguments.kills, arguments.containers, arguments.every))))
    finally:
        installation.quickstart("down", "--purge")
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
