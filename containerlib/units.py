"""The plain words people write for CPU, memory and time, and the figures they stand for.

    parse_cpu("60%") == 0.6          parse_memory("256M") == 268435456          parse_duration("1h30m") == 5400.0
    parse_rate("10Mbit") == 10_000_000

Every parse function raises ValueError with the value and the rule; the caller adds the key or field that held it.
"""

import re

_CPU = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)
_MEMORY = re.compile(r"(\d+)([KMGT]?)", re.ASCII)
_RATE = re.compile(r"(\d+)([KMGT]?)bit", re.ASCII)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

CPU_MIN, CPU_MAX = 0.01, 512.0
MEMORY_MIN = 4 << 20


def parse_cpu(word: str) -> float:
    """Cores: "60%" is 0.6 of one core, "250%" two and a half. From 1% to 51200%."""
    match = _CPU.fullmatch(word.strip())
    if not match or not CPU_MIN <= float(match[1]) / 100 <= CPU_MAX:
        raise ValueError(f"{word!r} is not a share of one core such as 60% (from 1% to {CPU_MAX * 100:.0f}%)")
    return float(match[1]) / 100


def format_cpu(cores: float) -> str:
    return f"{cores * 100:g}%"


def parse_memory(word: str) -> int:
    """Bytes: "256M", "1G", or a bare number of bytes. At least 4M, the least that any program here starts in."""
    match = _MEMORY.fullmatch(word.strip())
    if not match or int(match[1]) * _FACTORS[match[2]] < MEMORY_MIN:
        raise ValueError(f"{word!r} is not an amount of memory such as 256M (suffix K, M, G or T; at least 4M)")
    return int(match[1]) * _FACTORS[match[2]]


def parse_size(word: str) -> int:
    """Bytes of anything else: "64K", "0"."""
    match = _MEMORY.fullmatch(word.strip())
    if not match:
        raise ValueError(f"{word!r} is not a number of bytes such as 64K (suffix K, M, G or T)")
    return int(match[1]) * _FACTORS[match[2]]


def parse_rate(word: str) -> int:
    """Bits a second, in thousands as networks count: "10Mbit"."""
    match = _RATE.fullmatch(word.strip())
    if not match:
        raise ValueError(f"{word!r} is not a rate such as 10Mbit (prefix K, M, G or T)")
    return int(match[1]) * _DECIMAL[match[2]]


def format_rate(bps: int) -> str:
    for prefix in "TGMK":
        if bps >= _DECIMAL[prefix] and bps % _DECIMAL[prefix] == 0:
            return f"{bps // _DECIMAL[prefix]}{prefix}bit"
    return f"{bps}bit"


def format_memory(amount_bytes: int) -> str:
    for suffix in "TGMK":
        if amount_bytes >= _FACTORS[suffix] and amount_bytes % _FACTORS[suffix] == 0:
            return f"{amount_bytes // _FACTORS[suffix]}{suffix}"
    return str(amount_bytes)


def parse_duration(word: str) -> float:
    """Seconds: "90s", "15m", "1h30m", "2d", "0.5s"."""
    match = _DURATION.fullmatch(word.strip())
    if not match or not any(match.groups()):
        raise ValueError(f"{word!r} is not a length of time such as 90s, 15m, 1h30m or 2d")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g}s"
    parts, rest = [], round(seconds)
    for suffix, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{suffix}")
    return "".join(parts)
