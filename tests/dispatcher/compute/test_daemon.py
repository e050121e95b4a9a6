"""What keeps two agents apart. The agent as a whole is run in tests/system."""

import os
from pathlib import Path

import pytest

from dispatcher.compute import daemon
from dispatcher.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(compute="here", run_dir=str(tmp_path / "run"))


def test_a_second_agent_is_refused_and_told_why(settings: Settings) -> None:
    with (
        daemon._alone(settings),
        pytest.raises(BlockingIOError, match="an agent runs in"),
        daemon._alone(settings),
    ):
        pass


def test_nothing_is_cleaned_while_an_agent_runs(settings: Settings) -> None:
    with daemon._alone(settings), pytest.raises(BlockingIOError, match=r"agent\.lock"):
        daemon.clean(settings)


def test_a_dead_agent_holds_nothing(settings: Settings) -> None:
    child = os.fork()
    if child == 0:
        with daemon._alone(settings):
            os._exit(0)
    os.waitpid(child, 0)
    with daemon._alone(settings):
        pass


def test_cleaning_where_nothing_ever_ran_is_no_error(settings: Settings) -> None:
    assert daemon.clean(settings) == []
