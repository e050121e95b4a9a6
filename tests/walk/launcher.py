"""The real launcher, watched: it or a blank of its making halts at the step that it is told to.

python -SI tests/walk/launcher.py SOCKET STAGE FILE
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from containerlib import launcher
from tests.walk.steps import LAUNCHER, Steps

if __name__ == "__main__":
    steps = Steps(sys.argv.pop())
    steps.watch(LAUNCHER)
    launcher.main()
