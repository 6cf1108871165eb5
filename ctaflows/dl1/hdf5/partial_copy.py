"""Partial copies of HDF5 files: selected tables, copied chunk by chunk as they are stored.

Chunks are not decompressed: filters, types, attributes and layout stay as they are. Tables that
are left out are not read, so that of a remote file the parameters can be had without the images.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.hdf5.files import check_filters, guarded
from ctaflows.dl1.hdf5.tables import nodes_of
from ctaflows.errors import IntegrityError, NotFound
from ctaflows.model import Checksum, Entry, Record, utc_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import h5py

    Spans = Sequence[tuple[int, int]]
    from collections.abc import Iterable

log = logging.getLogger("ctaflows.dl1")

#: Chunks of lstchain and ctapipe have up to a few megabytes.
_MAX_CHUNK_BYTES = 64 << 20
_BLOCK_BYTES = 8 << 20
_PREFIX = "CTAFLOWS_"
#: Attribute of a partial copy's root group: path of the whole file.
MARK = _PREFIX + "PARTIAL_COPY_OF"
_MAX_MARK_BYTES = 60_000  # HDF5 limits an attribute in an object header to 64 KiB


class NoSuchTable(NotFound):
    """The file has none of the tables asked for."""


@dataclass(frozen=True, slots=True)
class PartialCopy(Record):
    """The contents of a partial copy.

    Attributes
    ----------
    paths, left_out : tuple of str
        Paths of the datasets that were copied, and of those that were not.
    stored_bytes : int
        Size of the copied data as stored (compressed).
    """

    paths: tuple[str, ...]
    left_out: tuple[str, ...]
    stored_bytes: int


def copy_tables(
    source: h5py.File,
    target: Path,
    choice: TableSelection,
    *,
    where: str,
    size_bytes: int,
    mark: Mapping[str, Any],
    expect: Callable[[Spans], object] = lambda _spans: None,
) -> PartialCopy:
    """Copy the selected tables into a new file, and check that they can be read from it.

    Parameters
    ----------
    source : h5py.File
        The whole file.
    target : Path
        File to write; an existing one is replaced.
    choice : TableSelection
        The tables to copy. The group ``configuration`` is copied as well, unless it is dropped.
    where : str
        Name of the whole file, for messages.
    size_bytes : int
        Size of the whole file.
    mark : mapping of str to str, int or float
        Where the copy is from; stored in attributes ``CTAFLOWS_<name>`` of the root group.
    expect : Callable, optional
        Called before the data of each table are read, with the byte ranges (begin, end) of its
        chunks, so that a remote file can prefetch them.

    Returns
    -------
    PartialCopy
        What was copied, and what was not.

    Raises
    ------
    NoSuchTable
        No table is selected; the hint names those of the file.
    IntegrityError
        The source is damaged, or the copy can't be read.
    """
    import h5py

    groups, datasets = nodes_of(source, where)
    paths = tuple(path for path in datasets if choice.wants(path))
    if not any(choice.names(path) for path in paths) if choice.tables else not paths:
        raise NoSuchTable(
            "There is no such table in the file",
            where=where,
            said=str(choice),
            hint=f"It has: {', '.join(datasets) or 'none'}.",
        )
    spans = {path: spans_of(datasets[path], path, where, size_bytes) for path in paths}
    left_out = tuple(path for path in datasets if path not in spans)
    with guarded("a table", where), h5py.File(target, "w", locking=False) as copy:
        _copy_attributes(source, copy)
        for path in paths:
            _make_groups(path, groups, copy)
            expect(spans[path])
            # copies the dataset with its attributes; HDF5 copies chunks as they are unless they
            # hold references or variable-length strings (H5Dchunk.c, H5D__chunk_copy)
            h5py.h5o.copy(source.id, path.encode(), copy.id, path.encode())
        _write_mark(copy, {**mark, "TABLES": paths, "LEFT_OUT": left_out})
    with guarded("a table that was copied", where), h5py.File(target, "r", locking=False) as copy:
        for path in paths:
            _read_all(copy[path])
    return PartialCopy(paths, left_out, sum(b - a for s in spans.values() for a, b in s))


def read_mark(file: Path) -> dict[str, str] | None:
    """Return the attributes that state where a partial copy is from.

    Parameters
    ----------
    file : Path
        Any file.

    Returns
    -------
    dict of str to str, or None
        Values by name, without the prefix ``CTAFLOWS_``; None where the file is not a partial copy,
        not HDF5, or can't be read.
    """
    import h5py

    try:
        with h5py.File(file, "r", locking=False) as opened:
            if MARK not in opened.attrs:
                return None
            return {
                name.removeprefix(_PREFIX): _text(opened.attrs[name])
                for name in opened.attrs
                if name.startswith(_PREFIX)
            }
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return None


def source_of(mark: Mapping[str, str]) -> Entry:
    """Make the whole file that a partial copy is of, as its mark describes it.

    Parameters
    ----------
    mark : mapping of str to str
        From `read_mark`. What can't be read counts as not told.
    """
    size, checksum = mark.get("SOURCE_SIZE_BYTES", ""), mark.get("SOURCE_CHECKSUM")
    try:
        mtime = utc_time(mark.get("SOURCE_MTIME") or None)
    except ValueError:
        mtime = None
    return Entry(
        mark.get("PARTIAL_COPY_OF", ""),
        size_bytes=int(size) if size.isdecimal() else None,
        mtime=mtime,
        checksums=(Checksum.parse(checksum),) if checksum else (),
        etag=mark.get("SOURCE_ETAG") or None,
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def spans_of(node: Any, path: str, where: str, size_bytes: int) -> list[tuple[int, int]]:
    """Return the byte ranges of a dataset's data in the file.

    Parameters
    ----------
    node : h5py.Dataset
        The dataset.
    path, where : str
        Path of the dataset and name of the file, for messages.
    size_bytes : int
        Size of the file.

    Returns
    -------
    list of (int, int)
        Begin and end of each chunk, or of the whole of an unchunked dataset; empty where it has no
        data outside its header.

    Raises
    ------
    IntegrityError
        A filter is not accepted, a chunk ends behind the end of the file, or a chunk has more than
        64 MiB uncompressed.
    """
    import h5py

    spans: list[tuple[int, int]] = []
    with guarded(f"the table {path}", where):
        check_filters(node, f"the table {path}", where)
        layout = node.id.get_create_plist().get_layout()
        if layout == h5py.h5d.CHUNKED:
            node.id.chunk_iter(
                lambda chunk: spans.append((chunk.byte_offset, chunk.byte_offset + chunk.size))
            )
            largest = node.dtype.itemsize
            for length in node.chunks:
                largest *= length
        elif layout == h5py.h5d.CONTIGUOUS and node.id.get_offset() is not None:
            start = node.id.get_offset()
            spans.append((start, start + node.id.get_storage_size()))
            largest = 0
        else:
            largest = 0
    is_absurd = largest > _MAX_CHUNK_BYTES or any(b - a > size_bytes for a, b in spans)
    if is_absurd or any(b > size_bytes for _, b in spans):
        raise IntegrityError(f"the table {path} claims chunks that can't be", where=where)
    return spans


def _make_groups(path: str, groups: Mapping[str, Any], copy: h5py.File) -> None:
    """Create the groups above a table, with their attributes."""
    parts = path.strip("/").split("/")[:-1]
    for n in range(1, len(parts) + 1):
        above = "/" + "/".join(parts[:n])
        if above not in copy:
            _copy_attributes(groups[above], copy.create_group(above))


def _copy_attributes(source: Any, target: Any) -> None:
    """Copy all attributes as stored: none is interpreted or unpickled (PyTables pickles some)."""
    import h5py
    import numpy as np

    names: list[bytes] = []
    h5py.h5a.iterate(source.id, names.append)
    for name in names:
        old = h5py.h5a.open(source.id, name)
        space, kind = old.get_space(), old.get_type()
        if kind.detect_class(h5py.h5t.REFERENCE):
            continue  # a reference points into the source file
        try:
            dtype = old.dtype
        except TypeError:
            log.info("The attribute %r is of a type that can't be copied", name)
            continue
        new = h5py.h5a.create(target.id, name, kind, space)
        if space.get_simple_extent_type() == h5py.h5s.NULL:
            continue
        value = np.empty(old.shape, dtype)
        # h5py represents variable-length strings as objects, anything else as it is stored
        memory_type = None if dtype.hasobject else kind
        old.read(value, mtype=memory_type)
        new.write(value, mtype=memory_type)


def _write_mark(copy: h5py.File, mark: Mapping[str, Any]) -> None:
    """Write the attributes of the copy's origin, text as fixed-length strings for PyTables."""
    import numpy as np

    for name, value in mark.items():
        if isinstance(value, tuple):
            value = "\n".join(value)
        if isinstance(value, str):
            value = np.bytes_(value.encode("utf-8", "surrogateescape")[:_MAX_MARK_BYTES])
        if value is not None and value != b"":
            copy.attrs[_PREFIX + name] = value


def _read_all(node: Any) -> None:
    """Read all data: HDF5 decompresses it, and checks the checksums of chunks that have one."""
    if not node.chunks:
        n_rows = node.shape[0] if node.shape else 0
        step = max(1, _BLOCK_BYTES * n_rows // max(1, node.nbytes)) if n_rows else 1
        for start in range(0, n_rows, step):
            node[start : start + step]
        return
    begins: list[tuple[int, ...]] = []
    node.id.chunk_iter(lambda chunk: begins.append(chunk.chunk_offset))
    for begin in begins:
        node[tuple(slice(a, a + n) for a, n in zip(begin, node.chunks, strict=True))]


# -- selecting tables ------------------------------------------------------------------------------

#: Group with the description of the instrument, a few kB, without which ctapipe can't use the rest.
ALWAYS_KEPT = "configuration"


@dataclass(frozen=True, slots=True)
class TableSelection:
    """A selection of a file's tables, by names and shell patterns.

    Attributes
    ----------
    tables : tuple of str
        Tables to take; empty for all. Each name or pattern is compared with each component of a
        table's path and with consecutive components (``telescope/parameters``); ``images`` also
        matches ``image``, and ``image`` matches ``images``.
    drop : tuple of str
        Tables to leave out, likewise; takes precedence over ``tables``.
    """

    tables: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def wants(self, path: str) -> bool:
        """Whether the table of this path is to be copied."""
        if hits(path, self.drop):
            return False
        return not self.tables or self.names(path) or path.strip("/").startswith(ALWAYS_KEPT + "/")

    def names(self, path: str) -> bool:
        """Whether one of ``tables`` matches this path."""
        return hits(path, self.tables)

    def __str__(self) -> str:
        words = [f"tables {', '.join(self.tables)}"] if self.tables else []
        words += [f"without {', '.join(self.drop)}"] if self.drop else []
        return ", ".join(words)


def hits(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns matches this path, by the rules of `TableSelection`."""
    parts = path.strip("/").split("/")
    n = len(parts)
    names = {"/".join(parts[i:j]) for i in range(n) for j in range(i + 1, n + 1)}
    forms = {form for p in patterns for form in _forms(p.strip("/"))}
    return any(fnmatchcase(name, form) for name in names for form in forms)


def _forms(pattern: str) -> set[str]:
    singular = pattern.removesuffix("s")
    return {pattern, singular, singular + "s"} if singular else {pattern}
