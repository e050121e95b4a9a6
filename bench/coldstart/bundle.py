"""What the others are told, so that they serve the same directory with the same program from the host's /usr. Pure."""

from collections.abc import Sequence
from typing import Any

CONTENT = "/srv/www"
USR_LINKS = ("bin", "sbin", "lib", "lib64")
ROOT_DIRECTORIES = ("usr", "proc", "dev", "sys", "tmp", "srv/www")
_NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")
_SAFE = ("nosuid", "noexec", "nodev")
_MASKED = ("acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi")


def httpd(listen: str, content: str) -> tuple[str, ...]:
    """`listen`: PORT or ADDRESS:PORT."""
    return ("/usr/bin/busybox", "httpd", "-f", "-p", listen, "-h", content)


def bubblewrap(site: str, command: Sequence[str]) -> tuple[str, ...]:
    """The host's network: in a namespace of its own it has only a loopback that nobody outside can reach."""
    links = [word for name in USR_LINKS for word in ("--symlink", f"usr/{name}", f"/{name}")]
    return (
        "/usr/bin/bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent",
        "--ro-bind", "/usr", "/usr", *links, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
        "--ro-bind", site, CONTENT, "--", *command,
    )  # fmt: skip


def podman(state: str, run: str) -> tuple[str, ...]:
    """With a storage of its own, away from that of whoever uses it on this machine, and no record of events. `run`: at most 50
    characters."""
    return (
        "/usr/bin/podman", "--root", f"{state}/store", "--runroot", run, "--tmpdir", f"{run}/tmp",
        "--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs", "--runtime", "runc",
        "--log-level", "error",
    )  # fmt: skip


def podman_run(name: str, group: str, root: str, site: str, command: Sequence[str]) -> tuple[str, ...]:
    """A directory as its root: no image is unpacked and no layer mounted. The host's network, as the others have. Its own limits on
    open files and processes are above what root may have that lacks a capability."""
    return (
        "run", "--detach", "--name", name, "--network", "host", "--cgroup-parent", f"/{group}",
        "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
        "--volume", "/usr:/usr:ro", "--volume", f"{site}:{CONTENT}:ro", "--rootfs", root, *command,
    )  # fmt: skip


def runc_config(site: str, command: Sequence[str]) -> dict[str, Any]:
    """config.json of a bundle whose `rootfs` has ROOT_DIRECTORIES: as `runc spec` of 1.1 writes it, plus the two binds, less the
    network namespace (nothing could reach it) and the limit on open files (raising it needs a capability that root may lack).
    """
    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(command),
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "ambient"), capabilities),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount(
                "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
            ),
            _mount("/dev/shm", "tmpfs", "shm", *_SAFE, "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", *_SAFE),
            _mount("/sys", "sysfs", "sysfs", *_SAFE, "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", *_SAFE, "relatime", "ro"),
            _mount("/usr", "bind", "/usr", "rbind", "ro", "nosuid", "nodev"),
            _mount(CONTENT, "bind", site, "rbind", "ro", "nosuid", "nodev"),
        ],
        "linux": {
            "namespaces": [{"type": name} for name in _NAMESPACES],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": [*(f"/proc/{name}" for name in _MASKED), "/sys/firmware"],
            "readonlyPaths": [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")],
        },
    }


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
