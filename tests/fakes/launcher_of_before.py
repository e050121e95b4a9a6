"""A launcher of other code than the files have: `python -SI .../launcher_of_before.py SOCKET STAGE`. What it begins anew as is the
real one."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from containerlib import code, launcher

if __name__ == "__main__":
    code.checksum = lambda: 1
    sys.argv[0] = launcher.__file__
    launcher.main()
