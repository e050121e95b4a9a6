from collections.abc import Callable
from dataclasses import fields
from typing import Any

import typer

from dispatcher.cli.apps import group
from dispatcher.cli.flags import Flags
from dispatcher.domain import AppSpec, Front, Policy


def options(command: str) -> set[str]:
    root = typer.main.get_command(group)
    assert isinstance(root, typer.core.TyperGroup)
    return {parameter.name or "" for parameter in root.commands[command].params}


def test_create_and_edit_have_every_flag() -> None:
    names = {field.name for field in fields(Flags)}
    assert names <= options("create")
    assert names <= options("edit")
    assert "flags" not in options("create")


def test_every_field_of_spec_and_policy_has_a_flag() -> None:
    names = {field.name for field in fields(Flags)} | {"command", "mounts"}
    spec = {name.removesuffix("_bps") for name in AppSpec.__struct_fields__}
    wanted = {*spec, *(name.removesuffix("_s") for name in Policy.__struct_fields__)} - {"policy"}
    assert wanted - {"front"} - names == set()
    front = {
        each.removesuffix("_s").removesuffix("_per").replace("_bytes_max", "_max") for each in Front.__struct_fields__
    }
    assert {each.replace("in_flight_max", "in_flight") for each in front} - names == set()


def test_what_concerns_the_spec() -> None:
    assert not Flags().are_given()
    assert Flags(server_timing=False).are_given() and Flags(server_timing=False).concern_spec()
    assert Flags(cpu="").are_given() and not Flags(cpu="", domain=["a"], switch="on").concern_spec()
    assert Flags(cpu="", memory="1G").words() == {"cpu": "", "memory": "1G"}


def test_a_wrong_flag_is_refused_by_name(cli: Callable[..., Any]) -> None:
    said = cli("app", "create", "blog", "--run", "x", "--cpus", "1")
    assert said.code == 2 and "--cpus" in said.err
