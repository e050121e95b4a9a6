"""CRIU's logs are thousands of lines; a person wants the two that say what was wrong. Pure, standard library only."""

import re

LINES_MAX = 6
# Follow from the first one, or are told of every process without CAP_SYS_RESOURCE, or when all is well.
_CONSEQUENCES = re.compile(
    r"(Dump|Restor)ing FAILED|get rlimit|setup RLIMIT_NOFILE|exited, status=|Unable to kill|cgroupd: recv|Unable to close fd 0"
)


def essence(log: str) -> str:
    """The first errors, without times and without those that follow from others; empty if there are none."""
    lines = [line for line in log.splitlines() if "Error (" in line or line.startswith("Error")]
    own = [line for line in lines if not _CONSEQUENCES.search(line)] or lines
    texts = [re.sub(r"^\([0-9.]+\)\s*|\s*\d+:\s*(?=Error)", "", line).strip() for line in own]
    return "; ".join(dict.fromkeys(re.sub(r"^Error \(\S+\):\s*", "", text) for text in texts[:LINES_MAX]))
