"""The real agent, watched, with a reserve of one blank, made alone: so what is at rest can be counted, and the
first to come to a step is the oldest."""

from pathlib import Path

from dispatcher.compute import daemon, pool
from dispatcher.settings import Settings
from tests.plugins.compute import run_agent
from tests.walk.steps import AGENT, Steps


def run_watched(file: str, settings: Settings, log: Path) -> None:
    pool.CEILING = pool.AT_ONCE = 1
    pool.RETRY_S = daemon.LAUNCHER_RETRY_S = 0.01
    Steps(file).watch(AGENT)
    run_agent(settings, log)
