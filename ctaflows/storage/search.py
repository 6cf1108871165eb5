"""Search criteria for entries (name, kind, time, size), and disk usage by directory. Pure."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctaflows.model import Record
from ctaflows.storage.paths import selected

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ctaflows.model import Entry


@dataclass(frozen=True, slots=True)
class Criteria:
    """Criteria that an entry must meet, all of them.

    Attributes
    ----------
    names : tuple of str
        Shell patterns, case-sensitive; the entry's name must match one, unless there are none.
    include, exclude : tuple of str
        See `paths.selected`.
    kind : {"file", "directory", "link"} or None
        ``file``: files only, and symbolic links to files; ``directory``: directories only;
        ``link``: symbolic links only. None for all.
    newer_than, older_than : datetime or None
        Exclusive bounds of the time of the last modification, aware. Entries without a time do not
        meet them.
    min_size_bytes, max_size_bytes : int or None
        Inclusive bounds of the size. Entries without a size, such as directories, do not meet them.
    """

    names: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    kind: Literal["file", "directory", "link"] | None = None
    newer_than: datetime | None = None
    older_than: datetime | None = None
    min_size_bytes: int | None = None
    max_size_bytes: int | None = None

    def accept(self, entry: Entry, below: str) -> bool:
        """Return whether an entry meets the criteria.

        Parameters
        ----------
        entry : Entry
            A file or directory.
        below : str
            Its path relative to the directory that is searched.

        Notes
        -----
        For an entry that the storage names without describing it (``error`` is set) only `exclude`
        counts: it may be what is searched for, or a directory that contains it.
        """
        if entry.error is not None:
            return selected(below, (), self.exclude)
        return (
            (self.kind is None or self._has_kind(entry))
            and (not self.names or any(fnmatch.fnmatchcase(entry.name, p) for p in self.names))
            and selected(below, self.include, self.exclude)
            and self._has_time(entry.mtime)
            and self._has_size(entry.size_bytes)
        )

    def _has_kind(self, entry: Entry) -> bool:
        return self.kind == entry.kind or (self.kind == "link" and entry.link is not None)

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
# Sums of sizes and numbers of files, for each directory.


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """The disk usage of a directory with all its sub-directories.

    Attributes
    ----------
    path : str
        Path of the directory, or of a file where that was asked for.
    size_bytes : int
        Sum of the known sizes.
    n_files, n_dirs : int
        Number of files, and of directories without itself.
    n_unknown : int
        Number of files without a known size, such as those that are being uploaded.
    """

    path: str
    size_bytes: int = 0
    n_files: int = 0
    n_dirs: int = 0
    n_unknown: int = 0


class Tally:
    """Adds up entries by directory; its memory grows with the directories, not with the files.

    Parameters
    ----------
    root : str
        Normalised path of the directory, or file, whose usage is computed.
    depth : int, optional
        Levels of directories below it with sums of their own; None means all, 0 only the root.
    """

    def __init__(self, root: str, depth: int | None = None) -> None:
        self._root = root
        self._base = root.rstrip("/") + "/"
        self._depth = depth
        # by the parts of the relative path: bytes, files, directories, files of unknown size
        self._sums: dict[tuple[str, ...], list[int]] = {(): [0, 0, 0, 0]}

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries, in any order, each once; links that lead to no file do not count."""
        for entry in entries:
            if entry.link is not None and entry.kind == "link":  # it has no size of its own
                continue
            parts = tuple(entry.path.removeprefix(self._base).split("/"))
            if entry.is_dir:
                self._of(parts[: self._depth])
            sums = self._of(() if entry.path == self._root else parts[:-1][: self._depth])
            sums[0] += entry.size_bytes or 0
            sums[1] += not entry.is_dir
            sums[2] += entry.is_dir
            sums[3] += not entry.is_dir and entry.size_bytes is None

    def _of(self, parts: tuple[str, ...]) -> list[int]:
        """Return a directory's own sums; they, and those of its parents, begin with zeros."""
        if parts not in self._sums:
            self._of(parts[:-1])
            self._sums[parts] = [0, 0, 0, 0]
        return self._sums[parts]

    def usages(self) -> list[Usage]:
        """Return the usage of each directory, sub-directories before their parent."""
        sums = {parts: list(own) for parts, own in self._sums.items()}
        for parts in sorted(sums, key=len, reverse=True):
            if parts:
                sums[parts[:-1]] = [
                    a + b for a, b in zip(sums[parts[:-1]], sums[parts], strict=True)
                ]
        # a directory comes after its sub-directories: no name has this character, the last of all
        ordered = sorted(sums, key=lambda parts: (*parts, "\U0010ffff"))
        return [Usage(self._base + "/".join(p) if p else self._root, *sums[p]) for p in ordered]
