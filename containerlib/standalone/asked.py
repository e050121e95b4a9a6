"""What others ask of a runner: by its control socket, and by signals."""

import asyncio
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from containerlib import checks
from containerlib.checkpoint.images import Moment
from containerlib.spec import Stop
from containerlib.standalone.control import Refused

if TYPE_CHECKING:
    from containerlib.standalone.runner import Runner


class Asked:
    """TERM and INT stop the container, HUP reloads its definition, USR1, USR2, TTIN and TTOU are its own handlers'."""

    def __init__(self, runner: "Runner") -> None:
        self._runner = runner
        self._handlers: dict[int, Callable[[], object]] = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: self._hang_up,
            **{
                number: self._handle_of(number)
                for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)
            },
        }
        self._reloading: asyncio.Task[None] | None = None

    def __enter__(self) -> "Asked":
        for number, handler in self._handlers.items():
            asyncio.get_running_loop().add_signal_handler(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._handlers:
            asyncio.get_running_loop().remove_signal_handler(number)
        if self._reloading is not None:
            self._reloading.cancel()

    def _stop(self) -> None:
        self._runner.stop(self._runner.spec.stop)

    def _hang_up(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload_and_tell(), name="reload")

    async def _reload_and_tell(self) -> None:
        name = self._runner.spec.name
        try:
            self._runner.say(f"{name}: {await self._runner.reload()}")
        except Refused as error:
            self._runner.say(f"{name}: {error}")

    def _handle_of(self, number: int) -> Callable[[], object]:
        return lambda: self._handle(number)

    def _handle(self, number: int) -> None:
        for each in self._runner.spec.signal_handlers:
            if each.signal == number:
                self._runner.told.aside(each, each.signal.name.removeprefix("SIG"))

    async def answer(self, request: dict[str, Any]) -> str:
        """Raises Refused; ValueError and KeyError for what is no request."""
        match request["ask"]:
            case "stop":
                own = self._runner.spec.stop
                number = checks.signal_number("signal", request["signal"]) if request.get("signal") else own.signal
                self._runner.stop(Stop(number, float(request.get("grace_s", own.grace_s))))
                return "stopping"
            case "checkpoint":
                moment = Moment(request.get("moment", Moment.READY))
                return await self._runner.checkpoint(moment, leave_running=bool(request.get("leave_running", False)))
            case "reload":
                return await self._runner.reload()
        raise Refused(f"{request['ask']!r} is nothing that can be asked for")
