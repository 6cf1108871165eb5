"""Numbers and lists as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def shortened(items: Iterable[str], most: int = 8) -> str:
    """Name the first few of many."""
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def human_bytes(n_bytes: float) -> str:
    """Write a size for people: powers of 1000, three digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 999.5 or unit == "TB":
            break
        n_bytes /= 1000
    is_whole = unit == "B" or n_bytes >= 999.5
    return f"{n_bytes:.0f} {unit}" if is_whole else f"{n_bytes:.3g} {unit}"
