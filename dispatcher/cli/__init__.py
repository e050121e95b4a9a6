"""`fastcontainer`: the command line. One function a verb; what it does is in dispatcher/coreapi (configuration) and in the agent.

Imports what a command needs when it runs: the message types of etcd alone cost more time than all the rest.
"""

import sys
from collections.abc import Sequence

# Long-lived processes: they replace or fill this one, and the parser of the other commands would only stay in memory.
_PROCESSES = ("launcher", "userproxy", "webdispatcher")


def main(arguments: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in _PROCESSES and "--help" not in words:
        from dispatcher.cli.processes import replace_by

        replace_by(words[0], words[1:])
    if words and words[0] == "container":
        from dispatcher.cli.container import hand_over

        hand_over(words[1:])
    from dispatcher.cli.root import run

    sys.exit(run(words))
