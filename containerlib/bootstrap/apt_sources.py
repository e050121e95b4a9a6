"""The host's own apt sources, as far as they are for one suite. Both formats are read; pure but for `of_host`."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

Stanza = dict[str, str]

_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?:\s+(?P<components>[^#]*))?"
)
_OPTIONS = {
    "arch": "Architectures",
    "signed-by": "Signed-By",
    "trusted": "Trusted",
    "check-valid-until": "Check-Valid-Until",
}


def of_host(suite: str, etc_apt: Path = Path("/etc/apt")) -> str:
    """Text for a *.sources file. Raises LookupError if there is none for the suite, OSError."""
    lists = sorted((etc_apt / "sources.list.d").glob("*"))
    texts = {str(path): path.read_text() for path in (etc_apt / "sources.list", *lists) if path.is_file()}
    found = for_suite(texts, suite)
    if not found:
        raise LookupError(f"suite {suite!r} is not in this host's apt sources ({etc_apt}): name a mirror that has it")
    return found


def for_suite(texts: Mapping[str, str], suite: str) -> str:
    """`texts` by file name. The suite itself, its updates and its security updates; empty if there is nothing."""
    wanted = (suite, f"{suite}-updates", f"{suite}-security", f"{suite}/updates")
    kept = []
    for name, text in texts.items():
        for stanza in _deb822(text) if name.endswith(".sources") else _one_line(text) if name.endswith(".list") else ():
            suites = [each for each in stanza.get("Suites", "").split() if each in wanted]
            is_used = stanza.get("Enabled", "yes").lower() != "no" and "deb" in stanza.get("Types", "").split()
            if suites and is_used:
                kept.append({**stanza, "Types": "deb", "Suites": " ".join(suites)})
    return "\n".join("".join(f"{key}: {value}\n" for key, value in stanza.items()) for stanza in kept)


def _one_line(text: str) -> Iterator[Stanza]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match is None:
            continue
        stanza = {"Types": "deb", "URIs": match["uri"], "Suites": match["suite"]}
        if components := (match["components"] or "").strip():
            stanza["Components"] = components
        for option in (match["options"] or "").split():
            key, _, value = option.partition("=")
            if key.lower() in _OPTIONS:
                stanza[_OPTIONS[key.lower()]] = value.replace(",", " ")
        yield stanza


def _deb822(text: str) -> Iterator[Stanza]:
    """A value may go on in lines that begin with a space (a whole key does), with comments between."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block in re.split(r"\n[ \t]*\n", "\n".join(lines)):
        stanza: Stanza = {}
        key = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t") and key:
                stanza[key] += f"\n{line}"
            elif ":" in line:
                key, _, value = line.partition(":")
                key = next((known for known in _NAMES if known.lower() == key.strip().lower()), key.strip())
                stanza[key] = value.strip()
        if stanza:
            yield stanza


_NAMES = ("Types", "URIs", "Suites", "Components", "Enabled", *_OPTIONS.values())
