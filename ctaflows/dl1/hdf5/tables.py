"""Tables in HDF5 files: found, described and read without trust.

A file from elsewhere may be damaged or made to harm. Attributes are read only as text (PyTables
unpickles them, which runs code of the file's choice), links to other files are not followed, and
sizes that the file claims are checked before memory is asked for.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.hdf5.files import check_filters, guarded
from ctaflows.errors import IntegrityError
from ctaflows.model import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import h5py
    import numpy as np
    from numpy.typing import NDArray

_MAX_DEPTH = 16
_MAX_NODES = 20_000
#: A subrun has 53,000 events.
_MAX_ROWS = 100_000_000
#: lstchain's and ctapipe's chunks have up to some megabytes. HDF5 holds a chunk up to three times:
#: as stored, as unpacked, and as numpy's rows.
_MAX_CHUNK_BYTES = 32 * 2**20
_BLOCK_BYTES = 8 * 2**20
_MAX_TEXT_BYTES = 2**16


def text_attributes(node: Any, *endings: str) -> dict[str, str]:
    """Read the attributes of a group or dataset that are short texts.

    Parameters
    ----------
    node : h5py.Group or h5py.Dataset
        Where to look.
    *endings : str
        Only names with one of these endings; a table has some 200 attributes.

    Returns
    -------
    dict of str to str
        Texts by name; numbers, arrays, empty and long values are left out.
    """
    texts = {}
    for name in node.attrs:
        if endings and not name.endswith(endings):
            continue
        kind = node.attrs.get_id(name)
        if kind.shape != () or kind.dtype.kind not in "SO":
            continue
        if kind.dtype.itemsize > _MAX_TEXT_BYTES:
            continue
        value = node.attrs[name]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str) and value:
            texts[name] = value
    return texts


def tables_of(file: h5py.File, where: str) -> dict[str, Any]:
    """Find all tables.

    Parameters
    ----------
    file : h5py.File
        The open file.
    where : str
        Its name for messages.

    Returns
    -------
    dict of str to h5py.Dataset
        One-dimensional datasets of rows with named columns, by path with a leading slash.

    Raises
    ------
    IntegrityError
        When a group or a table is damaged, or there are absurdly many.
    """
    found = {}
    for path, node in nodes_of(file, where)[1].items():
        with guarded(path, where):
            if _is_table(node):
                found[path] = node
    return found


def nodes_of(file: h5py.File, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find all groups and datasets that are stored in this very file.

    Plain item access reads only the groups' own blocks; ``visititems`` and ``get(getclass=True)``
    also walk the index of each table's chunks, all over the file.

    Parameters
    ----------
    file : h5py.File
        The open file.
    where : str
        Its name for messages.

    Returns
    -------
    dict of str to h5py.Group, dict of str to h5py.Dataset
        By path with a leading slash, the datasets in order.

    Raises
    ------
    IntegrityError
        When one is damaged, or there are absurdly many.
    """
    import h5py

    groups: dict[str, Any] = {}
    datasets: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", file)]
    n_nodes = 0
    while waiting:
        above, group = waiting.pop()
        with guarded(f"the group {above or '/'}", where):
            names = list(group)
        n_nodes += len(names)
        if n_nodes > _MAX_NODES or above.count("/") > _MAX_DEPTH:
            raise IntegrityError("the file has too many groups", where=where)
        for name in names:
            path = f"{above}/{name}"
            with guarded(path, where):
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    continue
                node = group[name]
                if isinstance(node, h5py.Group):
                    groups[path] = node
                    waiting.append((path, node))
                elif isinstance(node, h5py.Dataset) and not (node.external or node.is_virtual):
                    datasets[path] = node
    return groups, dict(sorted(datasets.items()))


def _is_table(node: Any) -> bool:
    """Are these rows with named columns?"""
    if len(node.shape or ()) != 1:
        return False
    try:
        return node.dtype.names is not None
    except TypeError:  # a column type that numpy does not have
        return False


def columns_of(table: Any) -> tuple[ColumnInfo, ...]:
    """Describe a table's columns.

    Parameters
    ----------
    table : h5py.Dataset
        The table.

    Returns
    -------
    tuple of ColumnInfo
        In the file's order, with the units of ctapipe's attributes ``CTAFIELD_<i>_UNIT``.
    """
    texts = text_attributes(table, "_UNIT")
    columns, rows, row_type = [], table.dtype, table.id.get_type()
    for i, name in enumerate(rows.names):
        kind = rows[i]
        base, shape = kind.subdtype or (kind, ())
        dtype = "bool" if _is_bits(row_type, name) else base.name
        columns.append(ColumnInfo(name, dtype, tuple(shape), texts.get(f"CTAFIELD_{i}_UNIT")))
    return tuple(columns)


def _is_bits(row_type: Any, name: str) -> bool:
    """Is it PyTables' bool, which HDF5 stores as a bit field and h5py reads as uint8?"""
    import h5py

    kind = row_type.get_member_type(row_type.get_member_index(name.encode()))
    if kind.get_class() == h5py.h5t.ARRAY:
        kind = kind.get_super()
    return bool(kind.get_class() == h5py.h5t.BITFIELD)


def is_number(fields: Any, name: str, kinds: str, *, n_axes: int = 0) -> bool:
    """Has a table such a column?

    Parameters
    ----------
    fields : mapping
        ``table.dtype.fields``, asked for once: h5py makes it anew each time.
    name : str
        The column.
    kinds : str
        numpy's letters for kinds of types, ``f``, ``iu``; a float of more than 8 bytes is none.
    n_axes : int, optional
        Axes of the values in one row.
    """
    if name not in fields:
        return False
    base, shape = fields[name][0].subdtype or (fields[name][0], ())
    return base.kind in kinds and base.itemsize <= 8 and len(shape) == n_axes


def columns_there(fields: Any, names: Sequence[str], kinds: str) -> list[str]:
    """Give those of the columns that a table has, with one number of such a kind in each row."""
    return [name for name in names if is_number(fields, name, kinds)]


def number(value: Any) -> float | None:
    """Give a finite number as Python's float, else None."""
    value = float(value)
    return value if math.isfinite(value) else None


def read_blocks(
    table: Any,
    names: Sequence[str],
    where: str,
    *,
    ends_only: bool = False,
    rows: range | None = None,
) -> Iterator[NDArray[np.void]]:
    """Read some columns of a table, block by block.

    Parameters
    ----------
    table : h5py.Dataset
        The table.
    names : sequence of str
        The columns, at least one.
    where : str
        The file's name for messages.
    ends_only : bool, optional
        Only the first and the last row.
    rows : range, optional
        Only these rows, without gaps.

    Yields
    ------
    ndarray of shape (n,), structured
        Rows with these columns, in order, at most about 8 MB as stored or one chunk.

    Raises
    ------
    IntegrityError
        When a chunk can't be read, or the table claims an absurd size.
    """
    what = f"the table {table.name}"
    n_rows, row_bytes = table.shape[0], max(1, table.dtype.itemsize)
    chunk = table.chunks[0] if table.chunks else 1
    if n_rows > _MAX_ROWS or chunk * row_bytes > _MAX_CHUNK_BYTES:
        raise IntegrityError(
            f"{what} claims {n_rows} rows in chunks of {chunk * row_bytes} bytes", where=where
        )
    step = max(1, _BLOCK_BYTES // row_bytes // chunk) * chunk
    first, end = (rows.start, min(rows.stop, n_rows)) if rows is not None else (0, n_rows)
    spans: Iterable[tuple[int, int]] = ((i, i + step) for i in range(first, end, step))
    if ends_only and n_rows:
        spans = [(0, 1), (n_rows - 1, n_rows)]
    with guarded(what, where):
        check_filters(table, what, where)
        columns = table.fields(list(names))
    for start, stop in spans:
        with guarded(f"{what} from row {start} on", where):
            block = columns[start : min(stop, end)]
        yield block


def versions_of(*nodes: Mapping[str, str]) -> dict[str, str]:
    """Collect the versions of the programs that wrote a file.

    Parameters
    ----------
    *nodes : mapping of str to str
        Attributes of the root and of tables; the first one counts.

    Returns
    -------
    dict of str to str
        Version by name, from lstchain's ``LSTCHAIN_VERSION`` and ctapipe's
        ``CTA ACTIVITY SOFTWARE NAME``.
    """
    versions: dict[str, str] = {}
    for texts in nodes:
        name = texts.get("CTA ACTIVITY SOFTWARE NAME")
        version = texts.get("CTA ACTIVITY SOFTWARE VERSION")
        if name and version:
            versions.setdefault(name, version)
        for key, value in texts.items():
            match = re.fullmatch(r"([A-Z_]+)_VERSION", key)
            if match and match[1] != "PYTABLES_FORMAT":
                versions.setdefault(match[1].lower(), value)
    return versions


@dataclass(frozen=True, slots=True)
class ColumnInfo(Record):
    """One column of a table.

    Attributes
    ----------
    name : str
        Name of the column.
    dtype : str
        numpy's name of one element's type, ``float64``; ``bool`` for PyTables' bits.
    shape : tuple of int
        Shape in one row, empty for a single value.
    unit : str or None
        As the file states it, ``m``, ``deg`` …; None where it states none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class TableInfo(Record):
    """One table.

    Attributes
    ----------
    path : str
        Path in the file, with a leading slash.
    rows : int
        Number of rows.
    columns : tuple of ColumnInfo
        In the file's order.
    """

    path: str
    rows: int
    columns: tuple[ColumnInfo, ...]
