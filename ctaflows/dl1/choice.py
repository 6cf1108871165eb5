"""Which tables of a file are wanted: by names and patterns. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The instrument's description, a few kB: without it the rest has no meaning to ctapipe.
ALWAYS_KEPT = "configuration"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tables are wanted.

    Attributes
    ----------
    tables, drop : tuple of str
        Names or shell patterns, compared with each part of a table's path, and with parts that
        follow each other (``telescope/parameters``); ``images`` also means ``image``, and the other
        way round. No ``tables`` means all; ``drop`` wins.
    """

    tables: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def wants(self, path: str) -> bool:
        """Is the table of this path to be copied?"""
        if hits(path, self.drop):
            return False
        return not self.tables or self.names(path) or path.strip("/").startswith(ALWAYS_KEPT + "/")

    def names(self, path: str) -> bool:
        """Is it asked for by name?"""
        return hits(path, self.tables)

    def __str__(self) -> str:
        words = [f"tables {', '.join(self.tables)}"] if self.tables else []
        words += [f"without {', '.join(self.drop)}"] if self.drop else []
        return ", ".join(words)


def hits(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of the patterns means this path, see `Choice`."""
    parts = path.strip("/").split("/")
    n = len(parts)
    names = {"/".join(parts[i:j]) for i in range(n) for j in range(i + 1, n + 1)}
    forms = {form for p in patterns for form in _forms(p.strip("/"))}
    return any(fnmatchcase(name, form) for name in names for form in forms)


def _forms(pattern: str) -> set[str]:
    singular = pattern.removesuffix("s")
    return {pattern, singular, singular + "s"} if singular else {pattern}
