from dispatcher.userlb import config
from tests.dispatcher.userlb import golden


def test_the_configuration_is_as_it_was_when_somebody_read_it() -> None:
    assert config.text(golden.POOL).splitlines() == golden.FILE.read_text().splitlines()
