"""Apps by definitions of the operator's: through the agent, on the real kernel."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from containerlib.spec.security import capability_mask
from dispatcher.compute.protocol import Refused
from dispatcher.coreapi import service
from dispatcher.domain import AppSpec, Policy, Start, Status
from tests.plugins.compute import HTTPD, Host, fetch, python, until
from tests.system.test_images import build, helpers

pytestmark = pytest.mark.system

HEAD = """
import os, time
from containerlib import Phase, define
from containerlib.hooks import OnFailure, Side

def note(container, text):
    with open({notes!r}, "a") as file:
        file.write(f"{{container.name}} {{text}}\\n")

"""
HAS_APPARMOR = Path("/sys/module/apparmor/parameters/enabled").exists()
SERVE = f"    c.command(*{HTTPD!r})\n    c.readiness(80)\n"
PHASES = (
    "setup", "before_fork", "after_fork_host", "after_network_created", "after_network_ready", "after_start", "ready",
    "before_stop", "teardown_container", "teardown",
)  # fmt: skip


def define(host: Host, body: str, *, name: str = "site", file: str = "site.py") -> Path:
    directory = Path(host.settings.definition_dir)
    directory.mkdir(exist_ok=True)
    path = directory / file
    new = path.with_suffix(".new")
    new.write_text(HEAD.format(notes=str(host.directory / "notes")) + f"@define({name!r})\ndef it(c):\n{body}")
    new.chmod(0o644)
    new.rename(path)
    return path


def hook(phase: str, *lines: str, name: str = "works", options: str = "") -> str:
    code = "".join(f"        {line}\n" for line in lines)
    return f"    @c.hook(Phase.{phase.upper()}{options})\n    def {name}(container):\n{code}"


def notes(host: Host) -> list[str]:
    path = host.directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def until_note(host: Host, text: str) -> None:
    await until(lambda: text in notes(host), within_s=10, why=f"no note {text!r} in {notes(host)}")


async def blog(host: Host, *command: str, **spec: object) -> None:
    """By its definition alone, unless `command` says otherwise."""
    made = AppSpec(command=command, definition="site", **spec)  # type: ignore[arg-type]
    await service.create_app(host.store, "blog", made, compute="here")


async def test_an_app_is_what_its_definition_says_and_its_own_keys_count_first(host: Host) -> None:
    script = "env; ulimit -n; df /cache | tail -1; exec busybox httpd -f -p 81 -h /srv"
    body = (
        f'    c.mount({str(host.content)!r}, "/srv", readonly=True)\n    c.command("busybox", "sh", "-c", {script!r})\n'
    )
    body += '    c.readiness(81)\n    c.env["A"] = "definition"\n    c.env["B"] = "definition"\n    c.rlimit("nofile", 77)\n'
    body += '    c.tmpfs("/cache", size="1M")\n    c.cgroup.memory = "64M"\n    c.cgroup.pids = 33\n'
    define(host, body)
    (host.content / "index.html").write_text("hello")
    await blog(host, env={"B": "app"})
    live = await host.wake("blog")
    assert live.address.endswith(":81") and (await fetch(live.address)).endswith(b"hello")
    lines = host.lines
    await until(lambda: {"out A=definition", "out B=app", "out 77"} <= set(lines("blog")), why=str(lines("blog")))
    assert any("/cache" in line and "1024" in line for line in lines("blog"))
    assert host.memory_limit(live) == str(64 << 20)


async def test_every_phase_in_order_each_where_it_belongs(host: Host) -> None:
    body = SERVE + "".join(hook(phase, f'note(container, "{phase}")') for phase in PHASES)
    for phase in ("after_fork", "before_root", "after_root"):  # inside: as root of nothing, in its namespaces
        body += hook(phase, "os.listdir('/srv')", "assert len([p for p in os.listdir('/proc') if p.isdigit()]) < 9")
    define(host, body)
    await blog(host)
    await host.wake("blog")
    await until_note(host, "blog ready")
    await (await host.proxy()).stop("blog")
    await until_note(host, "blog teardown")
    assert notes(host) == [f"blog {phase}" for phase in PHASES]
    assert "hook failed" not in {event.kind for event in await host.events("blog")}


@pytest.mark.parametrize("phase", ["SETUP", "AFTER_NETWORK_READY", "AFTER_ROOT", "AFTER_START"])
async def test_a_hook_that_fails_fails_the_start_and_is_named(host: Host, phase: str) -> None:
    body = SERVE + hook(phase, "raise ValueError('no licence')", name="refuses")
    body += hook("after_failure", "note(container, container.failure.split(':')[0])")
    define(host, body)
    await blog(host)
    answer = await host.refused("blog")
    assert f"hook refuses in phase {phase.lower()}: ValueError: no licence" in answer.message
    await until_note(host, f"blog hook refuses in phase {phase.lower()}")


async def test_one_that_hangs_is_killed_and_one_that_is_only_reported_is_an_event(host: Host) -> None:
    options = ", timeout=0.3, on_failure=OnFailure.REPORT"
    body = SERVE + hook("setup", "time.sleep(100)", name="hangs", options=options)
    define(host, body)
    await blog(host)
    await host.wake("blog")
    assert "hook hangs in phase setup: it took longer" in (await host.event("blog", "hook failed")).message


async def test_timers_go_on_under_another_agent_rest_while_frozen_and_end_with_the_life(host: Host) -> None:
    body = SERVE + '    @c.every(0.2)\n    def beats(container):\n        note(container, "beat")\n'
    body += '    @c.after(0.01)\n    def once(container):\n        note(container, "once")\n'
    define(host, body)
    await blog(host, policy=Policy(start=Start.FROZEN, idle_s=600.0))
    await host.wake("blog")
    await until_note(host, "blog once")
    await host.detach()
    host.kill_agent()
    before = len(notes(host))
    await host.start_agent()
    await until(lambda: len(notes(host)) > before + 1)
    assert notes(host).count("blog once") == 1
    await host.edit("blog", policy=Policy(start=Start.FROZEN, idle_s=0.2))
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.FROZEN)
    stopped = len(notes(host))
    await asyncio.sleep(0.6)  # three times the interval: to see that nothing happens there is only waiting
    assert len(notes(host)) <= stopped + 1
    await host.wake("blog")
    await until(lambda: len(notes(host)) > stopped + 1)


async def test_it_hears_that_memory_ran_out(host: Host) -> None:
    eater = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    body = f'    c.command("/usr/bin/python3", "-SIuc", {eater!r})\n    c.cgroup.memory = "24M"\n    c.readiness(80)\n'
    body += "    @c.on_oom()\n    def full(container):\n        note(container, container.cause)\n"
    define(host, body)
    await blog(host)
    assert "memory" in (await host.refused("blog")).message
    await until_note(host, "blog oom")


@pytest.mark.parametrize("side", ["HOST", "CONTAINER"])
async def test_it_hears_of_memory_pressure_from_the_next_agent_too(host: Host, side: str) -> None:
    """Its program reads more than its memory holds: the kernel takes pages back, and nobody is killed."""
    with (host.content / "big").open("wb") as file:
        file.truncate(96 << 20)  # read, its pages are the reader's
    reads = python(
        "def answer(connection):\n    connection.recv(65536)\n"
        "    with open('/srv/big', 'rb') as file:\n        while file.read(1 << 20): pass\n"
        "    connection.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nread')\n    connection.close()\nserve()"
    )
    body = f"    c.command(*{reads!r})\n    c.mount({str(host.content)!r}, '/srv')\n    c.readiness(80)\n"
    body += (
        f"    c.cgroup.memory = '24M'\n    @c.on_memory_pressure('low', side=Side.{side})\n    def short(container):\n"
    )
    body += (
        "        note(container, container.cause)\n"
        if side == "HOST"
        else "        open('/tmp/pressed', 'a').write(container.cause)\n"
    )
    define(host, body)
    host.content.chmod(0o755)
    await blog(host)
    live = await host.wake("blog")
    (init, *_) = await host.processes("blog")

    def heard() -> bool:
        if side == "HOST":
            return "blog pressure" in notes(host)
        told = Path(f"/proc/{init}/root/tmp/pressed")
        return told.exists() and "pressure" in told.read_text()

    def forget() -> None:
        (host.directory / "notes").unlink(missing_ok=True)
        Path(f"/proc/{init}/root/tmp/pressed").unlink(missing_ok=True)

    assert not heard()
    for _ in range(2):
        assert (await fetch(live.address)).endswith(b"read")
        await until(heard, within_s=10)
        await host.detach()
        host.kill_agent()
        forget()
        await host.start_agent()
        live = await host.wake("blog")
    assert "hook failed" not in {event.kind for event in await host.events("blog")}


async def test_a_changed_file_is_followed_and_a_broken_one_keeps_the_last_good(host: Host) -> None:
    beats = '    @c.every(0.1)\n    def beats(container):\n        note(container, "{}")\n'
    path = define(host, SERVE + beats.format("one"))
    await blog(host)
    await host.wake("blog")
    await until_note(host, "blog one")
    define(host, SERVE + beats.format("two"))
    await until_note(host, "blog two")
    assert (await host.event("blog", "reloaded")).life == "blog/1.1"  # no new life for a function

    define(host, SERVE + "    c.cgroup.pids = 'many'\n")
    event = await host.event("blog", "refused")
    assert f"{path}:" in event.message and "cgroup.pids" in event.message and "read before stays" in event.message
    assert (await host.wake("blog")).life == "blog/1.1"

    define(host, SERVE + "    c.env['A'] = 'b'\n")
    await host.until_rows("blog", lambda rows: set(rows) == {"2"} and rows["2"].status is Status.RUNNING)


async def until_refused(host: Host, words: str) -> str:
    for _ in range(100):
        if words in (message := (await host.refused("blog")).message):
            break
        await asyncio.sleep(0.05)
    return message


async def test_one_that_is_not_there_or_not_the_operators_fails_at_once(host: Host) -> None:
    path = define(host, SERVE, name="other", file="other.py")
    await blog(host)
    answer = await host.ensure("blog")
    assert isinstance(answer, Refused)
    assert f"definition 'site' is not in {path.parent}/*.py on this host: there is other" in answer.message

    path = define(host, SERVE)
    os.chown(path, 1234, 0)
    await host.edit("blog", env={"A": "b"})  # which is forgiven
    message = await until_refused(host, "belongs to user")
    assert f"{path}: belongs to user 1234" in message and "chown it to root" in message
    os.chown(path, 0, 0)
    assert (await host.until_answer("blog")).status is Status.RUNNING


async def test_the_helper_dies_under_a_hook_and_the_start_goes_on(host: Host) -> None:
    body = SERVE + hook("setup", "note(container, 'begun')", "time.sleep(0.5)", "note(container, 'done')")
    define(host, body)
    await blog(host)
    await host.known("blog")
    (helper,) = helpers(host)
    proxy = await host.proxy()
    asked = asyncio.get_running_loop().create_task(proxy.ensure("blog"), name="asked")
    await until_note(host, "blog begun")
    os.kill(helper, signal.SIGKILL)
    assert not isinstance(await asked, Refused)
    assert notes(host).count("blog done") >= 1


async def test_a_definition_on_an_image(host: Host) -> None:
    build(host, "one")
    body = '    c.bootstrap.image("small")\n    c.command("sh", "-c", "cat /mark; exec httpd -f -p 80")\n    c.readiness(80)\n'
    body += '    @c.hook(Phase.AFTER_ROOT)\n    def look(container):\n        assert open("/mark").read() == "one"\n'
    define(host, body)
    await blog(host)
    await host.wake("blog")
    await host.until_rows("blog", lambda rows: rows["1"].image.startswith("small@"))


async def test_its_own_list_of_system_calls_holds(host: Host) -> None:
    body = SERVE.replace("'busybox'", "'sh', '-c', 'mkdir /tmp/x || echo refused; exec \"$@\"', 'sh', 'busybox'")
    define(host, body + "    c.seccomp(deny=('mkdir', 'mkdirat'))\n")
    await blog(host)
    await host.wake("blog")
    await until(lambda: "out refused" in host.lines("blog"), why=str(host.lines("blog")))


SHOW = (
    "id -u; grep ^Cap /proc/self/status; touch /tmp/x; chown 33 /tmp/x; stat -c %u /tmp/x; exec busybox httpd -f -p 80"
)


@pytest.mark.parametrize(
    ("words", "user", "allowed", "owner"),
    [
        ("    c.user('root')\n    c.capabilities.allow('chown', 'kill')\n", "0", ("chown", "kill"), "33"),
        ("    c.user('root')\n", "0", (), "0"),
        ("    c.capabilities.allow('chown')\n", "1000", ("chown",), "33"),
    ],
)
async def test_it_has_the_capabilities_that_it_asks_for_and_no_other(
    host: Host, words: str, user: str, allowed: tuple[str, ...], owner: str
) -> None:
    define(host, f"    c.command('sh', '-c', {SHOW!r})\n    c.readiness(80)\n{words}")
    await blog(host)
    await host.wake("blog")
    await until(lambda: f"out {owner}" in host.lines("blog")[-2:], why=str(host.lines("blog")))
    lines = [line.removeprefix("out ") for line in host.lines("blog")]
    assert lines[0] == user
    masks = {name: int(mask, 16) for name, _, mask in (line.partition(":") for line in lines if line.startswith("Cap"))}
    mask = capability_mask(allowed)
    assert masks["CapBnd"] == masks["CapPrm"] == masks["CapEff"] == mask
    assert masks["CapAmb"] == (0 if user == "0" else mask)


async def test_a_profile_of_apparmor_that_cannot_be_had_fails_the_start(host: Host) -> None:
    """One that can: tests/vm/inside/test_apparmor.py."""
    define(host, SERVE + "    c.apparmor('no-such')\n")
    await blog(host)
    why = "is none that the kernel has loaded" if HAS_APPARMOR else "cannot be had: this kernel has no AppArmor"
    assert f"AppArmor profile 'no-such' {why}" in (await host.refused("blog")).message


async def test_a_list_of_system_calls_of_ones_own_is_its_programs_only(host: Host) -> None:
    """The site next door, of the same launcher, has everybody's."""
    shown = "grep ^Seccomp /proc/self/status; mkdir /tmp/x && echo made; exec busybox httpd -f -p 80"
    define(
        host, f"    c.command('sh', '-c', {shown!r})\n    c.readiness(80)\n    c.seccomp(deny=('mkdir', 'mkdirat'))\n"
    )
    await blog(host)
    await host.app("next", "sh", "-c", shown)
    for app in ("blog", "next"):
        await host.wake(app)
        await until(lambda app=app: "out Seccomp:\t2" in host.lines(app))  # type: ignore[misc]
    await until(lambda: "out made" in host.lines("next"), why=str(host.lines("next")))
    assert "out made" not in host.lines("blog")
