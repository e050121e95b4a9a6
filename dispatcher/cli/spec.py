"""From flags, or from the JSON a person wrote, to an app's spec. Pure, but for the file that holds a maintenance page; a refusal
names field, value and rule."""

import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from dispatcher.cli.flags import Flags
from dispatcher.domain import AppSpec
from dispatcher.problems import Code, Problem
from dispatcher.units import parse_cpu, parse_duration, parse_rate, parse_size

_CONSTRAINT = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_TIMES = ("idle", "lifespan", "drain_grace", "stop_grace", "start_timeout", "response_timeout")
_AS_THEY_ARE = (
    "lifespan_jitter",
    "start",
    "image_at",
    "while_starting",
    "queue_max",
    "server_timing",
    "sticky",
    "wake_by_bots",
)


def new_spec(flags: Flags, cwd: str) -> AppSpec:
    if flags.run is None and not flags.image and not flags.definition:
        hint = 'such as --run "php -S 0.0.0.0:80 -t /srv/www"'
        raise Problem(Code.INVALID, "run: an app needs a command, or an image or a definition that has one", hint=hint)
    return _built({}, flags, cwd)


def changed_spec(
    old: AppSpec, flags: Flags, cwd: str, *, unmount: Iterable[str] = (), unset: Iterable[str] = ()
) -> AppSpec:
    """`unmount`: targets of mounts, `unset`: names of variables to drop."""
    values: dict[str, Any] = msgspec.to_builtins(old)
    values["mounts"] = list(values.get("mounts", ()))
    _drop(values["mounts"], unmount, lambda mount: str(mount["target"]), "mount")
    names = list(values.get("env", {}))
    _drop(names, unset, str, "env")
    values["env"] = {name: value for name, value in values.get("env", {}).items() if name in names}
    return _built(values, flags, cwd)


def parse_spec(text: str | bytes) -> AppSpec:
    try:
        values = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Problem(Code.INVALID, f"the spec is not JSON: {error}") from error
    return _converted(values)


def format_spec(spec: AppSpec) -> str:
    return msgspec.json.format(msgspec.json.encode(spec), indent=2).decode() + "\n"


def _drop[T](found: list[T], unwanted: Iterable[str], name: Callable[[T], str], field: str) -> None:
    for word in unwanted:
        kept = [each for each in found if name(each) != word]
        if len(kept) == len(found):
            have = ", ".join(name(each) for each in found) or "none"
            raise Problem(Code.INVALID, f"{field}: there is no {word!r} to remove", hint=f"there is: {have}")
        found[:] = kept


def _built(values: dict[str, Any], flags: Flags, cwd: str) -> AppSpec:
    if flags.run is not None:
        values["command"] = _parsed("run", shlex.split, flags.run)
    for field in ("image", "definition", "port", "workdir", "pids", "init", "outbound"):
        if (value := getattr(flags, field)) is not None:
            values[field] = value
    if flags.host_ports is not None:
        values["host_ports"] = _parsed("host_ports", parse_ports, flags.host_ports)
    if flags.bandwidth is not None:
        values["bandwidth_bps"] = _parsed("bandwidth", parse_rate, flags.bandwidth) if flags.bandwidth else None
    if flags.io is not None:
        values["io"] = _parsed("io", parse_io, flags.io)
    mounts = {mount["target"]: mount for mount in values.get("mounts", ())}
    mounts |= {mount["target"]: mount for mount in (parse_mount(word, cwd) for word in flags.mount or ())}
    values["mounts"] = list(mounts.values())
    values["env"] = values.get("env", {}) | dict(parse_env(word) for word in flags.env or ())
    if policy := values.pop("policy", {}) | _policy(flags):
        values["policy"] = policy
    if front := values.pop("front", {}) | _front(flags, cwd):
        values["front"] = front
    return _converted(values)


def _front(flags: Flags, cwd: str) -> dict[str, Any]:
    parsers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "hsts": ("hsts_s", lambda word: int(parse_duration(word))),
        "requests": ("requests_per_s", float),
        "client_requests": ("client_requests_per_s", float),
        "in_flight": ("in_flight_max", _count),
        "body_max": ("body_bytes_max", parse_size),
    }
    values: dict[str, Any] = {}
    for name, (field, parse) in parsers.items():
        if (word := getattr(flags, name)) is not None:
            values[field] = _parsed(name, parse, word) if word else None
    if flags.https is not None:
        values["https"] = flags.https
    if flags.maintenance_page is not None:
        values["maintenance_page"] = _page(flags.maintenance_page, cwd)
    if flags.static is not None:
        values["static"] = dict(parse_static(word) for word in flags.static if word)
    return values


def _page(word: str, cwd: str) -> str:
    if not word:
        return ""
    try:
        return Path(_absolute(word, cwd)).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(Code.INVALID, f"maintenance_page {word!r}: {error}", hint="a file of HTML in UTF-8") from error


def parse_static(word: str) -> tuple[str, str]:
    url, separator, path = word.partition("=")
    if not separator:
        hint = "such as /robots.txt=/srv/www/robots.txt or /assets/=/srv/www/assets/"
        raise Problem(Code.INVALID, f"static: {word!r} is not URL=PATH", hint=hint)
    return url, path


def parse_ports(word: str) -> list[int]:
    """Raises ValueError."""
    words = word.replace(",", " ").split()
    if wrong := [each for each in words if not (each.isascii() and each.isdigit())]:
        raise ValueError(f"{wrong[0]!r} is not a port number")
    return [int(each) for each in words]


_IO = {"read": "read_bps", "write": "write_bps", "reads": "read_iops", "writes": "write_iops"}


def parse_io(word: str) -> dict[str, int]:
    """Bytes (`read`, `write`) and operations a second. Raises ValueError."""
    values = {}
    for each in filter(None, word.replace(",", " ").split()):
        name, _, value = each.partition("=")
        if name not in _IO:
            raise ValueError(f"{each!r} is none of {', '.join(f'{known}=' for known in _IO)}")
        values[_IO[name]] = parse_size(value)
    return values


def _policy(flags: Flags) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in _TIMES:
        if (word := getattr(flags, name)) is not None:
            values[f"{name}_s"] = _parsed(name, parse_duration, word)
    for name in _AS_THEY_ARE:
        if (value := getattr(flags, name)) is not None:
            values[name] = value
    for name in ("health_path", "restore_signal"):
        if (word := getattr(flags, name)) is not None:
            values[name] = word or None
    if flags.concurrency is not None:
        values["concurrency"] = (
            None if flags.concurrency == "auto" else _parsed("concurrency", _count, flags.concurrency)
        )
    if flags.boot_cpu is not None:
        _parsed("boot_cpu", parse_cpu, flags.boot_cpu)
        values["boot_cpu"] = flags.boot_cpu
    return values


def parse_mount(word: str, cwd: str) -> dict[str, Any]:
    """`cwd` makes a relative source absolute."""
    source, _, rest = word.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target or mode not in ("", "ro", "rw"):
        raise Problem(Code.INVALID, f"mount: {word!r} is not SRC:DST or SRC:DST:ro", hint="such as ./www:/srv/www")
    return {"source": _absolute(source, cwd), "target": target, "readonly": mode == "ro"}


def _absolute(path: str, cwd: str) -> str:
    """Without `.` and `..`, by name alone: links are left as they are, for they may mean something else on another Compute."""
    parts: list[str] = []
    for part in (PurePosixPath(cwd) / path).parts[1:]:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/" + "/".join(parts)


def parse_env(word: str) -> tuple[str, str]:
    name, separator, value = word.partition("=")
    if not separator or not name:
        raise Problem(Code.INVALID, f"env: {word!r} is not NAME=VALUE")
    return name, value


def _count(word: str) -> int:
    if not word.isdigit():
        raise ValueError(f"{word!r} is not a whole number or auto")
    return int(word)


def _parsed[T](field: str, parse: Callable[[str], T], word: str) -> T:
    try:
        return parse(word)
    except ValueError as error:
        rule = str(error)
        raise Problem(Code.INVALID, f"{field}: {rule if repr(word) in rule else f'{word!r}: {rule}'}") from error


def _converted(values: Any) -> AppSpec:
    try:
        return msgspec.convert(values, AppSpec)
    except msgspec.ValidationError as error:
        match = _CONSTRAINT.fullmatch(str(error))
        if not match or not match[2]:
            raise Problem(Code.INVALID, f"the spec: {error}") from error
        rule, field = match[1], match[2]
        raise Problem(Code.INVALID, f"{field}{_value_at(values, field)}: {rule}") from error


def _value_at(values: Any, field: str) -> str:
    for name in field.removesuffix("[...]").split("."):
        if not isinstance(values, dict) or name not in values:
            return ""
        values = values[name]
    return f" {values!r}"
