"""The agent's socket, for whom what he hears takes effect somewhere else and a little later.

A proxy confirms at once that a container gets no further request, because it is so from the moment on in which it has read that.
The lanes are HAProxy's: what was heard is kept until the controller says that HAProxy does as it was told, and what it counts.
"""

import itertools
from collections.abc import Mapping

from dispatcher.compute import protocol
from dispatcher.compute.link import AgentLink
from dispatcher.compute.protocol import Digest, Responses, Traffic

LIVES_A_LINE = 200  # of digests: some hundred bytes each


class LaneLink(AgentLink):
    unheard: dict[str, int]  # by life: the turn that is to be confirmed

    def start(self) -> None:
        self.unheard = {}
        super().start()

    def _write(self, message: protocol.ToAgent) -> None:
        if isinstance(message, Traffic) and message.heard is not None:
            self.unheard |= dict.fromkeys(message.in_flight, message.heard)
        else:
            super()._write(message)

    def responses(self, of: dict[str, Digest]) -> None:
        for some in itertools.batched(of.items(), LIVES_A_LINE):
            self._write(Responses(dict(some)))

    def confirm(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """`counts`: by life the turn after which it was counted, and what it has in flight. A later turn is not confirmed by it."""
        for life, (turn, count) in counts.items():
            if self.unheard.get(life) == turn:
                del self.unheard[life]
                super()._write(Traffic({life: count}, turn))
