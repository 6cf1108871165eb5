"""Operations on remote files that are not fetched: read, inspect, copy some of their tables."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctaflows._version import __version__
from ctaflows.dl1.hdf5.partial_copy import (
    NoSuchTable,
    TableSelection,
    read_mark,
    source_of,
)
from ctaflows.errors import (
    AlreadyExists,
    CtaflowsError,
    PartialFailure,
    SourceChanged,
    Stopped,
    UsageError,
    error_text,
)
from ctaflows.model import Entry, Report, StrPath, Transfer, utc_text
from ctaflows.storage import checksum as sums
from ctaflows.storage.connect import connect
from ctaflows.storage.range_reader import compare
from ctaflows.storage.remote_file import CACHE_BYTES, RemoteFile
from ctaflows.tasks.transfers import jobs_of
from ctaflows.thread_pool import run_concurrently
from ctaflows.tracking.task import task
from ctaflows.transfer import progress as _progress
from ctaflows.transfer.download import destination
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.part import held_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.hdf5.partial_copy import Spans
    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.storage.protocol import Storage
    from ctaflows.tasks.transfers import Fetchable
    from ctaflows.transfer.download import Job
    from ctaflows.transfer.progress import Progress

log = logging.getLogger("ctaflows.tasks")

#: A remote file of at most this size is read as a whole by default, as a local one is; of a larger
#: one only the first and the last event are read.
WHOLE_UP_TO_BYTES = 4 << 20
#: Connections that fetch the chunks of one table: chunks are scattered in the file, and each costs
#: a round trip.
CONNECTIONS = 4
#: Size of the block cache where a file is read over several connections; half of it is for the
#: blocks that they prefetch.
BULK_CACHE_BYTES = 64 << 20


def open_remote(
    path: str | Entry, *, profile: str | None = None, cache_bytes: int = CACHE_BYTES
) -> RemoteFile:
    """Open a remote file for reading, as a file object for h5py and others.

    ::

        with open_remote("lst/DL1/20241114/v0.10/tailcut84/dl1_LST-1.Run11111.0000.h5") as file:
            h5py.File(file)["dl1/event/telescope/parameters/LST_LSTCam"][:10]

    Parameters
    ----------
    path : str or Entry
        A remote file; an Entry from a listing saves a request.
    profile : str, optional
        Settings to use.
    cache_bytes : int
        Size of the cache in bytes, 32 MiB by default.

    Returns
    -------
    RemoteFile
        Seekable, read-only; only the ranges that are read are transferred. If the file is replaced
        meanwhile, the next read raises `SourceChanged`.

    Raises
    ------
    NotFound
        There is nothing at the path.
    FileOffline
        The file is on tape.
    """
    door = connect(profile)
    entry = path if isinstance(path, Entry) else door.stat(path)
    return RemoteFile(door, entry, cache_bytes=cache_bytes)


@task(name="inspect-remote-dl1", tags=["ctaflows"])
def inspect_remote_dl1(
    path: str | Entry, *, whole: bool | None = None, profile: str | None = None
) -> DL1Summary:
    """Return a summary of a remote DL1 file, without fetching the file.

    HDF5 runs in a separate process, without the token: a file on which it crashes, or which
    decompresses to gigabytes, is reported as damaged.

    Parameters
    ----------
    path : str or Entry
        A remote file in lstchain's or ctapipe's layout.
    whole : bool, optional
        True reads all events, for counts, rates and quantities. False reads only the first and the
        last event, some hundred kB of a file of any size. By default files above 4 MiB are read as
        with False, and smaller ones as a whole, with a sample of their images as in `inspect_dl1`.
    profile : str, optional
        Settings to use.

    Returns
    -------
    DL1Summary
        As from `inspect_dl1`; None in place of what was not read.

    Raises
    ------
    NotFound
        There is nothing at the path.
    IntegrityError
        The file is damaged, or is not an HDF5 file.
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
    """Return a summary of each of many remote DL1 files, several at a time, without fetching them.

    Parameters
    ----------
    paths : sequence of str or Entry
        Remote files.
    whole : bool, optional
        As for `inspect_remote_dl1`.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Inspection
        In the order of ``paths``, without checks; a file that can't be read has an ``error``.
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

    return run_concurrently(one, paths, MOST_REMOTE, threading.Event())


class Lent:
    """A remote file as the source of a reader process, see `ctaflows.dl1.reader_process`.

    Parameters
    ----------
    file : RemoteFile
        The file.
    connections : int
        Number of connections for prefetched ranges.
    """

    def __init__(self, file: RemoteFile, connections: int) -> None:
        self.size, self.read_at = file.size, file.read_at
        self._file, self._connections = file, connections

    def expect(self, spans: Spans) -> None:
        """Prefetch ranges that are going to be read."""
        self._file.expect(spans, connections=self._connections)


# -- some tables of a file -------------------------------------------------------------------------
#
# Partial copies: smaller local files with some tables of a remote file. Their names and records
# differ from those of the whole file, so that one is never taken for the other.

#: Suffix of the remote path in a manifest's record of a partial copy.
PARTIAL = "#partial"
#: Note of a file that has none of the wanted tables, so that no copy is made.
NO_TABLE = "it has no such table"


@task(name="fetch-tables", tags=["ctaflows"])
def fetch_tables(
    path: str | Entry,
    dest: StrPath = ".",
    *,
    tables: Sequence[str] = (),
    drop: Sequence[str] = (),
    progress: Progress | None = None,
    profile: str | None = None,
) -> Transfer:
    """Fetch some tables of an HDF5 file into a smaller HDF5 file; the others are not transferred.

    Parameters
    ----------
    path : str or Entry
        A remote file; an Entry from a listing saves a request.
    dest : path
        A local folder, or the copy's name. In a folder the copy has the file's name with
        ``.partial`` before the suffix.
    tables, drop : sequence of str
        Tables to copy, and tables to leave out; at least one of the two. Names or shell patterns
        such as ``parameters`` or ``images``, see
        `ctaflows.dl1.hdf5.partial_copy.TableSelection`.
    progress : Progress, optional
        Receiver of progress reports: bytes expected and read.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Transfer
        Never ``verified``, since the storage's checksum is of the whole file. ``size_bytes`` and
        ``checksum`` (sha256) are those of the copy.

    Raises
    ------
    AlreadyExists
        There is a file of that name that is not a partial copy of this remote file.
    NotFound
        There is no such table, or no such file.
    UsageError
        Neither ``tables`` nor ``drop`` is given, or the copy would have the whole file's name.
    """
    door = connect(profile)
    entry = path if isinstance(path, Entry) else door.stat(path)
    local = partial_name(entry, destination(dest, entry.name))
    with _progress.reported_to(progress):
        return copy_part(door, entry, local, TableSelection(tuple(tables), tuple(drop)))


def partial_name(entry: Entry, local: Path) -> Path:
    """Return the path of a partial copy, whose name always differs from the whole file's."""
    if local.name != entry.name:
        return local
    return local.with_name(f"{local.stem}.partial{local.suffix}")


@task(name="fetch-tables-of-files", tags=["ctaflows"])
def fetch_tables_of_files(
    paths: Sequence[Fetchable],
    dest: StrPath = ".",
    *,
    base: str | None = None,
    tables: Sequence[str] = (),
    drop: Sequence[str] = (),
    manifest: StrPath | None = None,
    on_error: Literal["raise", "report"] = "raise",
    progress: Progress | None = None,
    profile: str | None = None,
) -> Report:
    """Fetch some tables of many HDF5 files, several at a time, see `fetch_tables`.

    Parameters
    ----------
    paths, dest, base, manifest, on_error, progress, profile
        As for `ctaflows.tasks.fetch_files`. The manifest gets a line for each copy that is made.
    tables, drop
        As for `fetch_tables`.

    Returns
    -------
    Report
        The result for each file, in the order of ``paths``; a file without any of the tables is
        skipped.

    Raises
    ------
    PartialFailure
        Some files failed; its ``report`` has all results. The other copies are in place.
    """
    started, stop = time.monotonic(), threading.Event()
    door, choice = connect(profile), TableSelection(tuple(tables), tuple(drop))
    records = Manifest(Path(manifest)) if manifest else None

    def one(job: Job) -> Transfer:
        entry, local = job.entry, partial_name(job.entry, job.local)
        try:
            record = records.proofs.get(entry.path + PARTIAL) if records else None
            anew = record is not None and record.error is not None  # `verify` found it damaged
            done = copy_part(door, entry, local, choice, anew=anew, stop=stop)
            if records and not done.skipped:
                records.record(replace(done, path=entry.path + PARTIAL))
        except NoSuchTable:
            done = Transfer(entry.path, str(local), skipped=True, note=NO_TABLE)
        except CtaflowsError as why:
            done = Transfer(entry.path, str(local), error=error_text(why))
        _progress.current().finished(done)
        return done

    jobs = jobs_of(door, paths, dest, base)
    with _progress.reported_to(progress):
        _progress.current().expect(len(jobs), 0)
        transfers = run_concurrently(one, jobs, door.settings.transfers, stop)
    report = Report(tuple(transfers), time.monotonic() - started)
    if report.failed and on_error == "raise":
        raise PartialFailure.of(report)
    return report


def plan_tables(
    paths: Sequence[Fetchable],
    dest: StrPath = ".",
    *,
    base: str | None = None,
    tables: Sequence[str] = (),
    drop: Sequence[str] = (),
    profile: str | None = None,
) -> list[Transfer]:
    """Return the copies that `fetch_tables_of_files` would make; ``note`` has the tables.

    Parameters
    ----------
    paths, dest, base, tables, drop, profile
        As for `fetch_tables_of_files`.
    """
    note = str(TableSelection(tuple(tables), tuple(drop)))
    return [
        Transfer(
            job.entry.path,
            str(partial_name(job.entry, job.local)),
            job.entry.size_bytes,
            note=note,
        )
        for job in jobs_of(connect(profile), paths, dest, base)
    ]


def copy_part(
    door: Storage,
    entry: Entry,
    local: Path,
    choice: TableSelection,
    *,
    anew: bool = False,
    stop: threading.Event | None = None,
) -> Transfer:
    """Copy the selected tables of one file, see `fetch_tables`.

    Parameters
    ----------
    door, entry, local, choice
        The storage, the remote file, the path of the copy, and the tables.
    anew : bool
        Replace a copy of the same tables.
    stop : threading.Event, optional
        Ends the transfer soon after it is set.
    """
    started = time.monotonic()
    if not (choice.tables or choice.drop):
        raise UsageError(
            "No tables are named", hint="Name the tables to copy, or those to leave out."
        )
    if local.name == entry.name:
        raise UsageError("A partial copy can't have the whole file's name", where=str(local))
    if _is_here(entry, local, choice) and not anew:
        size_bytes = local.stat().st_size
        return _record(entry, local, size_bytes, started, skipped=True, note="the same copy exists")
    try:
        return _copied(door, entry, local, choice, stop, started)
    except SourceChanged as why:
        log.warning("%s; copying it again", why)
        done = _copied(door, door.stat(entry.path), local, choice, stop, started)
        return replace(done, retries=done.retries + 1)


def _copied(
    door: Storage,
    entry: Entry,
    local: Path,
    choice: TableSelection,
    stop: threading.Event | None,
    started: float,
) -> Transfer:
    from ctaflows.dl1.reader_process import remote_reader

    def heard(n_bytes: int) -> None:
        _progress.current().expect(0, n_bytes)
        _progress.current().advance(n_bytes)
        _progress.rate_limiter().consume(n_bytes)

    with (
        remote_reader() as reader,
        door.transfer_slots,
        _spare_slots(door, CONNECTIONS - 1) as n_spare,
        RemoteFile(door, entry, cache_bytes=BULK_CACHE_BYTES, stop=stop, heard=heard) as remote,
        held_part(local, entry, stop) as part,
    ):
        try:
            # HDF5 runs in another process, since it may crash on a damaged file; and in this one
            # only one file could be copied at a time (h5py holds a lock meanwhile)
            lent = Lent(remote, 1 + n_spare)
            mark = _mark(entry, choice)
            copy = Path(part.path)
            kept = reader.copy_source(lent, entry.path, copy, choice, mark, stop)
            compare(entry, door.stat(entry.path))
            _is_here(entry, local, choice)  # another process may have put something there
            checksum = sums.of_file(copy, "sha256")
            size_bytes = part.size_bytes = copy.stat().st_size
            part.sync()
            part.finish()
        except BaseException:
            part.discard()
            raise
        return _record(
            entry,
            local,
            size_bytes,
            started,
            checksum=checksum,
            moved_bytes=remote.read_bytes,
            note=f"partial copy, {len(kept.paths)} of {len(kept.paths) + len(kept.left_out)} "
            f"tables ({choice})",
        )


@contextlib.contextmanager
def _spare_slots(door: Storage, most: int) -> Iterator[int]:
    """Acquire transfer slots that are free, at most ``most``, and yield their number."""
    taken = 0
    try:
        while taken < most and door.transfer_slots.acquire(blocking=False):
            taken += 1
        yield taken
    finally:
        for _ in range(taken):
            door.transfer_slots.release()


def _mark(entry: Entry, choice: TableSelection) -> dict[str, Any]:
    """Return the attributes that a partial copy has of its source and its tables."""
    best = sums.best(entry.checksums)
    return {
        "PARTIAL_COPY_OF": entry.path,
        "SOURCE_SIZE_BYTES": str(entry.size_bytes),
        "SOURCE_CHECKSUM": str(best) if best else "",
        "SOURCE_ETAG": entry.etag or "",
        "SOURCE_MTIME": utc_text(entry.mtime) or "",
        "ASKED_FOR": str(choice),
        "VERSION": __version__,
    }


def _is_here(entry: Entry, local: Path, choice: TableSelection) -> bool:
    """Return whether the same copy exists; raise if something else has its name."""
    if not local.exists():
        return False
    mark = read_mark(local) if local.is_file() else None
    if mark is None or mark.get("PARTIAL_COPY_OF") != entry.path:
        raise AlreadyExists(
            "This file is not a partial copy of the remote one",
            where=str(local),
            hint="Name another folder, or another name for the copy.",
        )
    return mark.get("ASKED_FOR") == str(choice) and bool(source_of(mark).same_file_as(entry))


def _record(entry: Entry, local: Path, size_bytes: int, started: float, **known: Any) -> Transfer:
    return Transfer(
        path=entry.path,
        local=str(local),
        size_bytes=size_bytes,
        seconds=time.monotonic() - started,
        mtime=entry.mtime,
        **known,
    )
