"""What operations return: frozen, typed records that turn into JSON and back.

Keys in JSON are stable and snake_case; a unit is in the key (`size_bytes`, `seconds`).
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

#: A path here, in any of its forms.
StrPath = str | os.PathLike[str]


def utc_text(moment: datetime | None) -> str | None:
    """Write an aware time as ISO 8601 in UTC with a trailing Z, or None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def utc_time(text: str | None) -> datetime | None:
    """Read what `utc_text` wrote."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


@dataclass(frozen=True, slots=True, order=True)
class Checksum:
    """One checksum of a whole file.

    Attributes
    ----------
    algorithm : str
        ``adler32``, ``md5``, ``sha256`` …, in lower case.
    value : str
        Hexadecimal digits in lower case, adler32 padded to 8 (a door may leave leading zeros out).
    """

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote, ``algorithm:value``."""
        algorithm, _, value = text.partition(":")
        return cls(algorithm, value)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory at a storage.

    Attributes
    ----------
    path : str
        Decoded path from the door's root, with a leading and without a trailing slash.
    is_dir : bool
        Is it a directory?
    size_bytes : int or None
        None for directories, and for a file that is still being uploaded.
    mtime : datetime or None
        Last change, aware, UTC.
    checksums : tuple of Checksum
        What the storage holds; empty where it tells none.
    locality : str or None
        ``ONLINE``, ``NEARLINE``, ``ONLINE_AND_NEARLINE``, ``LOST``, ``NONE``, ``UNAVAILABLE``.
    etag : str or None
        Changes whenever the file is written again.
    error : str or None
        What the storage said in place of a description, such as ``403 Forbidden``: the entry is
        there, and nothing else is known of it, not even whether it is a directory (RFC 4918
        §14.24). None where it is described.
    """

    path: str
    is_dir: bool = False
    size_bytes: int | None = None
    mtime: datetime | None = None
    checksums: tuple[Checksum, ...] = ()
    locality: str | None = None
    etag: str | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """Last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> str:
        """Path of the directory that holds this entry."""
        return posixpath.dirname(self.path)

    def __str__(self) -> str:
        return self.path

    def to_dict(self) -> dict[str, Any]:
        """Give the entry as JSON-ready values; ``error`` only where there is one."""
        kind = "directory" if self.is_dir else "file"
        values = {
            "path": self.path,
            "type": kind if self.error is None else "unknown",
            "size_bytes": self.size_bytes,
            "mtime": utc_text(self.mtime),
            "checksums": {c.algorithm: c.value for c in self.checksums},
            "locality": self.locality,
            "etag": self.etag,
        }
        return values if self.error is None else {**values, "error": self.error}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make an entry from what `to_dict` gave."""
        return cls(
            path=values["path"],
            is_dir=values["type"] == "directory",
            size_bytes=values["size_bytes"],
            mtime=utc_time(values["mtime"]),
            checksums=tuple(Checksum(a, v) for a, v in values["checksums"].items()),
            locality=values.get("locality"),
            etag=values.get("etag"),
            error=values.get("error"),
        )


@dataclass(frozen=True, slots=True)
class Transfer:
    """The proof of one file: what was moved, and how we know that it is whole.

    Attributes
    ----------
    path : str
        Path at the door.
    local : str
        Path here.
    size_bytes : int or None
        Size of the whole file.
    moved_bytes : int
        Bytes that went over the network this time; 0 when the file was there already.
    seconds : float
        Time spent on it.
    checksum : Checksum or None
        The storage's checksum that the bytes were compared with; without one, our own sha256.
    verified : bool
        True only when the whole file agrees with a checksum that the storage holds.
    skipped : bool
        True when the file was here already and proven.
    retries : int
        How often a request had to be repeated.
    resumed_bytes : int
        Bytes that an earlier, interrupted try had left and that were kept.
    mtime : datetime or None
        The source's time of last change.
    server : str or None
        What the server calls itself.
    note : str or None
        Why the file is unverified, or another remark.
    error : str or None
        None on success, else ``ErrorClass: message``.
    """

    path: str
    local: str
    size_bytes: int | None = None
    moved_bytes: int = 0
    seconds: float = 0.0
    checksum: Checksum | None = None
    verified: bool = False
    skipped: bool = False
    retries: int = 0
    resumed_bytes: int = 0
    mtime: datetime | None = None
    server: str | None = None
    note: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Is the file in place?"""
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """Give the transfer as JSON-ready values."""
        return {
            "path": self.path,
            "local": self.local,
            "size_bytes": self.size_bytes,
            "moved_bytes": self.moved_bytes,
            "seconds": round(self.seconds, 3),
            "checksum": str(self.checksum) if self.checksum else None,
            "verified": self.verified,
            "skipped": self.skipped,
            "retries": self.retries,
            "resumed_bytes": self.resumed_bytes,
            "mtime": utc_text(self.mtime),
            "server": self.server,
            "note": self.note,
            "error": self.error,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a transfer from what `to_dict` gave."""
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        known["checksum"] = Checksum.parse(values["checksum"]) if values.get("checksum") else None
        known["mtime"] = utc_time(values.get("mtime"))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Report:
    """The results of many transfers, in the order of the request.

    Attributes
    ----------
    transfers : tuple of Transfer
        One for each file.
    seconds : float
        Time from the first to the last byte of all of them.
    """

    transfers: tuple[Transfer, ...] = field(default=())
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[Transfer, ...]:
        """The files that are not in place."""
        return tuple(t for t in self.transfers if not t.ok)

    @property
    def skipped(self) -> tuple[Transfer, ...]:
        """The files that were in place already."""
        return tuple(t for t in self.transfers if t.skipped)

    @property
    def moved_bytes(self) -> int:
        """Bytes that went over the network."""
        return sum(t.moved_bytes for t in self.transfers)

    def __add__(self, other: Report) -> Report:
        return Report(self.transfers + other.transfers, self.seconds + other.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Give the report as JSON-ready values."""
        return {
            "transfers": [t.to_dict() for t in self.transfers],
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a report from what `to_dict` gave."""
        return cls(tuple(Transfer.from_dict(t) for t in values["transfers"]), values["seconds"])
