"""Files at the door that are read where they are."""

from __future__ import annotations

import logging
from typing import IO, TYPE_CHECKING, cast

from ctaflows.model import Entry
from ctaflows.storage.connect import connect
from ctaflows.storage.remote import CACHE_BYTES, RemoteFile
from ctaflows.task import task

if TYPE_CHECKING:
    from ctaflows.dl1.summary import DL1Summary

log = logging.getLogger("ctaflows.tasks")

#: Up to this size a file is inspected as a local one is; of a larger one the first and last event.
WHOLE_UP_TO_BYTES = 4 << 20
#: So many connections share the chunks of one table: each lies alone, and costs a round trip.
CONNECTIONS = 4
#: Half of it takes what several connections bring at once.
BULK_CACHE_BYTES = 64 << 20


def open_remote(
    path: str | Entry, *, profile: str | None = None, cache_bytes: int = CACHE_BYTES
) -> RemoteFile:
    """Open a file at the door for reading where it is, as h5py and others take it.

    ::

        with open_remote("lst/DL1/20241114/v0.10/tailcut84/dl1_LST-1.Run11111.0000.h5") as file:
            h5py.File(file)["dl1/event/telescope/parameters/LST_LSTCam"][:10]

    Parameters
    ----------
    path : str or Entry
        A file at the door.
    profile : str, optional
        Settings to use.
    cache_bytes : int
        How much of what was read is kept, 32 MiB if not said.

    Returns
    -------
    RemoteFile
        Seekable, read-only; only what is read is fetched. If the file is replaced meanwhile, the
        next read raises `SourceChanged`.

    Raises
    ------
    NotFound, FileOffline
        It is not there, or on tape.
    """
    door = connect(profile)
    entry = path if isinstance(path, Entry) else door.stat(path)
    return RemoteFile(door, entry, cache_bytes=cache_bytes)


@task(name="inspect-remote-dl1", tags=["ctaflows"])
def inspect_remote_dl1(
    path: str | Entry, *, whole: bool | None = None, profile: str | None = None
) -> DL1Summary:
    """Tell what is in a DL1 file at the door, without fetching it.

    Parameters
    ----------
    path : str or Entry
        A file at the door, in lstchain's or ctapipe's layout.
    whole : bool, optional
        Read all events, for counts and rates by type; with False only the first and the last one,
        some hundred kB of a file of any size. None does so for files above 4 MiB.
    profile : str, optional
        Settings to use.

    Raises
    ------
    IntegrityError
        The file is damaged, or no HDF5 at all.
    """
    from ctaflows.dl1.inspect import inspect_stream

    with open_remote(path, profile=profile, cache_bytes=BULK_CACHE_BYTES) as file:
        is_whole = file.size <= WHOLE_UP_TO_BYTES if whole is None else whole
        _prepare(file, will_read_all=is_whole and file.size > WHOLE_UP_TO_BYTES)
        summary = inspect_stream(
            cast("IO[bytes]", file),
            file=file.entry.path,
            size_bytes=file.size,
            ends_only=not is_whole,
        )
        log.info(
            "%s: %d of %d bytes read in %d ranges",
            file.name, file.read_bytes, file.size, file.n_requests,
        )  # fmt: skip
    return summary


def _prepare(file: RemoteFile, *, will_read_all: bool) -> None:
    """Refuse what would crash HDF5; say which chunks will be read, to have them at once.

    What is read for this is in the cache when the file is inspected.
    """
    from ctaflows.dl1.columns import spans_of
    from ctaflows.dl1.filters import check_filters
    from ctaflows.dl1.hdf5 import guarded, open_stream
    from ctaflows.dl1.layout import layout_of
    from ctaflows.dl1.tables import tables_of, text_attributes

    name = file.entry.path
    with open_stream(cast("IO[bytes]", file), file.size, name) as opened:
        tables = tables_of(opened, name)
        with guarded("the head", name):
            for path, table in tables.items():
                check_filters(table, f"the table {path}", name)
            layout = layout_of(list(tables), text_attributes(opened))
        if will_read_all and layout is not None and layout.events:
            spans = spans_of(tables[layout.events], layout.events, name, file.size)
            file.expect(spans, connections=CONNECTIONS)
