"""`python -m tests.vm [ARGUMENT of pytest ...]`: the tests that matter there, or those that are named, on the second kernel."""

import os
import signal
import sys

from tests.vm import guest, machine, selection


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("the second kernel needs root: it is given the host's whole root to read")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the machine is put away
    command = (sys.executable, "-m", "pytest", *selection.OPTIONS, *selection.words(sys.argv[1:]))
    try:
        outcome = machine.run(guest.prepare(), command, limit_s=selection.WHOLE_S, on_output=_show)
    except (guest.NotAvailable, machine.MachineFailed) as error:
        sys.exit(f"tests.vm: {error}")
    print(f"{outcome.kernel}: booted in {outcome.boot_s:.0f} s, {outcome.total_s:.0f} s in all")
    sys.exit(outcome.status)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
