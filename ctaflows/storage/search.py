"""Which entries are wanted: by name, kind, time and size. Pure."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ctaflows.errors import UsageError
from ctaflows.storage.paths import selected

if TYPE_CHECKING:
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
        """
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


_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*([smhdw])", re.ASCII)
_AGE_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, now: datetime) -> datetime:
    """Read a time or an age.

    Parameters
    ----------
    text : str
        ISO 8601, in UTC where no offset is given, such as ``2024-11-14`` or ``2024-11-14T03:00``;
        or how long ago: ``90s``, ``30m``, ``12h``, ``7d``, ``2w``.
    now : datetime
        What an age counts back from, aware.

    Returns
    -------
    datetime
        Aware, UTC.

    Raises
    ------
    UsageError
        It is neither.
    """
    text = text.strip()
    age = _AGE.fullmatch(text)
    try:
        if age:
            return now.astimezone(UTC) - timedelta(**{_AGE_UNITS[age[2]]: float(age[1])})
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"“{text}” is no time",
            hint="Write 2024-11-14, 2024-11-14T03:00 (UTC), or an age: 90s, 30m, 12h, 7d, 2w.",
        ) from None


_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(?:([kKMGTP])(i?))?B?", re.ASCII)


def parse_size(text: str) -> int:
    """Read a size in bytes.

    Parameters
    ----------
    text : str
        ``1000``, ``10k``, ``1.5GB`` (powers of 1000), ``64KiB``, ``1Gi`` (powers of 1024).

    Raises
    ------
    UsageError
        It is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"“{text}” is no size", hint="Write 1000, 10k, 1.5GB, 64KiB or 1Gi.")
    number, unit, is_binary = found.groups()
    power = " KMGTP".index(unit.upper()) if unit else 0
    factor: int = (1024 if is_binary else 1000) ** power
    return int(float(number) * factor) if "." in number else int(number) * factor
