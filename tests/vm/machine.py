"""A second kernel for a while: boots under qemu with the host's own files, runs one command as root inside, brings the result back.

    outcome = run(prepare(), (sys.executable, "-m", "pytest", "tests/system"), limit_s=600)
    outcome.status, outcome.output, outcome.kernel

Emulated (TCG): hardware virtualisation is not to be had everywhere. It is 10 to 50 times slower than the host, so what runs there
is given patience and is never asked for speed. The host's root is read-only in it, writes go to memory; only `share` is written.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from containerlib import kernel
from tests.vm.guest import Guest

CHECKOUT = Path(__file__).parents[2]
INIT = Path(__file__).with_name("init.py")
# One processor: of two, emulated in two threads, one now and then lost its timer for good, and the guest hung.
MEMORY_MB = 2048
GRACE_S = 20  # of the whole machine after the guest's own time limit
POLL_S = 0.1
INSIDE_MARK = Path("/run/vm/job.json")
# No speculation to guard against: boot is a third shorter. Not the processor's own clock: emulated, it is the host's,
# and while that is busy the guest measures its rate wrongly: once it was a fifth, and every timeout in the guest was over in a
# fifth of its time.
KERNEL_WORDS = (
    "console=ttyS0 panic=-1 quiet mitigations=off nokaslr random.trust_cpu=on no_timer_check notsc clocksource=hpet"
)


class MachineFailed(Exception):
    """It did not get so far as to run the command, or not to its end; the text has what it said."""


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    output: str
    kernel: str
    boot_s: float  # to the command's start, by the guest's clock
    total_s: float


def qemu_command(guest: Guest, share: Path, console: Path, python: str, init: str) -> tuple[str, ...]:
    """Pure."""
    words = f"{KERNEL_WORDS} vm.python={python} vm.init={init}"
    return (
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "1", "-m", str(MEMORY_MB),
        "-kernel", str(guest.kernel), "-initrd", str(guest.initramfs), "-append", words,
        "-nodefaults", "-no-reboot", "-nic", "none", "-display", "none", "-monitor", "none",
        "-serial", f"file:{console}", "-device", "virtio-rng-pci",
        *_shared("host", Path("/"), readonly=True), *_shared("layer", guest.layer, readonly=True), *_shared("share", share),
    )  # fmt: skip


def _shared(tag: str, path: Path, *, readonly: bool = False) -> tuple[str, ...]:
    # remap: the host's root is more than one file system, whose inode numbers may be the same.
    options = f"local,id={tag},path={path},security_model=none,multidevs=remap{',readonly=on' if readonly else ''}"
    return ("-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}")


def run(
    guest: Guest,
    command: Sequence[str],
    *,
    limit_s: int,
    environment: dict[str, str] | None = None,
    on_output: Callable[[str], object] = lambda text: None,
) -> Outcome:
    """Runs `command` in the checkout. Raises MachineFailed; whatever happens, nothing of it is left."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fastcontainer-vm-") as name:
        share, console = Path(name) / "share", Path(name) / "console"
        share.mkdir()
        job = {
            "command": list(command),
            "directory": str(CHECKOUT),
            "environment": {**_environment(), **(environment or {})},
            "limit_s": limit_s,
        }
        (share / "job.json").write_text(json.dumps(job))
        words = qemu_command(guest, share, console, sys.executable, str(INIT))
        _run_to_its_end(words, share / "output", began + limit_s + GRACE_S, on_output)
        return _outcome(share, console, time.monotonic() - began)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def _run_to_its_end(words: Sequence[str], output: Path, deadline: float, on_output: Callable[[str], object]) -> None:
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=_end_with_parent
    )
    seen = 0
    assert process.stderr is not None
    try:
        while process.poll() is None and time.monotonic() < deadline:
            seen += _pass_on(output, seen, on_output)
            time.sleep(POLL_S)
        _pass_on(output, seen, on_output)
    finally:
        process.kill()
        process.wait()
        complaint = process.stderr.read().decode(errors="replace")
        process.stderr.close()
    if complaint and process.returncode not in (0, -9):
        raise MachineFailed(f"qemu ended with {process.returncode}: {complaint[-2000:]}")


def _end_with_parent() -> None:
    """Killed, we could not end it, and it would go on emulating for as long as its command takes."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def _pass_on(path: Path, seen: int, on_output: Callable[[str], object]) -> int:
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(seen)
        if new := file.read():
            on_output(new.decode(errors="replace"))
            return len(new)
    return 0


def _outcome(share: Path, console: Path, total_s: float) -> Outcome:
    output = _text(share / "output")
    if not (share / "began").exists() or not (share / "status").exists():
        raise MachineFailed(
            f"no result after {total_s:.0f} s\nconsole: {_text(console)[-3000:]}\noutput: {output[-6000:]}"
        )
    start = json.loads((share / "began").read_text())
    return Outcome(int(_text(share / "status")), output, start["kernel"], start["up_s"], total_s)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def is_inside() -> bool:
    return INSIDE_MARK.exists()
