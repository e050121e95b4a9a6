"""Our own cold start of the sleeping site, once straight from the agent and once through the proxy, each split by phase."""

import itertools
import socket
import time

from bench.coldstart.installation import APP, domain_of
from bench.coldstart.visit import PATIENCE_S, Address, phases_of, visit
from dispatcher.compute import protocol
from dispatcher.compute.protocol import Answer, Done, Ensure, FromAgent, Stop, ToAgent
from dispatcher.settings import host_port

Sample = dict[str, float]  # milliseconds by what
DOMAIN = domain_of(APP)
FIRST_BYTE, EXEC, WARM = "first byte", "asked -> exec'd", "warm: first byte"


class Asker:
    """The agent's client: one question at a time, without an event loop whose own time would be in the measurement."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rb")

    def ask(self, message: ToAgent) -> FromAgent:
        self._socket.sendall(protocol.encode(message))
        return protocol.decode_from_agent(self._lines.readline())

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Ours:
    """Like a proxy it keeps its connection to the agent."""

    def __init__(self, agent: Asker, proxy: Address, page: bytes) -> None:
        self._agent = agent
        self._proxy = proxy
        self._page = page
        self._ids = itertools.count(1)

    def launch(self) -> Sample:
        """Agent asked -> first byte straight from the container."""
        began = time.perf_counter()
        answer = self._agent.ask(Ensure(next(self._ids), APP, "1", PATIENCE_S))
        answered = time.perf_counter()
        if not isinstance(answer, Answer):
            raise RuntimeError(f"the agent did not start the site: {answer}")
        seen = visit(host_port(answer.live.address), DOMAIN, self._page)
        self._put_to_sleep()
        asked_ms = (answered - began) * 1000
        return {
            FIRST_BYTE: (seen.at - began) * 1000,
            # Both ways over the socket are in it, and the agent's own overhead.
            EXEC: asked_ms - answer.phases["listen"],
            **answer.phases,
            "socket, agent": asked_ms - sum(answer.phases.values()),
            "connect, first byte": (seen.at - answered) * 1000,
        }

    def path(self) -> Sample:
        """A client's new connection to the proxy -> first byte; then once more, now that the site is awake."""
        began = time.perf_counter()
        cold = visit(self._proxy, DOMAIN, self._page)
        cold_ms = (cold.at - began) * 1000
        began = time.perf_counter()
        warm = visit(self._proxy, DOMAIN, self._page)
        warm_ms = (warm.at - began) * 1000
        self._put_to_sleep()
        phases = phases_of(cold.headers["server-timing"])
        held_ms, server_ms = phases["queue"], phases["firstbyte"]
        return {
            FIRST_BYTE: cold_ms,
            "held": held_ms,
            "server's first byte": server_ms,
            "proxy": cold_ms - held_ms - server_ms,
            WARM: warm_ms,
        }

    def _put_to_sleep(self) -> None:
        done = self._agent.ask(Stop(next(self._ids), APP))
        if not isinstance(done, Done) or not done.lives:
            raise RuntimeError(f"the agent did not stop the site: {done}")
