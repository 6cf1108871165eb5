"""HDF5 files made after a template, table for table: same types, filters, attributes, other rows.

h5py's high-level interface would turn PyTables' bools (bit fields) into integers and its empty
texts into something else, hence the low-level calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401 - registers blosc, filter 32001
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_BLOSC = 32001


def copy_attributes(source: Any, target: Any, *, n_rows: int | None = None) -> None:
    """Copy all attributes bit by bit.

    Parameters
    ----------
    source, target : h5py.Group or h5py.Dataset
        From and to.
    n_rows : int, optional
        Value for PyTables' NROWS.
    """
    names: list[bytes] = []
    h5py.h5a.iterate(source.id, names.append)
    for name in names:
        old = h5py.h5a.open(source.id, name)
        space, kind = old.get_space(), old.get_type()
        new = h5py.h5a.create(target.id, name, kind, space)
        if space.get_simple_extent_type() == h5py.h5s.NULL:
            continue
        value = np.empty(old.shape, old.dtype)
        old.read(value, mtype=kind)
        if name == b"NROWS" and n_rows is not None:
            value[...] = n_rows
        new.write(value, mtype=kind)


def new_group(source: h5py.Group, target: h5py.File) -> None:
    """Make the group of the same path as `source` in `target`, and those above it.

    Parameters
    ----------
    source : h5py.Group
        The template's group.
    target : h5py.File
        File to write.
    """
    missing = []
    while source.name not in target:
        missing.append(source)
        source = source.parent
    for group in reversed(missing):
        copy_attributes(group, target.create_group(group.name))


def write_table(source: Any, target: h5py.File, blocks: Iterable[NDArray[Any]]) -> None:
    """Write a table like `source` with other rows, block by block.

    Parameters
    ----------
    source : h5py.Dataset
        The template's table.
    target : h5py.File
        File to write.
    blocks : iterable of ndarray of shape (n,), of the table's dtype
        The rows.
    """
    new_group(source.parent, target)
    properties = source.id.get_create_plist()
    properties.set_obj_track_times(False)  # the same night gives the same bytes
    _compress_fast(properties)
    fixed = source.maxshape[0] is not None
    rows = list(blocks) if fixed else blocks
    n_rows = sum(len(block) for block in rows) if fixed else 0
    space = h5py.h5s.create_simple((n_rows,), (n_rows if fixed else h5py.h5s.UNLIMITED,))
    name = source.name.encode()
    table = h5py.Dataset(
        h5py.h5d.create(target.id, name, source.id.get_type(), space, dcpl=properties)
    )
    start = 0
    for block in rows:
        if not fixed:
            table.resize((start + len(block),))
        table[start : start + len(block)] = block
        start += len(block)
    copy_attributes(source, table, n_rows=start)


def _compress_fast(properties: Any) -> None:
    """Set blosc's level to 1, where lstchain's datacheck has 9 and takes half a second a file."""
    filters = [properties.get_filter(i)[:3] for i in range(properties.get_nfilters())]
    for code, _, _ in filters:
        properties.remove_filter(code)
    for code, flags, values in filters:
        # blosc: version twice, type size, block size, level, shuffle, compressor
        is_blosc = code == _BLOSC
        properties.set_filter(code, flags, (*values[:4], 1, *values[5:]) if is_blosc else values)


def copy_table(source: Any, target: h5py.File) -> None:
    """Copy a table or an array as it is, without unpacking it.

    Parameters
    ----------
    source : h5py.Dataset
        The template's table.
    target : h5py.File
        File to write.
    """
    new_group(source.parent, target)
    name = source.name.encode()
    h5py.h5o.copy(source.file.id, name, target.id, name)


def write_array(source: Any, target: h5py.File, values: NDArray[Any]) -> None:
    """Write a plain array like `source` with other values, such as lstchain's list of file names.

    Parameters
    ----------
    source : h5py.Dataset
        The template's array.
    target : h5py.File
        File to write.
    values : ndarray
        The values; of texts, as long as the longest.
    """
    new_group(source.parent, target)
    copy_attributes(source, target.create_dataset(source.name, data=values))
