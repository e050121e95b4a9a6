"""A runtime of a test's own."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.containerlib.test_runtime import Lab, real


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="fc-") as directory:
        os.chmod(directory, 0o755)  # noqa: PTH101
        async for lab in real(Path(directory)):
            yield lab
            for container in list(lab.made):
                await lab.destroy(container)
