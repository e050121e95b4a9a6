"""Tests of this directory run in the machine only: `python -m tests.vm`."""

from tests.containerlib.conftest import box, images  # noqa: F401 - fixtures
from tests.vm import machine

collect_ignore_glob = [] if machine.is_inside() else ["*"]
