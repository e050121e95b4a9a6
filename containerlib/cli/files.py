"""container new | inspect: definition files, without running anything."""

import keyword
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from containerlib.cli.failure import EXISTS, INVALID, Failure
from containerlib.cli.output import Json, print_json, print_table, say
from containerlib.dsl import Definitions, load
from containerlib.spec import ContainerSpec
from containerlib.spec.process import ID_BASE_MIN

Files = Annotated[list[Path], typer.Argument(help="Definition files.", show_default=False, metavar="FILE...")]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", "-n", help="Only this definition; may be repeated.", show_default=False, metavar="NAME"),
]

USR = "c.bootstrap.usr()                                # the host's own programs, read-only"
TEMPLATE = '''\
"""A container as FastContainer runs it; see docs/containers.md for every word."""

from containerlib import Phase, define


@define("{name}")
def {function}(c):
    {root}
    c.command("python3", "-m", "http.server", "8080")   # program and arguments; no shell reads them
    c.workdir = "/tmp"
    c.env["LANG"] = "C.UTF-8"
    # c.mount("/datapool/{name}", "/srv/www", readonly=True)
    # c.tmpfs("/cache", size="64M")

    c.cgroup.cpu = "100%"                                # of one core
    c.cgroup.memory = "256M"
    c.cgroup.pids = 100
    c.network.outbound = True                            # it may open connections to other hosts
    # c.network.allow_host_service(3306)                 # and to this port of its host

    c.readiness(port=8080)                               # ready means: it listens there
    # c.lifespan("1h")                                   # then it is stopped
    c.stop(signal="TERM", grace="10s")

    @c.hook(Phase.READY)
    def announce(container):
        print(f"{{container.name}} listens on {{container.address}}")

    # @c.every("30s")
    # def watch(container): ...
'''


def add_to(root: typer.Typer) -> None:
    root.command()(new)
    root.command()(inspect)


def new(
    file: Annotated[Path, typer.Argument(help="The file to write; it may not exist.", show_default=False)],
    name: Annotated[str, typer.Option("--name", "-n", help="Of the container; the file's unless given.")] = "",
    image: Annotated[str, typer.Option(help="Its root; the host's /usr unless given.", metavar="IMAGE")] = "",
) -> None:
    """Write a commented definition to begin with."""
    name = name or file.stem.replace("_", "-").lower()
    root = f'c.bootstrap.image("{image}")' if image else USR
    text = TEMPLATE.format(name=name, function=_function(name), root=root)
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as opened:
            opened.write(text)
    except FileExistsError:
        raise Failure(f"{file} exists", hint="name another file, or remove it first", code=EXISTS) from None
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from error
    try:
        read(file).spec(name)
    except BaseException:
        file.unlink()  # a name that is none, or an image that cannot be: nothing half-right is left
        raise
    say(f"wrote {file}: container {name}")


def _function(name: str) -> str:
    word = name.replace("-", "_")
    return word if word.isidentifier() and not keyword.iskeyword(word) else f"container_{word}"


def inspect(
    files: Files,
    names: Names = None,
    plan: Annotated[bool, typer.Option("--plan", help="What a start would do, in order; needs no root.")] = False,
    json: Json = False,
) -> None:
    """What definitions say, checked, or what the kernel will be asked for."""
    specs = selected(read(*files), names)
    if plan:
        _print_plans(specs, json)
        return
    from containerlib.describe import lines, plain

    if json:
        print_json([plain(spec) for spec in specs])
        return
    for number, spec in enumerate(specs):
        if number:
            say("")
        print_table(("FIELD", "VALUE"), lines(spec))


def _print_plans(specs: Sequence[ContainerSpec], json: bool) -> None:
    from containerlib.cgroups.tree import version
    from containerlib.starting import steps

    # What is only known when it runs is named as what it stands for.
    plans = {
        spec.name: list(steps(spec, spec.id_base or ID_BASE_MIN, "ADDRESS", version(), "STAGE", "ETC"))
        for spec in specs
    }
    if json:
        print_json({name: [{"where": step.where, "does": step.text} for step in each] for name, each in plans.items()})
        return
    for name, plan in plans.items():
        rows = ((str(number), step.where, step.text) for number, step in enumerate(plan, 1))
        print_table((name.upper(), "WHERE", "DOES"), rows)


def read(*files: Path) -> Definitions:
    """Raises DefinitionError, and Failure for a file that is not there."""
    try:
        return load(files)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}", code=INVALID) from error


def selected(definitions: Definitions, names: Sequence[str] | None) -> list[ContainerSpec]:
    specs = [definitions.spec(name) for name in names] if names else definitions.specs()
    if not specs:
        raise Failure("nothing is defined there", hint='@define("name") makes a definition', code=INVALID)
    return specs
