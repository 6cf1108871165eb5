"""Which entries are wanted: by name, kind, time and size. Pure."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctaflows.model import Record
from ctaflows.storage.paths import selected

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ctaflows.model import Entry


@dataclass(frozen=True, slots=True)
class Criteria:
    """What an entry must fulfil; all of it.

    Attributes
    ----------
    names : tuple of str
        Shell patterns of which the name itself must fit one; none means all names.
    include, exclude : tuple of str
        See `paths.selected`.
    is_dir : bool or None
        Directories or files only.
    newer_than, older_than : datetime or None
        Bounds of the last change, aware, not included. What has no time does not fulfil them.
    min_size_bytes, max_size_bytes : int or None
        Bounds of the size, included. What has no size does not fulfil them, such as a directory.
    """

    names: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    is_dir: bool | None = None
    newer_than: datetime | None = None
    older_than: datetime | None = None
    min_size_bytes: int | None = None
    max_size_bytes: int | None = None

    def accept(self, entry: Entry, below: str) -> bool:
        """Tell whether an entry is wanted.

        Parameters
        ----------
        entry : Entry
            A file or directory.
        below : str
            Its path below the directory that is searched.

        Notes
        -----
        An entry that the storage names without describing it may be what is wanted, or a directory
        that holds it, so that only ``exclude`` counts.
        """
        if entry.error is not None:
            return selected(below, (), self.exclude)
        return (
            (self.is_dir is None or entry.is_dir == self.is_dir)
            and (not self.names or any(fnmatch.fnmatchcase(entry.name, p) for p in self.names))
            and selected(below, self.include, self.exclude)
            and self._has_time(entry.mtime)
            and self._has_size(entry.size_bytes)
        )

    def _has_time(self, mtime: datetime | None) -> bool:
        if self.newer_than is None and self.older_than is None:
            return True
        return (
            mtime is not None
            and (self.newer_than is None or mtime > self.newer_than)
            and (self.older_than is None or mtime < self.older_than)
        )

    def _has_size(self, size_bytes: int | None) -> bool:
        if self.min_size_bytes is None and self.max_size_bytes is None:
            return True
        return (
            size_bytes is not None
            and (self.min_size_bytes is None or size_bytes >= self.min_size_bytes)
            and (self.max_size_bytes is None or size_bytes <= self.max_size_bytes)
        )


# -- disk usage ------------------------------------------------------------------------------------
#
# How much is where: bytes and numbers of files, added up for each directory. Pure.


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """What lies below a directory, in all its sub-directories.

    Attributes
    ----------
    path : str
        The directory (or the file that was asked for).
    size_bytes : int
        Sum of the sizes that are known.
    n_files, n_dirs : int
        Files, and directories without itself.
    n_unknown : int
        Files whose size is not known, such as those that are being uploaded.
    """

    path: str
    size_bytes: int = 0
    n_files: int = 0
    n_dirs: int = 0
    n_unknown: int = 0


class Tally:
    """Adds up entries; it grows with the directories that are told apart, not with the files.

    Parameters
    ----------
    root : str
        Normalised path of what is counted.
    depth : int, optional
        Levels of directories below it that are told apart; None means all, 0 only itself.
    """

    def __init__(self, root: str, depth: int | None = None) -> None:
        self._root = root
        self._base = root.rstrip("/") + "/"
        self._depth = depth
        #: parts of the path below the root to size, files, directories, files of unknown size
        self._sums: dict[tuple[str, ...], list[int]] = {(): [0, 0, 0, 0]}

    def add(self, entries: Iterable[Entry]) -> None:
        """Count entries, each once."""
        for entry in entries:
            parts = tuple(entry.path.removeprefix(self._base).split("/"))
            if entry.is_dir:
                self._of(parts[: self._depth])
            sums = self._of(() if entry.path == self._root else parts[:-1][: self._depth])
            sums[0] += entry.size_bytes or 0
            sums[1] += not entry.is_dir
            sums[2] += entry.is_dir
            sums[3] += not entry.is_dir and entry.size_bytes is None

    def _of(self, parts: tuple[str, ...]) -> list[int]:
        """Give the sums of a directory alone; those above it are there then, too."""
        if parts not in self._sums:
            self._of(parts[:-1])
            self._sums[parts] = [0, 0, 0, 0]
        return self._sums[parts]

    def usages(self) -> list[Usage]:
        """Give each directory with all that is below it: sub-directories first, the root last."""
        sums = {parts: list(own) for parts, own in self._sums.items()}
        for parts in sorted(sums, key=len, reverse=True):
            if parts:
                sums[parts[:-1]] = [
                    a + b for a, b in zip(sums[parts[:-1]], sums[parts], strict=True)
                ]
        # a character that no name holds, and that comes after all that one may hold
        in_turn = sorted(sums, key=lambda parts: (*parts, "\U0010ffff"))
        return [Usage(self._base + "/".join(p) if p else self._root, *sums[p]) for p in in_turn]
