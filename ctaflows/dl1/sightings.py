"""What was seen of a night's files at earlier looks, and is remembered for the next one. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from ctaflows.model import utc_text, utc_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ctaflows.model import Entry

_FORMAT = {"format": 1}
#: So many looks must show a file alike.
_LOOKS = 2


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of one file at the door.

    Attributes
    ----------
    size_bytes, mtime, etag
        As the door told them at the last look.
    since : datetime
        The first look at which it was like this.
    n_looks : int
        At how many looks it was like this.
    is_done : bool
        Has it been dealt with, as it is?
    """

    size_bytes: int | None
    mtime: datetime | None
    etag: str | None
    since: datetime
    n_looks: int = 1
    is_done: bool = False

    @property
    def changed_at(self) -> datetime:
        """The last change; a door whose clock is ahead is not believed."""
        return self.since if self.mtime is None else min(self.mtime, self.since)

    def is_of(self, entry: Entry) -> bool:
        """Is the file still as it was?"""
        then = (self.size_bytes, self.mtime, self.etag)
        return then == (entry.size_bytes, entry.mtime, entry.etag)

    def is_complete(self, now: datetime, settle_s: float) -> bool:
        """Is the file no longer written to?

        Its size was the same at two looks, and its last change is ``settle_s`` seconds ago. A file
        without a size is still being uploaded.
        """
        is_old = (now - self.changed_at).total_seconds() >= settle_s
        return self.size_bytes is not None and self.n_looks >= _LOOKS and is_old

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON-ready values."""
        return {
            "size_bytes": self.size_bytes,
            "mtime": utc_text(self.mtime),
            "etag": self.etag,
            "since": utc_text(self.since),
            "n_looks": self.n_looks,
            "is_done": self.is_done,
        }

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Make it from what `to_dict` gave.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            The values are not of that kind.
        """
        size, etag, n_looks = values["size_bytes"], values["etag"], values["n_looks"]
        since = utc_time(values["since"])
        if since is None or not (etag is None or isinstance(etag, str)):
            raise ValueError("no sighting")
        return cls(
            size_bytes=None if size is None else _whole(size),
            mtime=utc_time(values["mtime"]),
            etag=etag,
            since=since,
            n_looks=_whole(n_looks),
            is_done=values["is_done"] is True,
        )


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("no number of things")
    return value


@dataclass(frozen=True)
class Memory:
    """What all looks at a night have shown so far.

    Attributes
    ----------
    sightings : mapping of str to Sighting
        Path at the door to what was seen of the file. A file that is not shown any more keeps its
        last sighting: a door may show a directory that it can't read as an empty one.
    """

    sightings: Mapping[str, Sighting] = field(default_factory=dict)

    def after(self, entries: Iterable[Entry], now: datetime) -> Memory:
        """Take in one look at the night."""
        seen = dict(self.sightings)
        for entry in entries:
            known = seen.get(entry.path)
            if known is not None and known.is_of(entry):
                seen[entry.path] = replace(known, n_looks=known.n_looks + 1)
            else:
                seen[entry.path] = Sighting(entry.size_bytes, entry.mtime, entry.etag, now)
        return Memory(seen)

    def having_done(self, paths: Iterable[str]) -> Memory:
        """Take in that files were dealt with, as they were at the last look that showed them."""
        done = {path: replace(self.sightings[path], is_done=True) for path in paths}
        return Memory({**self.sightings, **done})

    def to_text(self) -> str:
        """Write all of it down: a line that names the format, and one for each file."""
        return json.dumps(_FORMAT) + "\n" + self.lines(self.sightings)

    def lines(self, paths: Iterable[str]) -> str:
        """Write down what is known of some files, to be put after an earlier text."""
        return "".join(
            json.dumps({"path": path, **self.sightings[path].to_dict()}) + "\n" for path in paths
        )

    @classmethod
    def from_text(cls, text: str) -> tuple[Self, bool]:
        """Read what was written down, and say whether all of it could be read.

        The last line of a file counts. What is damaged is forgotten: such a file is looked at as
        if it were new.
        """
        first, *lines = text.split("\n")
        if first != json.dumps(_FORMAT):
            return cls(), False
        is_whole = bool(lines) and not lines[-1]
        seen: dict[str, Sighting] = {}
        for line in filter(None, lines):
            try:
                values = json.loads(line)
                path, about = values["path"], Sighting.from_dict(values)
                if not isinstance(path, str):
                    raise TypeError("no path")
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                is_whole = False
            else:
                seen[path] = about
        return cls(seen), is_whole
