"""What a program in a container is, and what it can see."""

import json
import resource
from pathlib import Path

import pytest

from containerlib import idmap
from dispatcher.domain import Mount
from tests.plugins.compute import Host, python

pytestmark = pytest.mark.system

FACTS = r"""
import json, stat, time
def read(path):
    try:
        with open(path, "rb") as file: return file.read(4096).decode(errors="replace")
    except OSError as error:
        return error.strerror
def write(path):
    try:
        if os.path.exists(path) and stat.S_ISCHR(os.stat(path).st_mode): return "No such file or directory"  # a mask: /dev/null
        with open(path, "w") as file: file.write("x")
        return "written"
    except OSError as error:
        return error.strerror
def call(function, *arguments):
    try:
        function(*arguments); return "done"
    except OSError as error:
        return error.strerror
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
while not read("/proc/1/comm").startswith(("memfd:init", "catatonit")): time.sleep(0.005)  # the init comes after its program
facts = {
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups()],
    "capabilities": {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "no_new_privileges": status["NoNewPrivs"],
    "namespaces": {name: os.readlink("/proc/self/ns/" + name) for name in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")},
    "maps": [read("/proc/self/uid_map"), read("/proc/self/gid_map")],
    "cgroup": read("/proc/self/cgroup"),
    "filters": status["Seccomp_filters"],
    "hostname": socket.gethostname(),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "init": read("/proc/1/comm").strip(),
    "passwd": read("/etc/passwd"),
    "shadow": read("/etc/shadow"),
    "etc": sorted(os.listdir("/etc")),
    "root": sorted(os.listdir("/")),
    "write": {path: write(path) for path in (
        "/usr/x", "/etc/x", "/etc/passwd", "/x", "/.fastcontainer/passwd", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
        "/sys/x", "/dev/x", "/srv/x", "/tmp/x", "/var/tmp/x", "/run/x", "/dev/shm/x")},
    "masked": {path: read(path) for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms")},
    "devices": sorted(os.listdir("/dev")),
    "calls": {
        "chroot": call(os.chroot, "/tmp"), "setuid": call(os.setuid, 0),
        "mknod": call(os.mknod, "/tmp/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3)),
        "raw": call(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
    },
    "links": [name for _, name in socket.if_nameindex()],
    "links in sysfs": os.listdir("/sys/class/net"),
    "mounts": [line.split()[4] for line in open("/proc/self/mountinfo")],
    "core": __import__("resource").getrlimit(__import__("resource").RLIMIT_CORE),
    "environment": dict(os.environ),
    "open": sorted(os.listdir("/proc/self/fd")),
}
for first in range(0, len(text := json.dumps(facts)), 2000):
    print("facts", text[first:first + 2000])
print("end", flush=True)
serve()
"""


ROOT = {
    ".fastcontainer",
    "bin",
    "dev",
    "etc",
    "home",
    "lib",
    "lib64",
    "mnt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
}


async def test_a_container_is_what_it_should_be_and_no_more(host: Host) -> None:
    await host.app("neighbour")
    await host.wake("neighbour")
    await host.app("blog", *python(FACTS), env={"A": "1"})
    live = await host.wake("blog")
    await host.until_line("blog", "out end")
    facts = json.loads("".join(line[10:] for line in host.lines("blog") if line.startswith("out facts ")))
    uid = (await (await host.proxy()).door("blog")).uid

    assert uid >= 200_000
    assert facts["ids"] == [1000, 1000, 1000, 1000, []]
    for text in facts["maps"]:
        assert [tuple(map(int, line.split())) for line in text.splitlines()] == [
            (each.inside, each.outside, each.count) for each in idmap.extents(uid)
        ]
    assert {line.split(":")[2] for line in facts["cgroup"].splitlines() if "name=" not in line} == {"/"}
    assert facts["filters"] == "1"
    assert set(facts["capabilities"].values()) == {"0000000000000000"}
    assert facts["no_new_privileges"] == "1"
    assert facts["core"] == [0, 0]

    own = own_namespaces()
    assert all(facts["namespaces"][name] != own[name] for name in own)
    assert facts["hostname"] == "blog"
    assert sorted(facts["links"]) == ["eth0", "lo"]
    assert set(facts["links in sysfs"]) <= {"lo"}

    # Itself and its init: neither the host's processes nor the neighbour's.
    assert facts["processes"] == [1, 3]
    assert facts["init"].startswith(("memfd:init", "catatonit"))

    assert "app:x:1000:" in facts["passwd"]
    assert facts["shadow"] == "No such file or directory"
    assert not {"shadow", "gshadow", "ssh", "fastcontainer", "sudoers", "hostkey", "crontab", "cron.d"} & set(
        facts["etc"]
    )
    assert set(facts["root"]) <= ROOT

    refused = {"Read-only file system", "Permission denied", "Operation not permitted", "No such file or directory"}
    written = {path for path, how in facts["write"].items() if how == "written"}
    assert written == {"/tmp/x", "/var/tmp/x", "/run/x", "/dev/shm/x"}
    assert {how for path, how in facts["write"].items() if path not in written} <= refused
    assert facts["write"]["/usr/x"] == facts["write"]["/etc/x"] == "Read-only file system"
    assert all(text in ("", "Permission denied", "No such file or directory") for text in facts["masked"].values())

    assert set(facts["devices"]) <= {
        "fd", "full", "null", "pts", "ptmx", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    }  # fmt: skip
    assert facts["calls"].pop("raw") == "Address family not supported by protocol"
    assert set(facts["calls"].values()) == {"Operation not permitted"}
    assert not [point for point in facts["mounts"] if str(host.directory) in point]
    assert facts["environment"]["A"] == "1"
    assert set(facts["environment"]) <= {"A", "HOME", "HOSTNAME", "LANG", "LC_CTYPE", "PATH", "USER"}
    assert len(facts["open"]) <= 4  # three, and the listing's own
    assert live.address


def own_namespaces() -> dict[str, str]:
    return {
        name: str(Path(f"/proc/self/ns/{name}").readlink())
        for name in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
    }


def own_mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


async def test_a_program_runs_out_of_descriptors_where_its_own_limit_is(host: Host) -> None:
    program = """
import errno, resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard + 1))
    print("raised", flush=True)
except ValueError:
    print("limits", soft, hard, *resource.getrlimit(resource.RLIMIT_MEMLOCK))
held = []
try:
    while len(held) <= hard: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(errno.errorcode[error.errno], len(held) > hard - 10, flush=True)
held.clear()
"""
    given, locked = (resource.getrlimit(each)[1] for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK))
    memory = 8 << 20 if locked == resource.RLIM_INFINITY else min(locked, 8 << 20)
    await host.app("blog", *python(program))
    await host.known("blog")
    await host.refused("blog")  # it ends by itself
    await host.until_line("blog", f"out limits 1024 {given if 0 <= given < 65_536 else 65_536} {memory} {memory}")
    await host.until_line("blog", "out EMFILE True")


async def test_a_program_without_init_is_pid_1(host: Host) -> None:
    await host.app("blog", *python("print('pid', os.getpid()); serve()"), init=False)
    await host.wake("blog")
    await host.until_line("blog", "out pid 1")


async def test_two_apps_are_two_users_of_the_host_though_each_sees_itself_as_the_same(host: Host) -> None:
    owners = set()
    for name in ("blog", "shop"):
        await host.app(name, *python("print('uid', os.getuid()); serve()"))
        await host.wake(name)
        await host.until_line(name, "out uid 1000")
        owners |= set(map(owner, await host.processes(name)))
    assert len(owners) == 2
    assert min(owners) >= 200_000


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def test_content_may_be_written_where_the_mount_allows_it(host: Host) -> None:
    host.content.chmod(0o777)
    writes = "open('/srv/mine', 'w').write('x'); serve()"
    await host.app("rw", *python(writes), mounts=(Mount(str(host.content), "/srv"),))
    await host.wake("rw")
    assert [path.name for path in host.content.iterdir()] == ["mine"]
    await host.app("ro", *python(writes), mounts=(Mount(str(host.content), "/srv", readonly=True),))
    assert "Read-only file system" in (await host.refused("ro")).message


async def test_what_a_container_mounts_or_sees_does_not_show_on_the_host(host: Host) -> None:
    before = own_mounts()
    await host.app("blog")
    await host.wake("blog")
    assert own_mounts() == before


async def test_no_link_local_address_leads_to_what_listens_on_all_of_the_hosts(host: Host) -> None:
    program = "print('six', [line.split()[-1] for line in open('/proc/net/if_inet6')], flush=True); serve()"
    await host.app("blog", *python(program))
    await host.wake("blog")
    await host.until_line("blog", "out six ['lo']")
