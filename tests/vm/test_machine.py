"""The second kernel: how it is fetched and booted, and the smoke run that each run of the CI makes on it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib import process
from tests.vm import guest, machine, selection
from tests.vm.guest import Guest, NotAvailable

GUEST = Guest("6.1.0-56-amd64", Path("/cache/image"))


def test_the_kernel_of_the_day_is_found_in_what_apt_says() -> None:
    said = (
        "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Depends: <linux-image-6.1.0-56-amd64-unsigned>\n"
    )
    assert guest.kernel_package(said) == "linux-image-6.1.0-56-amd64"


def test_without_such_a_package_the_remedy_is_said() -> None:
    with pytest.raises(NotAvailable, match="run `apt-get update`"):
        guest.kernel_package("")


def test_what_would_be_installed_is_fetched() -> None:
    simulation = """\
Inst keyutils (1.6.3-2 Debian:12.15/oldstable [amd64])
Inst xz-utils [5.4.1-1] (5.4.1-1+deb12u2 Debian-Security:12 [amd64])
Conf keyutils (1.6.3-2 Debian:12.15/oldstable [amd64])
"""
    assert guest.wanted_packages(simulation) == ["keyutils", "xz-utils"]


def test_what_is_built_in_is_not_loaded() -> None:
    shown = "builtin virtio\ninsmod /layer/9pnet.ko \ninsmod /layer/9p.ko.xz option=1\n"
    assert guest.insmod_paths(shown) == [Path("/layer/9pnet.ko"), Path("/layer/9p.ko.xz")]


def image(payload: bytes) -> bytes:
    """As the boot protocol has it: one sector of set-up, then the payload at an offset of 16."""
    head = bytearray(1024)
    head[guest.BZIMAGE_SETUP_SECTORS_AT] = 1
    head[guest.BZIMAGE_PAYLOAD_AT : guest.BZIMAGE_PAYLOAD_AT + 8] = b"".join(
        number.to_bytes(4, "little") for number in (16, len(payload))
    )
    return bytes(head) + bytes(16) + payload + b"more"


def test_a_kernel_is_unpacked() -> None:
    packed = subprocess.run(
        ("xz", "--stdout", "--check=crc32"), input=b"\x7fELF", capture_output=True, check=True
    ).stdout
    assert guest.unpacked_kernel(image(packed + b"size")) == b"\x7fELF"


def test_a_kernel_of_another_compression_is_left_as_it_is() -> None:
    other = image(b"\x28\xb5\x2f\xfd...")
    assert guest.unpacked_kernel(other) == other


def test_the_guest_may_write_to_its_share_and_to_nothing_else_of_the_host() -> None:
    words = machine.qemu_command(GUEST, Path("/share"), Path("/console"), "/python", "/init.py")
    shared = {word.split(",")[2]: word for word in words if word.startswith("local,")}
    assert [path for path, word in shared.items() if "readonly=on" not in word] == ["path=/share"]
    assert set(shared) == {"path=/", "path=/cache/image/layer", "path=/share"}
    assert words[words.index("-nic") + 1] == "none"


def test_a_cache_without_the_guest_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotAvailable, match="apt-cache"):
        guest.prepare(tmp_path / "cache")


def test_everything_runs_unless_something_is_named() -> None:
    assert selection.words(["-x"]) == ["-x", *selection.WHOLE]
    assert selection.words(["-x", "tests/system"]) == ["-x", "tests/system"]


def test_what_is_to_run_is_there() -> None:
    paths = [word for word in (*selection.WHOLE, *selection.SMOKE) if not word.startswith("-")]
    assert [path for path in paths if not (machine.CHECKOUT / path.partition("::")[0]).exists()] == []
    for test in selection.LEFT_OUT:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (machine.CHECKOUT / path).read_text()


@pytest.mark.system
def test_a_command_that_never_ends_is_ended_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    outcome = machine.run(guest.prepare(), ("sh", "-c", "echo begun; exec sleep 1000"), limit_s=2)
    assert (outcome.status, outcome.output.splitlines()) == (124, ["begun", "not done within 2 s"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_machine_ends_with_whoever_started_it(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.vm", *selection.SMOKE]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    starter = subprocess.Popen(command, env=environment, cwd=machine.CHECKOUT, stdout=subprocess.DEVNULL)
    wait_until(lambda: any(tmp_path.glob("*/console")), within_s=60)  # qemu's own doing
    (emulator,) = process.children(starter.pid)
    starter.send_signal(number)
    assert starter.wait(20) != 0
    wait_until(lambda: process.start_time(emulator) is None, within_s=5)
    if number is signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []


def wait_until(is_so: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.system
@pytest.mark.timeout(selection.SMOKE_S + 300)
def test_smoke_run_on_the_second_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    command = (sys.executable, "-m", "pytest", *selection.OPTIONS, *selection.SMOKE)
    outcome = machine.run(guest.prepare(), command, limit_s=selection.SMOKE_S)
    with capsys.disabled():
        print(f"\nsecond kernel: {outcome.kernel}, booted in {outcome.boot_s:.0f} s, {outcome.total_s:.0f} s in all")
    assert outcome.status == 0, outcome.output
    assert " 1 passed" in outcome.output, outcome.output
