"""Our thaw: the same site, frozen instead of stopped. Agent asked -> first byte straight from the container."""

import itertools
import time
from ipaddress import IPv4Address, IPv4Network

from bench.coldstart.installation import FROZEN_APP, domain_of
from bench.coldstart.ours import FIRST_BYTE, Asker, Sample
from bench.coldstart.visit import PATIENCE_S, visit
from containerlib import cgroups
from dispatcher.compute.protocol import Answer, Ensure
from dispatcher.settings import Settings, host_port

RECLAIM_S = 0.05  # a frozen one's memory is taken back for some milliseconds; nobody should wait for that
LOOK_EVERY_S = 0.001


class Frozen:
    def __init__(self, agent: Asker, settings: Settings, page: bytes) -> None:
        self._agent = agent
        self._settings = settings
        self._page = page
        self._ids = itertools.count(1)
        self.thaw()  # its start, that is

    def thaw(self) -> Sample:
        """It is frozen again when this returns, being idle: freezing would be in the way of others."""
        began = time.perf_counter()
        answer = self._agent.ask(Ensure(next(self._ids), FROZEN_APP, "1", PATIENCE_S))
        answered = time.perf_counter()
        if not isinstance(answer, Answer):
            raise RuntimeError(f"the agent did not thaw the site: {answer}")
        address = host_port(answer.live.address)
        seen = visit(address, domain_of(FROZEN_APP), self._page)
        self._wait_until_frozen(address[0])
        return {
            FIRST_BYTE: (seen.at - began) * 1000,
            **answer.phases,
            "socket, agent": (answered - began) * 1000 - sum(answer.phases.values()),
            "connect, first byte": (seen.at - answered) * 1000,
        }

    def _wait_until_frozen(self, address: str) -> None:
        slot = int(IPv4Address(address)) - int(IPv4Network(self._settings.network).network_address)
        group = cgroups.find(self._settings.cgroup).group(str(slot))
        deadline = time.monotonic() + PATIENCE_S
        while not group.is_frozen():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the agent did not freeze {FROZEN_APP} within {PATIENCE_S:g} s")
            time.sleep(LOOK_EVERY_S)
        time.sleep(RECLAIM_S)
