"""The syscalls' wrappers: what they raise, and one round of each that a test may make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from containerlib import kernel

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (kernel.mount, ("none", "/no/such/dir", "tmpfs", 0), "mount /no/such/dir"),
        (kernel.umount2, ("/no/such/dir", 0), "umount2 /no/such/dir"),
        (kernel.pivot_root, ("/no/such/dir", "/"), "pivot_root /no/such/dir"),
        (kernel.open_tree, ("/no/such/dir", kernel.OPEN_TREE_CLOEXEC), "open_tree /no/such/dir"),
        (kernel.move_mount, (-1, "/no/such/dir"), "move_mount /no/such/dir"),
        (kernel.mount_setattr, (-1, kernel.MOUNT_ATTR_RDONLY), "mount_setattr 0x1"),
        (kernel.prctl, (-1,), "prctl -1"),
        (kernel.syncfs, ("/no/such/dir",), "/no/such/dir"),
    ],
)
def test_a_failure_names_the_call_and_what_it_was_about(
    function: object, arguments: tuple[object, ...], named: str
) -> None:
    assert callable(function)
    with pytest.raises(OSError) as caught:
        function(*arguments)
    assert caught.value.filename == named
    assert caught.value.errno


def test_a_file_system_is_synced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    kernel.syncfs(str(tmp_path))


@pytest.mark.system
def test_capabilities_are_read_and_given_up() -> None:
    """The high half too: 40 is CHECKPOINT_RESTORE."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom containerlib import kernel\n"
        "before = kernel.capget()\nkernel.capset(before & (1 << 0 | 1 << 40))\n"
        "print(before, kernel.capget(), open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = (int(word) for word in done.stdout.split()[:2])
    own = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    assert before == int(own["CapPrm"], 16)
    assert after == before & (1 << 0 | 1 << 40) != 0
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh")] == [after, after, 0]


def test_last_capability_is_the_running_kernels() -> None:
    assert kernel.last_capability() >= 40


def test_the_size_of_a_pipe() -> None:
    read, write = os.pipe()
    try:
        kernel.set_pipe_size(write, 1 << 18)
        os.set_blocking(write, False)
        assert os.write(write, bytes(1 << 18)) == 1 << 18
        with pytest.raises(BlockingIOError):
            os.write(write, b"x")
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("module", ["launcher", "blank", "plan", "kernel"])
def test_what_the_launcher_imports_is_the_standard_library_alone(module: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import containerlib.{module}; "
        "print(*[n for n in sys.modules if n.split('.')[0] in ('asyncio', 'pyroute2', 'dispatcher', 'msgspec')])"
    )
    done = subprocess.run([sys.executable, "-SI", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
