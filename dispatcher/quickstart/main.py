"""python -m dispatcher.quickstart.main up [--detach] | down [--purge]. What must come before Python is in ./quickstart."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dispatcher.quickstart import cgroup, machine, samples
from dispatcher.quickstart.control import Manager, end, strays, wait_until_serving
from dispatcher.quickstart.programs import config_path, placed, programs
from dispatcher.settings import Settings, load

START_WAIT_S = 60.0
LOG_LINES_SHOWN = 8

app = typer.Typer(add_completion=False, no_args_is_help=True)


def say(message: str) -> None:
    print(time.strftime("%H:%M:%S"), message, flush=True)


def die(message: str) -> NoReturn:
    print(f"quickstart: {message}", file=sys.stderr)
    raise SystemExit(1)


@app.command()
def up(detach: Annotated[bool, typer.Option("--detach")] = False) -> None:
    settings = _settings()
    manager = Manager(settings)
    if manager.is_running():
        say("it runs already; ./quickstart down stops it")
        _tell(settings)
        return
    if left := strays(settings):
        say(f"ending {len(left)} processes of an earlier start")
        end(left)
    if taken := machine.taken_ports(settings):
        die("; ".join(taken))
    try:
        _start(settings, manager)
    except KeyboardInterrupt:
        _stop(settings, purge=False)
        die("interrupted while starting")
    except (RuntimeError, OSError) as error:
        _stop(settings, purge=False)
        die(str(error))
    _tell(settings)
    if detach:
        return
    say("Ctrl-C stops everything")
    _wait_for_signal(manager)
    if not _stop(settings, purge=False):
        raise SystemExit(1)


@app.command()
def down(purge: Annotated[bool, typer.Option("--purge")] = False) -> None:
    if not _stop(_settings(), purge=purge):
        raise SystemExit(1)


def _settings() -> Settings:
    try:
        return placed(load(), has_haproxy=shutil.which("haproxy") is not None)
    except ValueError as error:
        die(str(error))


def _names(settings: Settings) -> str:
    names = [program.name for program in programs(settings, _venv_bin())]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _venv_bin() -> Path:
    return Path(sys.executable).parent


def _environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, "FASTCONTAINER_CONFIG": str(config_path(settings))}


def _start(settings: Settings, manager: Manager) -> None:
    """Raises RuntimeError that says what did not start."""
    begin = time.monotonic()
    config = machine.prepare(settings, _venv_bin())
    say(f"starting {_names(settings)}")
    manager.start(config)
    if silent := wait_until_serving(settings, manager, START_WAIT_S):
        logs = [f"--- the end of {settings.log_dir}/{name}.log\n{_last_lines(settings, name)}" for name in silent]
        states = ", ".join(f"{name} ({state})" for name, state in silent.items())
        raise RuntimeError("\n".join(["these do not serve: " + states, *logs]))
    made = samples.create_missing(_venv_bin(), _environment(settings))
    say(f"serving after {time.monotonic() - begin:.1f} s" + (f"; new sites: {', '.join(made)}" if made else ""))


def _last_lines(settings: Settings, name: str) -> str:
    try:
        return "\n".join(
            Path(settings.log_dir, f"{name}.log").read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        )
    except FileNotFoundError:
        return "(no log)"


def _tell(settings: Settings) -> None:
    port = (settings.userlb_listen or settings.userproxy_listen).rpartition(":")[2]
    # Who changed something by a variable has to tell the command line of it, too.
    found = "" if load() == load({}) else f"FASTCONTAINER_CONFIG={config_path(settings)} "
    command = f"{found}{_venv_bin() / 'fastcontainer'}"
    print(
        f"""
  http://hello.localhost:{port}/   a few lines of Python
  http://php.localhost:{port}/     Apache with mod_php, phpinfo()
  both asleep until you ask:  curl http://hello.localhost:{port}/

  {command} ps             what runs now
  {command} app list       all sites
  {command} events hello   what happened to one
  logs in {settings.log_dir}; ./quickstart down stops everything
""",
        flush=True,
    )


def _wait_for_signal(manager: Manager) -> None:
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    while signal.sigtimedwait(ends, 2.0) is None:
        if not manager.is_running():
            say("the process manager is gone")
            break
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)


def _stop(settings: Settings, *, purge: bool) -> bool:
    """False when something is left; what, has been said."""
    manager = Manager(settings)
    if manager.is_running():
        say("stopping everything")
        if not manager.stop():
            say("the process manager did not end in time and was killed")
    if left := strays(settings):
        say(f"ending {len(left)} processes without a manager: {', '.join(str(process.pid) for process in left)}")
        end(left)
    if config_path(settings).exists():
        say("removing containers, interfaces and cgroups")
        if machine.started_in(settings).exists():
            cgroup.join(machine.started_in(settings).read_text())
        clean = subprocess.run([str(_venv_bin() / "fastcontainer"), "agent", "--clean"], env=_environment(settings))
        if clean.returncode != 0:
            say(f"`fastcontainer agent --clean` failed; {settings.run_dir} is kept for the next ./quickstart down")
            return False
    for path in (settings.run_dir, *((settings.state_dir, settings.log_dir) if purge else ())):
        try:
            machine.remove_tree(path)
        except OSError as error:
            say(f"{path} could not be removed: {error}")
            return False
    kept = [path for path in (settings.state_dir, settings.log_dir) if Path(path).exists()]
    say("everything is stopped" + (f"; kept: {' and '.join(kept)} (--purge removes them)" if kept else ""))
    return True


if __name__ == "__main__":
    app()
