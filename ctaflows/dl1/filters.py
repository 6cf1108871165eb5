"""Filters that chunks were packed with: which ones may be let loose on a file from elsewhere.

HDF5 takes a filter's parameters from the file and trusts them: nbit, szip and scale-offset crash
the process when a damaged file names them (HDF5 1.14, H5Znbit.c reads a parameter list that is not
there). No program of the field writes DL1 files with these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Codes and names: HDF5's own, PyTables' and h5py's, hdf5plugin's. Values: parameters at least.
KNOWN: Mapping[int, tuple[str, int]] = {
    1: ("deflate", 1),
    2: ("shuffle", 0),
    3: ("fletcher32", 0),
    305: ("lzo", 0),
    307: ("bzip2", 0),
    32000: ("lzf", 0),
    32001: ("blosc", 4),
    32004: ("lz4", 0),
    32008: ("bitshuffle", 0),
    32015: ("zstd", 0),
    32026: ("blosc2", 4),
}
_MAX_FILTERS = 8
_BLOSC = {32001, 32026}


def check_filters(node: Any, what: str, where: str) -> None:
    """Refuse a dataset whose filters are not known, or can't be meant for its chunks.

    Parameters
    ----------
    node : h5py.Dataset
        The dataset.
    what, where : str
        Its name and the file's, for messages.

    Raises
    ------
    IntegrityError
        Such a file is damaged, or made to harm.
    """
    properties = node.id.get_create_plist()
    n_filters = properties.get_nfilters()
    chunk_bytes = node.id.get_type().get_size()
    for length in node.chunks or ():
        chunk_bytes *= length
    for i in range(min(n_filters, _MAX_FILTERS)):
        code, _, values, _ = properties.get_filter(i)
        name, n_values = KNOWN.get(code, (f"number {code}", -1))
        if n_values < 0 or len(values) < n_values:
            raise IntegrityError(
                f"{what} is packed with a filter that is not used: {name}", where=where
            )
        # blosc's fourth parameter is the size of a chunk before it is packed (hdf5-blosc)
        if code in _BLOSC and values[3] != chunk_bytes:
            raise IntegrityError(
                f"{what} was packed for other chunks: {values[3]} and not {chunk_bytes} bytes",
                where=where,
            )
    if n_filters > _MAX_FILTERS:
        raise IntegrityError(f"{what} is packed with {n_filters} filters", where=where)
