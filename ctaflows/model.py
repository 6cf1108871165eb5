"""The results of operations: frozen, typed records that can be converted to JSON and back.

Keys in JSON are stable and snake_case; a unit is in the key (`size_bytes`, `seconds`). `Record` is
the base of the classes that are converted by the types of their fields.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from operator import methodcaller
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

#: A local path.
StrPath = str | os.PathLike[str]


def utc_text(moment: datetime | None) -> str | None:
    """Return an aware time as ISO 8601 text in UTC with a trailing Z; None for None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def utc_time(text: str | None) -> datetime | None:
    """Return the aware UTC time of a text from `utc_text`; None for None."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


_encode = json.JSONEncoder(ensure_ascii=False).encode


def json_line(values: Mapping[str, Any]) -> bytes:
    """Return a line of JSON in UTF-8 (RFC 8259 §8.1), also for names of files that are none.

    What a name holds beside UTF-8 Python has as lone surrogates: those become escapes, which its
    own reader turns into the same text.
    """
    try:
        return (_encode(values) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(values) + "\n").encode("ascii")


@dataclass(frozen=True, slots=True, order=True)
class Checksum:
    """A checksum of a file.

    Attributes
    ----------
    algorithm : str
        ``adler32``, ``md5``, ``sha256`` …, in lower case.
    value : str
        Hexadecimal digits in lower case; adler32 has 8, also where a server leaves leading
        zeros out (Checksums.java, dCache 12.1).
    """

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the checksum of a text ``algorithm:value``, as `str` writes it."""
        algorithm, _, value = text.partition(":")
        return cls(algorithm, value)


# -- JSON both ways --------------------------------------------------------------------------------


class Record:
    """Base of dataclasses that are converted to JSON and back by the types of their fields.

    The keys are the fields' names, in their order. Times, paths and checksums become text;
    sequences, whose items are of one type, lists; mappings and records objects; None null; other
    values are unchanged. ``field(metadata={"write": function})`` converts a field by a function of
    its own.
    """

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a dict of values that JSON can represent."""
        return _writer(type(self))(self)  # type: ignore[arg-type]  # a class is hashable

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the record of a dict from `to_dict`; unknown keys are ignored."""
        readers = _readers(cls)  # type: ignore[arg-type]
        found = {
            name: value if value is None or (read := readers[name]) is None else read(value)
            for name, value in values.items()
            if name in readers
        }
        return cls(**found)


_Convert = Callable[[Any], Any]

#: Types that are text in JSON, with the functions that write and read them.
_TEXTS: dict[Any, tuple[_Convert, _Convert]] = {
    datetime: (utc_text, utc_time),
    Path: (str, Path),
    Checksum: (str, Checksum.parse),
}


@cache
def _writer(cls: Any) -> Callable[[Any], dict[str, Any]]:
    """Return the function that converts records of a class to dicts.

    It is compiled from source, as dataclasses do: for a `Transfer` it takes 1.1 µs, where a loop
    over the fields takes 2.2, and a listing may have 100,000 entries.
    """
    kinds, functions, items = get_type_hints(cls), {}, []
    for one in fields(cls):
        write = one.metadata.get("write") or _ways(kinds[one.name])[0]
        value = f"self.{one.name}"
        if write:
            functions[f"write_{one.name}"] = write
            value = f"None if (value := {value}) is None else write_{one.name}(value)"
        items.append(f"{one.name!r}: {value}")
    function: Callable[[Any], dict[str, Any]] = eval(  # noqa: S307  made of field names only
        f"lambda self: {{{', '.join(items)}}}", functions
    )
    return function


@cache
def _readers(cls: Any) -> dict[str, _Convert | None]:
    kinds = get_type_hints(cls)
    return {one.name: _ways(kinds[one.name])[1] for one in fields(cls)}


def _ways(kind: Any) -> tuple[_Convert | None, _Convert | None]:
    """Return the functions that write and read values of a type; None for unchanged values."""
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
        Decoded path from the storage's root, with a leading and without a trailing slash.
    is_dir : bool
        Is it a directory? A symbolic link to one is not, see `link`.
    size_bytes : int or None
        Size; None for directories, and for a file that is still being uploaded.
    mtime : datetime or None
        Time of the last modification, aware UTC.
    checksums : tuple of Checksum
        The checksums that the storage reports; may be empty.
    locality : str or None
        dCache's file locality: ``ONLINE``, ``NEARLINE``, ``ONLINE_AND_NEARLINE``, ``LOST``,
        ``NONE`` or ``UNAVAILABLE``; None where the storage does not report it.
    etag : str or None
        Entity tag (RFC 9110 §8.8.3), which changes when the file is written again.
    error : str or None
        The status that the storage reports in place of the properties, such as ``403 Forbidden``
        (RFC 4918 §14.24): the entry exists, but nothing else is known, not even whether it is a
        directory. None where there are properties.
    link : {"file", "directory", "nothing"} or None
        What it leads to if it is a symbolic link; None where it is not known to be one. Only a
        listing of the directory above can tell. A link to a file has the size, time, checksums,
        locality and ETag of that file; a link to a directory its time and ETag.
    """

    path: str
    is_dir: bool = False
    size_bytes: int | None = None
    mtime: datetime | None = None
    checksums: tuple[Checksum, ...] = ()
    locality: str | None = None
    etag: str | None = None
    error: str | None = None
    link: Literal["file", "directory", "nothing"] | None = None

    @property
    def name(self) -> str:
        """Last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> str:
        """Path of the directory that holds this entry."""
        return posixpath.dirname(self.path)

    @property
    def kind(self) -> Literal["file", "directory", "link", "unknown"]:
        """What it is; ``unknown`` where there is an `error`.

        ``link`` is a symbolic link to a directory or to nothing. One to a file is a ``file``, since
        it can be read as one.
        """
        if self.error is not None:
            return "unknown"
        if self.link not in (None, "file"):
            return "link"
        return "directory" if self.is_dir else "file"

    def __str__(self) -> str:
        return self.path

    def same_file_as(self, other: Entry) -> bool | None:
        """Return whether two descriptions are of the same file, unchanged.

        Compared are kind, size, checksums, ETag and time of last change; not the path. What only
        one of them tells says nothing. A missing size does tell something: the file is still being
        uploaded, and is none that has a size.

        Parameters
        ----------
        other : Entry
            Of the same storage: servers write ETags each in its own way.

        Returns
        -------
        bool or None
            False where something that both tell differs. True where nothing differs, and a
            checksum, the ETag or the time is the same. None where this can't be told: nothing
            differs, but at most the size can be compared, or one of them is not described at all.
        """
        same = self.same_content_as(other)
        if same is False or self.error is not None or other.error is not None:
            return same
        for mine, its in (
            (_opaque(self.etag), _opaque(other.etag)),
            (self.mtime, other.mtime),
        ):
            if mine is not None and its is not None:
                if mine != its:
                    return False
                same = True
        return same

    def same_content_as(self, other: Entry, *, size_suffices: bool = False) -> bool | None:
        """Return whether two descriptions are of the same bytes.

        Unlike `same_file_as` it goes by kind, size and checksums alone: a file that was moved,
        copied or uploaded may have another ETag and time (RFC 4918 §15.6, §15.7).

        Parameters
        ----------
        other : Entry
            Of any storage.
        size_suffices : bool
            Whether a size that is known and the same is enough, where they have no checksum of one
            algorithm.

        Returns
        -------
        bool or None
            False where size, kind or a checksum differs; True where a checksum is the same; else
            None, where this can't be told.
        """
        if self.error is not None or other.error is not None:
            return None
        if (self.is_dir, self.size_bytes) != (other.is_dir, other.size_bytes):
            return False
        known = {checksum.algorithm: checksum for checksum in other.checksums}
        same = [known[c.algorithm] == c for c in self.checksums if c.algorithm in known]
        if same:
            return all(same)
        return True if size_suffices and self.size_bytes is not None else None

    # no Record: in JSON it has `type` in place of `is_dir`, and its checksums by algorithm
    def to_dict(self) -> dict[str, Any]:
        """Return the entry as a dict of values that JSON can represent.

        ``type`` is the `kind`. The keys ``error`` and ``link`` are left out where there is none.
        """
        values = {
            "path": self.path,
            "type": self.kind,
            "size_bytes": self.size_bytes,
            "mtime": utc_text(self.mtime),
            "checksums": {c.algorithm: c.value for c in self.checksums},
            "locality": self.locality,
            "etag": self.etag,
        }
        if self.error is not None:
            values["error"] = self.error
        if self.link is not None:
            values["link"] = self.link
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the entry of a dict from `to_dict`."""
        return cls(
            path=values["path"],
            is_dir=values["type"] == "directory",
            size_bytes=values["size_bytes"],
            mtime=utc_time(values["mtime"]),
            checksums=tuple(Checksum(a, v) for a, v in values["checksums"].items()),
            locality=values.get("locality"),
            etag=values.get("etag"),
            error=values.get("error"),
            link=values.get("link"),
        )


def _opaque(etag: str | None) -> str | None:
    """Return an ETag without its mark of weakness, for the weak comparison of RFC 9110 §8.8.3.2."""
    return None if etag is None else etag.removeprefix("W/")


def _in_ms(seconds: float) -> float:
    return round(seconds, 3)


@dataclass(frozen=True, slots=True)
class Transfer(Record):
    """The record of one file's transfer: what was moved, and whether the file was verified.

    Attributes
    ----------
    path : str
        Remote path.
    local : str
        Local path.
    size_bytes : int or None
        Size of the file.
    moved_bytes : int
        Bytes transferred over the network; 0 for a file that was skipped.
    seconds : float
        Time spent on the file.
    checksum : Checksum or None
        The storage's checksum that the bytes were compared with; where the storage has none, the
        sha256 of the local file.
    verified : bool
        True only if the checksum of the whole file agrees with one that the storage reports.
    skipped : bool
        Was the file in place already, so that nothing was transferred?
    retries : int
        Number of requests that were repeated.
    resumed_bytes : int
        Bytes left by an earlier, interrupted transfer, which were not transferred again.
    mtime : datetime or None
        Time of the source's last modification, aware UTC.
    server : str or None
        The ``Server`` header of the response.
    note : str or None
        Why the file is not verified, or another remark.
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
        """Whether the transfer succeeded, or was not needed."""
        return self.error is None

    @property
    def source(self) -> Entry:
        """The file at the storage as this record describes it: path, size, time, checksum."""
        checksums = () if self.checksum is None else (self.checksum,)
        return Entry(self.path, size_bytes=self.size_bytes, mtime=self.mtime, checksums=checksums)


@dataclass(frozen=True, slots=True)
class Report(Record):
    """The results of many transfers, in the order of the request.

    Attributes
    ----------
    transfers : tuple of Transfer
        One record for each file.
    seconds : float
        Elapsed time of all transfers together.
    """

    transfers: tuple[Transfer, ...] = ()
    seconds: float = field(default=0.0, metadata={"write": _in_ms})

    @property
    def failed(self) -> tuple[Transfer, ...]:
        """Transfers with an error."""
        return tuple(t for t in self.transfers if not t.ok)

    @property
    def skipped(self) -> tuple[Transfer, ...]:
        """Files that were in place already."""
        return tuple(t for t in self.transfers if t.skipped)

    @property
    def moved_bytes(self) -> int:
        """Bytes transferred over the network."""
        return sum(t.moved_bytes for t in self.transfers)

    def __add__(self, other: Report) -> Report:
        return Report(self.transfers + other.transfers, self.seconds + other.seconds)
