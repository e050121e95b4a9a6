"""When a container is ready, and how old it may grow. Pure."""

from dataclasses import dataclass

from containerlib.checks import SpecError, seconds, text, whole


@dataclass(frozen=True, slots=True)
class Readiness:
    """It listens on `port` and, where a `path` is named, answers there below 500; `port` None: it runs."""

    port: int | None = None
    path: str = ""
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.port is not None:
            whole("readiness.port", self.port, 1, 65535)
        if self.path and (self.port is None or not text("readiness.path", self.path).startswith("/")):
            raise SpecError("readiness.path", self.path, "is not a path such as /health beside a port")
        seconds("readiness.timeout", self.timeout_s)


@dataclass(frozen=True, slots=True)
class Lifespan:
    """None: it has no end of its own."""

    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            seconds("lifespan", self.seconds)
