"""What operations return: frozen, typed records that turn into JSON and back.

Keys in JSON are stable and snake_case; a unit is in the key (`size_bytes`, `seconds`).
`Record` is the base of all classes that do so by their fields' types.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from operator import methodcaller
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

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


# -- JSON both ways --------------------------------------------------------------------------------


class Record:
    """Base of dataclasses that turn into JSON-ready values and back, by the types of their fields.

    The keys are the fields' names, in their order. Times, paths and checksums are text; tuples and
    other sequences, whose items are of one type, are lists; mappings and records are objects; None
    is null; all else stays as it is. What is not written as its type is has a function for it:
    ``field(metadata={"write": function})``.
    """

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the record as JSON-ready values."""
        return _writer(type(self))(self)  # type: ignore[arg-type]  # a class is hashable

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a record from what `to_dict` gave; keys that are not known are passed over."""
        readers = _readers(cls)  # type: ignore[arg-type]
        found = {
            name: value if value is None or (read := readers[name]) is None else read(value)
            for name, value in values.items()
            if name in readers
        }
        return cls(**found)


_Convert = Callable[[Any], Any]

#: Types that are text in JSON: how they are written, and read.
_TEXTS: dict[Any, tuple[_Convert, _Convert]] = {
    datetime: (utc_text, utc_time),
    Path: (str, Path),
    Checksum: (str, Checksum.parse),
}


@cache
def _writer(cls: Any) -> Callable[[Any], dict[str, Any]]:
    """Make the function that writes records of a class.

    As source, which dataclasses do likewise: it takes 1.1 µs for a `Transfer` in place of the 2.2
    of a loop over its fields, and a listing has 100,000.
    """
    kinds, functions, items = get_type_hints(cls), {}, []
    for one in fields(cls):
        write = one.metadata.get("write") or _ways(kinds[one.name])[0]
        value = f"self.{one.name}"
        if write:
            functions[f"write_{one.name}"] = write
            value = f"None if (value := {value}) is None else write_{one.name}(value)"
        items.append(f"{one.name!r}: {value}")
    function: Callable[[Any], dict[str, Any]] = eval(  # noqa: S307  of names of fields alone
        f"lambda self: {{{', '.join(items)}}}", functions
    )
    return function


@cache
def _readers(cls: Any) -> dict[str, _Convert | None]:
    kinds = get_type_hints(cls)
    return {one.name: _ways(kinds[one.name])[1] for one in fields(cls)}


def _ways(kind: Any) -> tuple[_Convert | None, _Convert | None]:
    """Give the functions that write and read values of a type; None where they stay as they are."""
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer in (Union, UnionType):
        some = [one for one in inner if one is not NoneType]
        return _ways(some[0]) if len(some) == 1 else (None, None)
    if outer in _TEXTS:
        return _TEXTS[outer]
    if not isinstance(outer, type) or issubclass(outer, (str, bytes)):
        return None, None
    if issubclass(outer, Record):
        return methodcaller("to_dict"), outer.from_dict
    if issubclass(outer, Mapping):
        write, read = _ways(inner[1])
        return _values(write), _values(read)
    if issubclass(outer, Sequence):
        write, read = _ways(inner[0])
        return _items(list, write), _items(tuple, read)
    return None, None


def _items(kind: type, convert: _Convert | None) -> _Convert:
    return kind if convert is None else lambda items: kind(map(convert, items))


def _values(convert: _Convert | None) -> _Convert:
    return dict if convert is None else lambda some: {k: convert(v) for k, v in some.items()}


# -- files and transfers --------------------------------------------------------------------------


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

    # by hand: its JSON is another shape, with the type for `is_dir` and checksums by algorithm
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


def _in_ms(seconds: float) -> float:
    return round(seconds, 3)


@dataclass(frozen=True, slots=True)
class Transfer(Record):
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
    seconds: float = field(default=0.0, metadata={"write": _in_ms})
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


@dataclass(frozen=True, slots=True)
class Report(Record):
    """The results of many transfers, in the order of the request.

    Attributes
    ----------
    transfers : tuple of Transfer
        One for each file.
    seconds : float
        Time from the first to the last byte of all of them.
    """

    transfers: tuple[Transfer, ...] = ()
    seconds: float = field(default=0.0, metadata={"write": _in_ms})

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
