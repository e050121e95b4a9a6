"""What a build tells while it goes on: values for whoever shows them. A callback that raises ends the build."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another process builds an image of this name; its result will be used if the recipe is the same."""

    image: str
    holder: str  # "process 4711", as far as it is known


@dataclass(frozen=True, slots=True)
class StepBegan:
    image: str
    step: str
    number: int  # from 1
    count: int


@dataclass(frozen=True, slots=True)
class Line:
    """Of the output of a step's program."""

    image: str
    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Built:
    image: str
    version: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """The recipe was built before."""

    image: str
    version: str


Event = Waiting | StepBegan | Line | Built | Found
Progress = Callable[[Event], None]


def silent(_event: Event) -> None:
    """For whoever shows nothing."""
