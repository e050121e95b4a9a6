"""Files that are there whole or not at all, whoever reads them when; and what is said where there is no room for one.

write_whole(path, data, mode=0o644)          # raises OSError that names the path, and says what to do where its disk is full
raise no_room(error, directory) from error   # of what somebody else began to write there
"""

import errno
import os
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Nothing is left of what could not be written to its end."""
    fresh = path.with_suffix(".new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
            file.write(data)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise no_room(error, path) from error


def no_room(error: OSError, path: Path) -> OSError:
    """What a write says of itself has no name in it. Anything else than a full disk is left as it is."""
    if error.errno not in _FULL:
        return error
    return OSError(error.errno, f"{os.strerror(error.errno)}: make room on its file system, then try again", str(path))
