import configparser
import tomllib
from pathlib import Path

import msgspec
import pytest

from dispatcher.quickstart.programs import config_path, config_text, etcd_command, placed, programs, supervisor_text
from dispatcher.settings import Settings, load

BIN = Path("/srv/checkout/.venv/bin")


def read_back(settings: Settings) -> configparser.ConfigParser:
    # As supervisor reads it: with interpolation.
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.read_string(supervisor_text(settings, programs(settings, BIN), BIN, 1024))
    return parser


@pytest.mark.parametrize(
    "settings",
    [
        Settings(compute="one"),
        Settings(compute='a "quoted" name', etcd=("127.0.0.1:1", "127.0.0.1:2"), blanks=9, short_cut=False),
    ],
)
def test_the_written_configuration_reads_back_as_the_same(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "fastcontainer.toml"
    file.write_text(config_text(settings))
    assert load({"FASTCONTAINER_CONFIG": str(file)}) == settings


def test_the_configuration_holds_no_defaults() -> None:
    assert tomllib.loads(config_text(Settings(blanks=7))) == {"blanks": 7}


def test_a_restart_of_launcher_or_agent_spares_the_containers() -> None:
    parser = read_back(Settings())
    for name in ("launcher", "agent"):
        section = parser[f"program:{name}"]
        assert (section["stopasgroup"], section["killasgroup"], section["autorestart"]) == ("false", "false", "true")


def test_what_parses_traffic_does_not_run_as_root() -> None:
    by_name = {program.name: program for program in programs(Settings(proxy_user="nobody"), BIN)}
    for name in ("userproxy", "webdispatcher"):
        command = by_name[name].command
        assert command[1:4] == ("-m", "dispatcher.quickstart.confined", "nobody")
        assert command[command.index("--") + 1] == f"{BIN}/fastcontainer-{name}"
    assert by_name["etcd"].command[1:4] == ("-m", "dispatcher.quickstart.confined", "etcd")


@pytest.mark.parametrize(
    "settings, has_haproxy, userlb, userproxy",
    [
        (Settings(), True, "127.0.0.1:8080", "127.0.0.1:8082"),
        (Settings(), False, "", "127.0.0.1:8080"),
        (Settings(userlb_listen="off"), True, "", "127.0.0.1:8080"),
        (Settings(userlb_listen="0.0.0.0:80"), True, "0.0.0.0:80", "127.0.0.1:8080"),
        (Settings(userlb_listen="0.0.0.0:80"), False, "", "127.0.0.1:8080"),
        (Settings(userproxy_listen="[::1]:9000"), True, "[::1]:9000", "[::1]:9002"),
    ],
    ids=["moves-in", "none-there", "off", "told-where", "told-where-but-none-there", "as-the-proxy"],
)
def test_where_the_userlb_is(settings: Settings, has_haproxy: bool, userlb: str, userproxy: str) -> None:
    found = placed(settings, has_haproxy=has_haproxy)
    assert (found.userlb_listen, found.userproxy_listen) == (userlb, userproxy)
    assert ("userlb" in [program.name for program in programs(found, BIN)]) == bool(userlb)


def test_the_userlb_ends_with_its_haproxy_and_before_all_others() -> None:
    parser = read_back(Settings(userlb_listen="127.0.0.1:1"))
    section = parser["program:userlb"]
    assert (section["stopsignal"], parser["program:userproxy"]["stopsignal"]) == ("INT", "TERM")
    assert all(
        int(section["priority"]) >= int(parser[name]["priority"]) for name in parser if name.startswith("program:")
    )


def test_etcd_compacts_has_a_quota_and_listens_where_the_settings_say() -> None:
    command = etcd_command(Settings(etcd=("127.0.0.1:4001",), state_dir="/tmp/state"))
    assert "--auto-compaction-retention=1h" in command
    assert "--snapshot-count=10000" in command
    assert "--listen-client-urls=http://127.0.0.1:4001" in command
    assert "--data-dir=/tmp/state/etcd" in command


def test_a_percent_sign_and_a_blank_in_a_path_survive_supervisors_own_quoting() -> None:
    settings = Settings(run_dir="/run/a b%c", log_dir="/var/log/100%")
    parser = read_back(settings)
    assert parser["program:launcher"]["stdout_logfile"] == "/var/log/100%/launcher.log"
    assert '"/run/a b%c"' in parser["program:userproxy"]["command"]
    assert str(config_path(settings)) in parser["supervisord"]["environment"]


def test_every_setting_can_be_written() -> None:
    other = {bool: False, int: 3, str: "word", tuple[str, ...]: ("one", "two")}
    settings = Settings(**{field.name: other[field.type] for field in msgspec.structs.fields(Settings)})
    assert set(tomllib.loads(config_text(settings))) == {field.name for field in msgspec.structs.fields(Settings)}
