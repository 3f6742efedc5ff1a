"""Counts, sizes, shares, times and names in words, for people."""

from collections.abc import Sequence
from datetime import UTC, datetime


def counted(n: int, thing: str) -> str:
    """Such as "1 shard", "2 shards", "3 classes"."""
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{n:,} {thing if n == 1 else plural}"


def size_text(n_bytes: float) -> str:
    """Such as "17.5 MB", in powers of a thousand."""
    size, unit = float(n_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:,.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def share_text(fraction: float) -> str:
    """Such as "12.5%"; "<0.1%" for what is more than nothing and would be rounded to it."""
    return "<0.1%" if 0 < fraction < 0.0005 else f"{fraction:.1%}"


def few(names: Sequence[str], n_shown: int = 3) -> str:
    """The first of them, such as "a, b, c and 4 more"."""
    more = f" and {len(names) - n_shown:,} more" if len(names) > n_shown else ""
    return ", ".join(names[:n_shown]) + more


def time_text(time: datetime) -> str:
    """Such as "2026-05-01 12:00:00 UTC"."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration_text(seconds: float) -> str:
    """Such as "2 d 3 h", "1 h 5 min", "40 s": the two largest units."""
    whole = round(seconds)
    parts = [("d", whole // 86_400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60)]
    while len(parts) > 1 and parts[0][1] == 0:
        parts.pop(0)
    return " ".join(f"{n} {name}" for name, n in parts[:2] if n or name == parts[0][0])
