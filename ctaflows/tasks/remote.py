"""Files at the door that are read where they are."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ctaflows.errors import CtaflowsError, Stopped, error_text
from ctaflows.model import Entry
from ctaflows.storage.connect import connect
from ctaflows.storage.remote_file import CACHE_BYTES, RemoteFile
from ctaflows.thread_pool import at_once
from ctaflows.tracking.task import task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.hdf5.partial_copy import Spans
    from ctaflows.dl1.quality.checks import Inspection

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

    HDF5 reads it in a process apart, which asks this one for bytes and has no token: a file that
    makes it crash, or unpacks to gigabytes, is told as damaged.

    Parameters
    ----------
    path : str or Entry
        A file at the door, in lstchain's or ctapipe's layout.
    whole : bool, optional
        Read all events, for counts, rates and quantities; with False only the first and the last
        one, some hundred kB of a file of any size. None does so for files above 4 MiB; smaller ones
        are inspected as files here are, with their images.
    profile : str, optional
        Settings to use.

    Raises
    ------
    IntegrityError
        The file is damaged, or no HDF5 at all.
    """
    from ctaflows.dl1.content.images import DEFAULT_IMAGES
    from ctaflows.dl1.reader_process import remote_reader

    door = connect(profile)
    with remote_reader() as reader, door.transfer_slots:
        reader.start()  # it needs as long as the first answers do
        with open_remote(path, profile=profile, cache_bytes=BULK_CACHE_BYTES) as file:
            is_small = file.size <= WHOLE_UP_TO_BYTES
            summary = reader.read_source(
                Lent(file, 1 if is_small else CONNECTIONS),
                file.entry.path,
                ends_only=not (is_small if whole is None else whole),
                images=DEFAULT_IMAGES if is_small else 0,
            )
            log.info(
                "%s: %d of %d bytes read in %d ranges",
                file.name, file.read_bytes, file.size, file.n_requests,
            )  # fmt: skip
    return summary


@task(name="inspect-remote-dl1-files", tags=["ctaflows"])
def inspect_remote_dl1_files(
    paths: Sequence[str | Entry], *, whole: bool | None = None, profile: str | None = None
) -> list[Inspection]:
    """Tell what is in each of many DL1 files at the door, several at once; nothing is fetched.

    Parameters
    ----------
    paths : sequence of str or Entry
        Files at the door.
    whole : bool, optional
        As for `inspect_remote_dl1`.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Inspection
        In the order of ``paths``; of those that can't be read with the error.
    """
    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.dl1.reader_process import MOST_REMOTE

    def one(path: str | Entry) -> Inspection:
        name = path.path if isinstance(path, Entry) else path
        try:
            return Inspection(name, inspect_remote_dl1.fn(path, whole=whole, profile=profile))
        except Stopped:
            raise
        except CtaflowsError as why:
            return Inspection(name, error=error_text(why))

    return at_once(one, paths, MOST_REMOTE, threading.Event())


class Lent:
    """A file at the door as the process that reads it may use it.

    Parameters
    ----------
    file : RemoteFile
        The file.
    connections : int
        Over so many comes what is expected.
    """

    def __init__(self, file: RemoteFile, connections: int) -> None:
        self.size, self.read_at = file.size, file.read_at
        self._file, self._connections = file, connections

    def expect(self, spans: Spans) -> None:
        """Pass it on."""
        self._file.expect(spans, connections=self._connections)
