"""Computes of tests' own: networks, control groups and directories that no other installation on this machine has."""

import itertools
import os

_networks = itertools.count(os.getpid() * 7)


def free_network() -> str:
    """A /24 of shared address space (RFC 6598) above what settings.network and its neighbours take."""
    number = next(_networks) % (28 * 256)
    return f"100.{100 + number // 256}.{number % 256}.0/24"
