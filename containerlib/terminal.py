"""Bytes carried between a person's terminal and a program that must not hold it."""

import contextlib
import fcntl
import os
import select
import signal
import termios
import tty
from collections.abc import Collection, Iterator, Mapping
from types import FrameType

READ_BYTES = 1 << 16


@contextlib.contextmanager
def raw(terminal: int, master: int) -> Iterator[None]:
    """Every key goes through, Ctrl-C too; the pseudo-terminal behind `master` follows the size of `terminal`."""

    def resize(_number: int = 0, _frame: FrameType | None = None) -> None:
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))

    resize()
    attributes = termios.tcgetattr(terminal)
    handler = signal.signal(signal.SIGWINCH, resize)
    tty.setraw(terminal, termios.TCSADRAIN)  # keeps what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, attributes)
        signal.signal(signal.SIGWINCH, handler)


def relay(pairs: Mapping[int, int], ended: int, inward: Collection[int] = ()) -> None:
    """Carries bytes from each source to its sink until the pidfd `ended` is readable and what was written by then is through.

    `inward` are the sinks that lead to the program. One that takes nothing stops its own source only, so that a program which is
    fed faster than it reads can still be heard; nobody waits for it at the end; it is closed with its source, unless it is one too.
    """
    pending = dict.fromkeys(pairs, b"")
    closing = {sink for sink in inward if sink not in pairs}
    for sink in inward:
        os.set_blocking(sink, False)
    over = False
    try:
        while True:
            readable = [source for source, data in pending.items() if not data]
            writable = [pairs[source] for source, data in pending.items() if data]
            unheard = any(sink not in inward for sink in writable)
            patience_s = 0 if over and not unheard else None
            ready, taking, _ = select.select(readable if over else [*readable, ended], writable, [], patience_s)
            if over and not ready and not taking:
                return
            over = over or ended in ready
            for source in [each for each in pending if each in ready]:
                pending[source] = _read(source)
                if not pending[source]:
                    del pending[source]
                    _close(closing, pairs[source])
            for source in [each for each in pending if pairs[each] in taking]:
                pending[source] = _write(pairs[source], pending[source])
    finally:
        for sink in tuple(closing):
            _close(closing, sink)


def _close(closing: set[int], sink: int) -> None:
    if sink in closing:
        closing.discard(sink)
        os.close(sink)


def _read(source: int) -> bytes:
    try:
        return os.read(source, READ_BYTES)
    except OSError:  # a pseudo-terminal whose other side was closed says EIO
        return b""


def _write(sink: int, data: bytes) -> bytes:
    """What is left."""
    try:
        return data[os.write(sink, data) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""
