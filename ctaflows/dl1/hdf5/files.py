"""Open HDF5 files safely: whatever h5py raises becomes an error of `ctaflows.errors`."""

from __future__ import annotations

import re
import stat
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from ctaflows.atomic_files import local_error
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
#: Size of a version 0 superblock with 8-byte offsets, the version that HDF5 1 writes by default
#: (HDF5 file format specification, II.A): a shorter file was truncated.
_SUPERBLOCK_BYTES = 96

_TRUNCATED = re.compile(r"truncated file: eof = (\d+),.*stored_eof = (\d+)")
# exceptions that h5py and numpy raise on damaged files
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
    """Return a context manager that turns exceptions of h5py and numpy into `IntegrityError`.

    Parameters
    ----------
    what : str
        What is being read, for the message, such as ``the table /dl1/…``.
    where : str
        Name of the file, for the message.

    Raises
    ------
    IntegrityError
        In place of h5py's and numpy's exceptions; errors of `ctaflows.errors` pass unchanged.
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
    """Return what kind of file the first bytes of a file that is not HDF5 look like.

    Parameters
    ----------
    head : bytes
        The file's first bytes; 200 are enough.

    Returns
    -------
    str
        A noun phrase: ``an HTML page``, ``a FITS file``, ``unknown bytes, 00 01 …``; text is
        quoted, up to 40 characters of it.
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


def _open_error(head: bytes, size_bytes: int, where: str, said: str) -> CtaflowsError:
    """Return the most specific error for a file that h5py could not open."""
    truncated = _TRUNCATED.search(said)
    hint = "Fetch the file again."
    if truncated:
        return Truncated(
            f"the file ends after {int(truncated[1])} of {int(truncated[2])} bytes",
            where=where,
            said=f"eof = {truncated[1]}, stored_eof = {truncated[2]}",
            hint=hint,
        )
    if head.startswith(SIGNATURE):
        if size_bytes < _SUPERBLOCK_BYTES:
            return Truncated(f"the file ends after {size_bytes} bytes", where=where, hint=hint)
        return IntegrityError("the file's head is damaged", where=where, said=said, hint=hint)
    found = describe_bytes(head)
    if found == "a FITS file":
        hint = "lstchain's muon tables and raw data are FITS: read them with astropy."
    elif "page" in found:
        hint = "A server's error page was saved as the file: fetch it again."
    return NotHDF5(f"this is no HDF5 file but {found}", where=where, hint=hint)


def _size_and_head(path: Path) -> tuple[int, bytes]:
    """Return a regular file's size in bytes and its first 512 bytes."""
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
    except OSError as why:
        hint = "See its permissions and those of its directories."
        raise local_error(why, where, "the file can't be opened", hint=hint) from None
    except ValueError as why:  # such as a NUL in it
        raise UsageError("this is no path of a file", where=where, said=str(why)) from None


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
        The open file, with hdf5plugin's filters registered.
    int
        Its size in bytes.

    Raises
    ------
    NotFound
        There is no such file.
    NotHDF5
        The file is not HDF5.
    Truncated
        Its end is missing.
    IntegrityError
        It is damaged.
    UsageError
        It is a directory or a device.
    CtaflowsError
        It can't be opened for another reason, such as its permissions.
    """
    size_bytes, head = _size_and_head(path)
    # without HDF5's file locks, which read-only and network file systems refuse
    with _opened(str(path), head, size_bytes, str(path), locking=False) as file:
        yield file, size_bytes


@contextmanager
def open_stream(source: IO[bytes], size_bytes: int, where: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading through a file object, for example one of HTTP ranges.

    Parameters
    ----------
    source : file object
        Binary, readable and seekable.
    size_bytes : int
        Size of the whole file.
    where : str
        Name of the file, for messages.

    Yields
    ------
    h5py.File
        The open file, with hdf5plugin's filters registered.

    Raises
    ------
    NotHDF5, Truncated, IntegrityError
        As for `open_file`. Errors of `ctaflows.errors` that ``source`` raises pass unchanged.
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
        raise _open_error(head, size_bytes, where, str(error)) from None
    try:
        yield file
    finally:
        with guarded("the file", where):
            file.close()


# -- chunk filters ---------------------------------------------------------------------------------
#
# The filters (compression, shuffling, checksums) that are accepted in an untrusted file.
#
# HDF5 trusts the filter parameters that a file states: nbit, szip and scale-offset crash the
# process when a damaged file names them (HDF5 1.14: H5Znbit.c reads a parameter list that is not
# there). lstchain and ctapipe do not write DL1 files with these.

#: Accepted filters by HDF5's filter number, those of HDF5 itself, PyTables, h5py and hdf5plugin:
#: the name, and the smallest number of parameters that the filter needs.
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
    """Raise an error if a dataset has unknown filters, or filters set up for other chunks.

    Parameters
    ----------
    node : h5py.Dataset
        The dataset.
    what, where : str
        Names of the dataset and of the file, for messages.

    Raises
    ------
    IntegrityError
        A filter is not in `KNOWN`, has too few parameters or those of another chunk size, or there
        are more than 8: the file is damaged, or made to do harm.
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
        # blosc's fourth parameter is the size of an uncompressed chunk in bytes (hdf5-blosc)
        if code in _BLOSC and values[3] != chunk_bytes:
            raise IntegrityError(
                f"{what} was packed for other chunks: {values[3]} and not {chunk_bytes} bytes",
                where=where,
            )
    if n_filters > _MAX_FILTERS:
        raise IntegrityError(f"{what} is packed with {n_filters} filters", where=where)
