"""Load by wrk: its own report in JSON, through a script of its (load.lua)."""

import json
import math
import signal
import subprocess
from pathlib import Path

import msgspec

WRK = "/usr/bin/wrk"
SCRIPT = Path(__file__).with_name("load.lua")
CONNECTIONS, THREADS = 8, 2
PATIENCE_S = 30.0


class Load(msgspec.Struct, frozen=True):
    """Closed loop: each connection asks again as soon as it was answered."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    n: int


def load(url: str, host: str, seconds: float, *, closes: bool = False) -> Load:
    """`closes`: the server ends each answer by closing, which wrk counts as an error of reading though the answer is whole.

    Raises RuntimeError if anything but 2xx and 3xx came back, or a connection broke.
    """
    return parse_load(run(url, host, seconds), closes=closes)


def run(url: str, host: str, seconds: float) -> str:
    """What wrk prints. It knows whole seconds only, but ends in order when it is interrupted."""
    words = (
        WRK, f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{math.ceil(seconds) + 1}s", "-s", str(SCRIPT), "-H", f"Host: {host}", url,
    )  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE_S)
    return output


def parse_load(output: str, *, closes: bool = False) -> Load:
    """Pure: the last line is the script's."""
    told = json.loads(output.strip().splitlines()[-1])
    failed = told["failed"] + (0 if closes else told["broken"])
    if failed or not told["requests"]:
        raise RuntimeError(f"of {told['requests']} requests {failed} failed: {output.strip()[:1000]}")
    seconds = told["duration_us"] / 1e6
    return Load(
        round(told["requests"] / seconds, 1), told["p50_us"] / 1000, told["p99_us"] / 1000, int(told["requests"])
    )
