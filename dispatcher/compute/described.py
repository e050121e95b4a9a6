"""A life, and the Compute itself, as rows of the CMDB describe them. Pure."""

import msgspec

from dispatcher import units
from dispatcher.compute.life import Life
from dispatcher.domain import App, ContainerRow, Status


def row_of(life: Life, compute: str) -> ContainerRow:
    return ContainerRow(
        compute=compute,
        status=life.status,
        generation=life.generation,
        local_address=life.address,
        cpu=cpu_word(life.app),
        memory=memory_word(life.app),
        image=life.image or (life.handle.etc_image if life.handle else ""),
        started=life.started,
        expires=life.expires,
        reason=life.draining.reason if life.draining else str(life.cause),
    )


def resting(row: ContainerRow) -> ContainerRow:
    """Of one whose life has ended."""
    return msgspec.structs.replace(
        row,
        status=Status.REGISTERED,
        address="",
        local_address="",
        cpu="",
        memory="",
        image="",
        started=0.0,
        expires=0.0,
    )


def limits_of(app: App) -> str:
    return f"cpu {cpu_word(app)}, memory {memory_word(app)}"


def cpu_word(app: App) -> str:
    return "" if app.cpu is None else units.format_cpu(app.cpu)


def memory_word(app: App) -> str:
    return "" if app.memory_bytes is None else units.format_memory(app.memory_bytes)
