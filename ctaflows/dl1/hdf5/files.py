"""HDF5 files opened with care: whatever breaks ends in our own error tree."""

from __future__ import annotations

import re
import stat
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from ctaflows.errors import (
    CtaflowsError,
    IntegrityError,
    NotFound,
    NotHDF5,
    Truncated,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: The shortest superblock is longer (HDF5 file format specification, version 0).
_SHORTEST_BYTES = 96

_TRUNCATED = re.compile(r"truncated file: eof = (\d+),.*stored_eof = (\d+)")
# what h5py and numpy raise on damaged files
_DAMAGE = (
    OSError,
    KeyError,
    IndexError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    SystemError,
)
_FIRST_BYTES = (
    (b"SIMPLE  =", "a FITS file"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"PK\x03\x04", "a zip archive"),
)


@contextmanager
def guarded(what: str, where: str) -> Iterator[None]:
    """Turn whatever h5py raises into an `IntegrityError`.

    Parameters
    ----------
    what : str
        What can't be read, ``the table /dl1/…``.
    where : str
        The file.

    Raises
    ------
    IntegrityError
        In place of h5py's and numpy's exceptions.
    """
    try:
        yield
    except CtaflowsError:
        raise
    except _DAMAGE as error:
        said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise IntegrityError(
            f"{what} can't be read, the file is damaged",
            where=where,
            said=said,
            hint="Fetch the file again and compare its checksum with the storage's.",
        ) from None


def describe_bytes(head: bytes) -> str:
    """Say what a file that is no HDF5 looks like.

    Parameters
    ----------
    head : bytes
        The file's first bytes.

    Returns
    -------
    str
        ``an HTML page``, ``a FITS file``, ``text``, … with a quotation of text.
    """
    if not head:
        return "an empty file"
    for start, name in _FIRST_BYTES:
        if head.startswith(start):
            return name
    if not head.strip(b"\0"):
        return "zeros"
    text = head[:200].decode("utf-8", "replace").strip()
    if re.match(r"(?i)(<!doctype html|<html|<head|<body)", text):
        return "an HTML page"
    shown = " ".join(text.split())[:40]
    if text.startswith("<"):
        return f"an XML or HTML page, {shown!r}"
    if "\ufffd" not in text[:100] and all(c.isprintable() or c.isspace() for c in text):
        return f"text, {shown!r}"
    return f"unknown bytes, {head[:8].hex(' ')}"


def _refuse(head: bytes, size_bytes: int, where: str, said: str) -> CtaflowsError:
    """Find the error that tells best why a file could not be opened."""
    cut = _TRUNCATED.search(said)
    hint = "Fetch the file again."
    if cut:
        return Truncated(
            f"the file ends after {int(cut[1])} of {int(cut[2])} bytes",
            where=where,
            said=f"eof = {cut[1]}, stored_eof = {cut[2]}",
            hint=hint,
        )
    if head.startswith(SIGNATURE):
        if size_bytes < _SHORTEST_BYTES:
            return Truncated(f"the file ends after {size_bytes} bytes", where=where, hint=hint)
        return IntegrityError("the file's head is damaged", where=where, said=said, hint=hint)
    found = describe_bytes(head)
    if found == "a FITS file":
        hint = "lstchain's muon tables and raw data are FITS: read them with astropy."
    elif "page" in found:
        hint = "A server's error page was saved as the file: fetch it again."
    return NotHDF5(f"this is no HDF5 file but {found}", where=where, hint=hint)


def _look(path: Path) -> tuple[int, bytes]:
    """Give a regular file's size in bytes and its first 512 bytes."""
    where = str(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError("this is a directory or a device, not a file", where=where)
        with path.open("rb") as file:
            return status.st_size, file.read(512)
    except FileNotFoundError:
        raise NotFound("there is no such file", where=where) from None
    except NotADirectoryError:
        raise NotFound("a part of the path is no directory", where=where) from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise CtaflowsError(
            "the file can't be opened",
            where=where.replace("\0", "?"),
            said=said,
            hint="See its permissions and those of its directories.",
        ) from None


@contextmanager
def open_file(path: Path) -> Iterator[tuple[h5py.File, int]]:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    h5py.File
        The open file, filters registered.
    int
        Its size in bytes.

    Raises
    ------
    NotFound, NotHDF5, Truncated, IntegrityError, UsageError
        No such file; other bytes; cut; damaged; a directory.
    """
    size_bytes, head = _look(path)
    # without locks: read-only and network file systems refuse them
    with _opened(str(path), head, size_bytes, str(path), locking=False) as file:
        yield file, size_bytes


@contextmanager
def open_stream(source: IO[bytes], size_bytes: int, where: str) -> Iterator[h5py.File]:
    """Open an HDF5 file that is read through a seekable object, for example over ranges.

    Parameters
    ----------
    source : file object
        Opened for reading bytes, seekable.
    size_bytes : int
        Size of the whole file.
    where : str
        Its name for messages.

    Yields
    ------
    h5py.File
        The open file, filters registered.

    Raises
    ------
    NotHDF5, Truncated, IntegrityError
        As for `open_file`; what `source` itself raises from our error tree passes.
    """
    source.seek(0)
    head = source.read(512)
    with _opened(source, head, size_bytes, where) as file:
        yield file


@contextmanager
def _opened(
    source: str | IO[bytes], head: bytes, size_bytes: int, where: str, **options: Any
) -> Iterator[h5py.File]:
    import h5py
    import hdf5plugin  # noqa: F401 - registers blosc, filter 32001

    try:
        file = h5py.File(source, "r", **options)
    except CtaflowsError:
        raise
    except _DAMAGE as error:
        raise _refuse(head, size_bytes, where, str(error)) from None
    try:
        yield file
    finally:
        with guarded("the file", where):
            file.close()


# -- filters of chunks -----------------------------------------------------------------------------
#
# Filters that chunks were packed with: which ones may be let loose on a file from elsewhere.
#
# HDF5 takes a filter's parameters from the file and trusts them: nbit, szip and scale-offset crash
# the process when a damaged file names them (HDF5 1.14, H5Znbit.c reads a parameter list that is
# not there). No program of the field writes DL1 files with these.

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
