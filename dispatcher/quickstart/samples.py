"""The two sites of the tour, created through the command line like anybody's."""

import subprocess
from pathlib import Path

from dispatcher.problems import EXIT_CODE, Code
from dispatcher.quickstart.programs import CHECKOUT

SAMPLES = CHECKOUT / "samples"

# name -> arguments of `fastcontainer app create NAME`
SAMPLE_APPS: dict[str, tuple[str, ...]] = {
    "hello": (
        "--domain=hello.localhost",
        "--run=python3 -SI /srv/hello/hello.py",
        f"--mount={SAMPLES}/hello:/srv/hello:ro",
        "--cpu=50%",
        "--memory=128M",
        "--idle=30s",
    ),
    "php": (
        "--domain=php.localhost",
        "--run=apache2 -f /srv/php/httpd.conf -D FOREGROUND",
        f"--mount={SAMPLES}/php:/srv/php:ro",
        "--cpu=100%",
        "--memory=512M",
        "--idle=30s",
    ),
}


def create_missing(venv_bin: Path, environment: dict[str, str]) -> list[str]:
    """Names of those that it made. Raises RuntimeError with what the command line said."""

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        command = (str(venv_bin / "fastcontainer"), "app", *words)
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    made = []
    for name, arguments in SAMPLE_APPS.items():
        done = ask("create", name, *arguments)
        if done.returncode == EXIT_CODE[Code.EXISTS]:
            # The checkout may have moved since; anything else is as its owner wants it.
            mount = next(word for word in arguments if word.startswith("--mount="))
            done = ask("edit", name, mount)
        else:
            made.append(name)
        if done.returncode != 0:
            raise RuntimeError(f"the sample site {name} could not be created: {(done.stderr or done.stdout).strip()}")
    return made
