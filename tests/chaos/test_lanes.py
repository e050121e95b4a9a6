"""A short one of the soak; `python -m tests.chaos.soak` is the long one."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.soak import soak

pytestmark = pytest.mark.chaos


async def test_10000_names_on_200_lanes_while_sites_come_and_go(new_etcd) -> None:
    directory = Path(tempfile.mkdtemp(prefix="fc-soak-"))  # short: a socket's path has 108 characters
    try:
        found = await soak(6.0, directory, new_etcd())
    finally:
        shutil.rmtree(directory)
    print(found)
    assert found["in_lanes"] > 200 and found["drained"] > 5 and found["died"] > 1 and found["renamed"] > 10
