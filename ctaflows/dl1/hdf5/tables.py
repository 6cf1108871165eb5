"""Find, describe and read the tables of untrusted HDF5 files.

A file may be damaged, or made to do harm. Attributes are read only as text (PyTables unpickles
them, which runs code that the file chooses), links to other files are not followed, and sizes that
the file states are checked before memory is allocated.
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
#: Chunks of lstchain and ctapipe have up to a few megabytes. A chunk is in memory up to three
#: times: as stored, decompressed, and as rows of a numpy array.
_MAX_CHUNK_BYTES = 32 * 2**20
_BLOCK_BYTES = 8 * 2**20
_MAX_TEXT_BYTES = 2**16


def text_attributes(node: Any, *endings: str) -> dict[str, str]:
    """Return the attributes of a group or dataset that are short strings.

    Parameters
    ----------
    node : h5py.Group or h5py.Dataset
        The group or dataset.
    *endings : str
        Only attributes whose names have one of these endings; none for all. (A table has some 200
        attributes.)

    Returns
    -------
    dict of str to str
        Values by name, without numbers, arrays, empty strings and those of more than 64 KiB.
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
    """Return all tables of a file.

    Parameters
    ----------
    file : h5py.File
        The open file.
    where : str
        Name of the file, for messages.

    Returns
    -------
    dict of str to h5py.Dataset
        One-dimensional datasets of rows with named columns, by path with a leading slash.

    Raises
    ------
    IntegrityError
        A group or a table is damaged, or there are more than 20,000 or nested in more than 16
        levels.
    """
    found = {}
    for path, node in nodes_of(file, where)[1].items():
        with guarded(path, where):
            if _is_table(node):
                found[path] = node
    return found


def nodes_of(file: h5py.File, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all groups and datasets that are stored in the file itself.

    Soft and external links, external and virtual datasets are left out. Item access reads only the
    groups' own blocks; ``visititems`` and ``get(getclass=True)`` would also read the index of each
    table's chunks, which is spread over the whole file.

    Parameters
    ----------
    file : h5py.File
        The open file.
    where : str
        Name of the file, for messages.

    Returns
    -------
    dict of str to h5py.Group
        Groups by path, with a leading slash; without the root.
    dict of str to h5py.Dataset
        Datasets likewise, sorted by path.

    Raises
    ------
    IntegrityError
        One is damaged, or there are more than 20,000 or nested in more than 16 levels.
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
    """Whether a dataset consists of rows with named columns."""
    if len(node.shape or ()) != 1:
        return False
    try:
        return node.dtype.names is not None
    except TypeError:  # a column of a type that numpy does not have
        return False


def columns_of(table: Any) -> tuple[ColumnInfo, ...]:
    """Return the description of a table's columns.

    Parameters
    ----------
    table : h5py.Dataset
        The table.

    Returns
    -------
    tuple of ColumnInfo
        In the file's order, with units from ctapipe's attributes ``CTAFIELD_<i>_UNIT``.
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
    """Whether a column is PyTables' bool, which HDF5 stores as a bit field, h5py reads as uint8."""
    import h5py

    kind = row_type.get_member_type(row_type.get_member_index(name.encode()))
    if kind.get_class() == h5py.h5t.ARRAY:
        kind = kind.get_super()
    return bool(kind.get_class() == h5py.h5t.BITFIELD)


def is_number(fields: Any, name: str, kinds: str, *, n_axes: int = 0) -> bool:
    """Whether a table has a numeric column of this name, kind and number of dimensions.

    Parameters
    ----------
    fields : mapping
        ``table.dtype.fields``; a mapping, since h5py makes a new one each time it is asked.
    name : str
        Name of the column.
    kinds : str
        Accepted kinds of dtype in numpy's letters, such as ``f`` or ``iu``. Elements of more than
        8 bytes are not accepted.
    n_axes : int, optional
        Number of dimensions of the value in one row; 0, the default, is a single number.

    Returns
    -------
    bool
        False also where there is no such column.
    """
    if name not in fields:
        return False
    base, shape = fields[name][0].subdtype or (fields[name][0], ())
    return base.kind in kinds and base.itemsize <= 8 and len(shape) == n_axes


def columns_there(fields: Any, names: Sequence[str], kinds: str) -> list[str]:
    """Return those of the columns that a table has with one number per row, see `is_number`."""
    return [name for name in names if is_number(fields, name, kinds)]


def number(value: Any) -> float | None:
    """Return a finite number as Python's float, None for NaN and infinity."""
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
        Names of the columns, at least one.
    where : str
        Name of the file, for messages.
    ends_only : bool, optional
        Read only the first and the last row, each as a block (default: False).
    rows : range, optional
        Read only these consecutive rows (default: all).

    Yields
    ------
    ndarray of shape (n,), structured
        Rows with these columns, in order: as many whole chunks as fit into 8 MiB (of whole rows,
        uncompressed), at least one.

    Raises
    ------
    IntegrityError
        A chunk can't be read, a filter is not accepted, or the table states more than 100 million
        rows or chunks of more than 32 MiB.
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
    """Return the versions of the programs that wrote a file.

    Parameters
    ----------
    *nodes : mapping of str to str
        Attributes of the root group and of tables; of several versions of one program the first
        is taken.

    Returns
    -------
    dict of str to str
        Versions by the program's name, from lstchain's ``LSTCHAIN_VERSION`` and others of that
        form, and from ctapipe's ``CTA ACTIVITY SOFTWARE NAME`` and ``… VERSION``.
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
        numpy's name of the elements' type, such as ``float64``; ``bool`` for PyTables' bit fields.
    shape : tuple of int
        Shape of the value in one row, empty for a single number.
    unit : str or None
        Unit as the file states it, such as ``m`` or ``deg``; None where it states none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class TableInfo(Record):
    """One table of an HDF5 file.

    Attributes
    ----------
    path : str
        Path in the file, with a leading slash.
    rows : int
        Number of rows.
    columns : tuple of ColumnInfo
        The columns in the file's order.
    """

    path: str
    rows: int
    columns: tuple[ColumnInfo, ...]
