"""The words for CPU, memory and time are containerlib's: a definition and an app's keys are written in the same ones. Pure.

Here so that this module alone leans on containerlib, and the others, which proxies import, do not.
"""

from containerlib.units import (
    CPU_MAX,
    CPU_MIN,
    MEMORY_MIN,
    format_cpu,
    format_duration,
    format_memory,
    parse_cpu,
    parse_duration,
    parse_memory,
    parse_rate,
    parse_size,
)

__all__ = [
    "CPU_MAX",
    "CPU_MIN",
    "MEMORY_MIN",
    "format_cpu",
    "format_duration",
    "format_memory",
    "parse_cpu",
    "parse_duration",
    "parse_memory",
    "parse_rate",
    "parse_size",
]
