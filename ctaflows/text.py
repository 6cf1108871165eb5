"""Sizes and lists as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def shortened(items: Iterable[str], most: int = 8) -> str:
    """Return the first `most` items, separated by commas, and the number of the others."""
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def human_bytes(n_bytes: float) -> str:
    """Return a size with its unit: powers of 1000, three digits, such as ``1.23 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 999.5 or unit == "TB":
            break
        n_bytes /= 1000
    is_whole = unit == "B" or n_bytes >= 999.5
    return f"{n_bytes:.0f} {unit}" if is_whole else f"{n_bytes:.3g} {unit}"
