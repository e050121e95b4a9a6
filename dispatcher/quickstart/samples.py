"""The two sites of the tour, created through the command line like anybody's."""

import subprocess
from pathlib import Path

from dispatcher.problems import EXIT_CODE, Code

SAMPLES = Path(__file__).parents[2] / "samples"

# name -> arguments of `fastcontainer app create NAME`
SAMPLE_APPS: dict[str, tuple[str, ...]] = {
    "hello": (
        "--domain=hello.localhost",
        "--run=python3 -SI /srv/hello/hello.py",
        f"--mount={SAMPLES}/hello:/srv/hello:ro",
        "--cpu=50%",
        "--memory=128M",
    ),
    "php": (
        "--domain=php.localhost",
        "--run=apache2 -f /srv/php/httpd.conf -D FOREGROUND",
        f"--mount={SAMPLES}/php:/srv/php:ro",
        "--cpu=100%",
        "--memory=512M",
    ),
}


def create_missing(venv_bin: Path, environment: dict[str, str]) -> list[str]:
    """Names of those that it made. Raises RuntimeError with what the command line said."""
    made = []
    for name, arguments in SAMPLE_APPS.items():
        command = (str(venv_bin / "fastcontainer"), "app", "create", name, *arguments)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode == EXIT_CODE[Code.EXISTS]:
            continue
        if done.returncode != 0:
            raise RuntimeError(f"the sample site {name} could not be created: {(done.stderr or done.stdout).strip()}")
        made.append(name)
    return made
