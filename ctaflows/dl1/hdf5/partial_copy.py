"""Some tables of an HDF5 file, copied into a smaller one chunk by chunk as they are stored.

Nothing is unpacked or packed again: filters, types, attributes and layout stay. What is left out is
not read, so that the parameters of a remote file come without its images.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.hdf5.files import check_filters, guarded
from ctaflows.dl1.hdf5.tables import nodes_of
from ctaflows.errors import IntegrityError, NotFound
from ctaflows.model import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import h5py

    Spans = Sequence[tuple[int, int]]
    from collections.abc import Iterable

log = logging.getLogger("ctaflows.dl1")

#: lstchain's and ctapipe's chunks have up to some megabytes.
_MAX_CHUNK_BYTES = 64 << 20
_BLOCK_BYTES = 8 << 20
_PREFIX = "CTAFLOWS_"
#: In the root of a partial copy: path of the whole file.
MARK = _PREFIX + "PARTIAL_COPY_OF"
_MAX_MARK_BYTES = 60_000  # HDF5 keeps an attribute of up to 64 KiB in the object's head


class NoSuchTable(NotFound):
    """The file has none of the tables that are wanted."""


@dataclass(frozen=True, slots=True)
class PartialCopy(Record):
    """What a partial copy holds.

    Attributes
    ----------
    paths, left_out : tuple of str
        Paths of the datasets that were copied, and of those that were not.
    stored_bytes : int
        Size of the copied ones' data as it is stored.
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
    """Write the tables that are wanted into a new file, and prove that they can be read there.

    Parameters
    ----------
    source : h5py.File
        The whole file.
    target : Path
        What to write; replaced if it is there.
    choice : TableSelection
        What is wanted. The group ``configuration`` is always copied.
    where : str
        The whole file's name for messages.
    size_bytes : int
        Its size.
    mark : mapping of str to text or number
        What tells where the copy is from; becomes ``CTAFLOWS_…`` attributes of the root.
    expect : Callable, optional
        Told before a table's data is read where its chunks lie, begin and end of each in bytes.

    Raises
    ------
    NoSuchTable
        There is none; the hint tells which there are.
    IntegrityError
        The source is damaged.
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
            # the whole object with its attributes; HDF5 copies chunks as they are unless they hold
            # references or texts of variable length (H5Dchunk.c, H5D__chunk_copy)
            h5py.h5o.copy(source.id, path.encode(), copy.id, path.encode())
        _write_mark(copy, {**mark, "TABLES": paths, "LEFT_OUT": left_out})
    with guarded("a table that was copied", where), h5py.File(target, "r", locking=False) as copy:
        for path in paths:
            _read_all(copy[path])
    return PartialCopy(paths, left_out, sum(b - a for s in spans.values() for a, b in s))


def read_mark(file: Path) -> dict[str, str] | None:
    """Say where a partial copy is from.

    Returns
    -------
    dict of str to str, or None
        The mark, keys without ``CTAFLOWS_``; None for a file that is no partial copy, or no HDF5.
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


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def spans_of(node: Any, path: str, where: str, size_bytes: int) -> list[tuple[int, int]]:
    """Say where a dataset's data lie in the file.

    Parameters
    ----------
    node : h5py.Dataset
        The dataset.
    path, where : str
        Its path and the file's name, for messages.
    size_bytes : int
        Of the file.

    Returns
    -------
    list of (int, int)
        Begin and end of each chunk; empty where nothing is stored apart from the description.

    Raises
    ------
    IntegrityError
        A chunk lies outside of the file, or is larger than any should be.
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
    """Make the groups above a table, with their attributes."""
    parts = path.strip("/").split("/")[:-1]
    for n in range(1, len(parts) + 1):
        above = "/" + "/".join(parts[:n])
        if above not in copy:
            _copy_attributes(groups[above], copy.create_group(above))


def _copy_attributes(source: Any, target: Any) -> None:
    """Copy all attributes bit by bit: none is interpreted, least of all unpickled."""
    import h5py
    import numpy as np

    names: list[bytes] = []
    h5py.h5a.iterate(source.id, names.append)
    for name in names:
        old = h5py.h5a.open(source.id, name)
        space, kind = old.get_space(), old.get_type()
        if kind.detect_class(h5py.h5t.REFERENCE):
            continue  # it would lead into the other file
        try:
            of_numpy = old.dtype
        except TypeError:
            log.info("The attribute %r is of a kind that can't be copied", name)
            continue
        new = h5py.h5a.create(target.id, name, kind, space)
        if space.get_simple_extent_type() == h5py.h5s.NULL:
            continue
        value = np.empty(old.shape, of_numpy)
        # h5py takes texts of variable length as objects, anything else as it is stored
        in_memory = None if of_numpy.hasobject else kind
        old.read(value, mtype=in_memory)
        new.write(value, mtype=in_memory)


def _write_mark(copy: h5py.File, mark: Mapping[str, Any]) -> None:
    """Write the mark in texts of fixed length, as PyTables likes them."""
    import numpy as np

    for name, value in mark.items():
        if isinstance(value, tuple):
            value = "\n".join(value)
        if isinstance(value, str):
            value = np.bytes_(value.encode("utf-8", "surrogateescape")[:_MAX_MARK_BYTES])
        if value is not None and value != b"":
            copy.attrs[_PREFIX + name] = value


def _read_all(node: Any) -> None:
    """Read all that is stored: HDF5 unpacks, and compares the checksum that a chunk may have."""
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
#
# Which tables of a file are wanted: by names and patterns. Pure.

#: The instrument's description, a few kB: without it the rest has no meaning to ctapipe.
ALWAYS_KEPT = "configuration"


@dataclass(frozen=True, slots=True)
class TableSelection:
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
    """Tell whether one of the patterns means this path, see `TableSelection`."""
    parts = path.strip("/").split("/")
    n = len(parts)
    names = {"/".join(parts[i:j]) for i in range(n) for j in range(i + 1, n + 1)}
    forms = {form for p in patterns for form in _forms(p.strip("/"))}
    return any(fnmatchcase(name, form) for name in names for form in forms)


def _forms(pattern: str) -> set[str]:
    singular = pattern.removesuffix("s")
    return {pattern, singular, singular + "s"} if singular else {pattern}
