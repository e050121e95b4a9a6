"""The command line of containerlib by itself: `python -m containerlib VERB`, or `fastcontainer container VERB`.

Imports what a command needs when it runs, as dispatcher's does.
"""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m containerlib") -> None:
    from containerlib.cli.root import run

    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments), program))
