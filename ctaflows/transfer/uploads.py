"""Many files to be uploaded: looked at with one listing a directory, then sent at once."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.atomic_files import local_error
from ctaflows.errors import (
    CtaflowsError,
    NoSpace,
    NotFound,
    Stopped,
    StorageError,
    UsageError,
    concerns_all,
    error_text,
)
from ctaflows.model import Entry, Report, Transfer
from ctaflows.storage import links
from ctaflows.transfer import decide, progress
from ctaflows.transfer.batch import note_unwritten, recorded
from ctaflows.transfer.manifest import kept_open
from ctaflows.transfer.upload import LOOK, Pools, upload
from ctaflows.transfer.upload_journal import kept
from ctaflows.transport.driver import Width, borrowed, run_journey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ctaflows.model import StrPath
    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.manifest import Manifest
    from ctaflows.transport.wishes import Journey

log = logging.getLogger("ctaflows.transfer")

#: Requests at once, to begin with.
_FIRST = 8
#: From so many files on a directory is listed; a few are asked for one by one.
_LIST_FROM = 8


def upload_alone(
    door: Storage, local: StrPath, remote: str, *, overwrite: bool = False
) -> Transfer:
    """Upload one file as `upload.upload` does, and tell the listener of it."""
    local = os.fspath(local)
    progress.current().expect(1, _size(local))
    with kept(door) as journal:
        journey = upload(door, journal, local, remote, overwrite=overwrite)
        done = run_journey(
            journey, door.session, stop=cancel.current(), limit=progress.rate_limit()
        )
    for *_, error in _missing(door, [done]):
        raise error
    progress.current().finished(done)
    return done


def upload_many(
    door: Storage,
    pairs: Sequence[tuple[StrPath, str]],
    *,
    overwrite: bool = False,
    manifest: Manifest | None = None,
) -> Report:
    """Upload many files at once.

    Parameters
    ----------
    door : Storage
        Where to.
    pairs : sequence of (path, str)
        File here and its path at the door.
    overwrite : bool
        As for `upload.upload`.
    manifest : Manifest, optional
        Gets a line for each file as it finishes.

    Returns
    -------
    Report
        In the order of the pairs, failed ones with their error.

    Raises
    ------
    Stopped
        The work was stopped.
    AuthError
        The token is not accepted: no further file was begun.
    """
    started = time.monotonic()
    files = [(os.fspath(local), remote) for local, remote in pairs]
    there = look_there(door, [remote for _, remote in files])
    progress.current().expect(len(files), sum(_size(local) for local, _ in files))
    results: list[Transfer | None] = [None] * len(files)
    pools, places = Pools(), iter(range(len(files)))

    def more() -> tuple[Journey[Transfer], int] | None:
        place = None if pools.hang is not None else next(places, None)
        if place is None:
            return None
        local, remote = files[place]
        seen = there.get(remote, LOOK)
        return (
            upload(door, journal, local, remote, overwrite=overwrite, there=seen, pools=pools),
            place,
        )

    def settle(place: int, done: Transfer) -> None:
        if manifest:
            done = recorded(manifest, done)
        results[place] = done
        progress.current().finished(done)

    def failed(place: int, why: CtaflowsError) -> Transfer:
        local, remote = files[place]
        with contextlib.suppress(CtaflowsError):
            remote = door.normalise(remote)  # as the record of a success names it
        return Transfer(remote, local, _size(local), error=error_text(why))

    with kept(door) as journal, kept_open(manifest):
        _run(door, more, settle, failed)
        if pools.hang is not None:
            why = _not_begun(pools.hang)
            for place in places:
                settle(place, failed(place, why))
        for place, sent, error in _missing(door, results):
            done = replace(sent, verified=False, error=error_text(error))
            results[place] = recorded(manifest, done) if manifest else done
        note_unwritten(manifest, results)
    transfers = tuple(done for done in results if done is not None)
    return Report(transfers, time.monotonic() - started)


def _run(
    door: Storage,
    more: Callable[[], tuple[Journey[Transfer], int] | None],
    settle: Callable[[int, Transfer], None],
    failed: Callable[[int, CtaflowsError], Transfer],
) -> None:
    """Run the journeys of files; a fault of ours ends all, once they have cleaned up."""
    stop, fault = threading.Event(), None
    width = Width(_FIRST, door.settings.transfers)
    with borrowed(door.session) as driver:
        try:
            for task in driver.run(
                more, door.session, width, stop=stop, limit=progress.rate_limit()
            ):
                try:
                    if task.error is None:
                        settle(task.tag, task.result)
                    elif not isinstance(task.error, CtaflowsError):
                        raise task.error
                    elif not concerns_all(task.error):  # what does is raised when all have ended
                        settle(task.tag, failed(task.tag, task.error))
                except Exception as why:  # noqa: BLE001  raised below
                    fault = fault or why
                    stop.set()
        except Stopped:
            if fault is None:
                raise
    if fault is not None:
        raise fault


def _missing(
    door: Storage, results: Sequence[Transfer | None]
) -> Iterator[tuple[int, Transfer, StorageError]]:
    """Look once more at what was uploaded, and yield an error for each file that is not there.

    That a server answers 201 to MOVE is no proof.
    """
    of_folder: dict[str, list[tuple[int, Transfer]]] = defaultdict(list)
    for place, done in enumerate(results):
        if done is not None and done.ok and not done.skipped and door.can_rename:
            of_folder[done.path.rpartition("/")[0]].append((place, done))
    for folder, some in of_folder.items():
        try:
            if len(some) < _LIST_FROM:
                there = {done.path: door.exists(done.path) for _, done in some}
            else:
                there = {entry.path: entry for entry in door.list(folder or "/")}
        except CtaflowsError as why:
            log.warning("What was uploaded can't be looked at once more: %s", why)
            continue
        for place, done in some:
            entry = there.get(done.path)
            if entry is None or entry.same_content_as(done.source, size_suffices=True) is False:
                what = "nothing is" if entry is None else "another file is"
                error = StorageError(
                    f"The storage said that the file has its name, but {what} there",
                    where=done.path,
                    hint="Upload it again; if it lasts, tell the site.",
                )
                yield place, done, error


def _not_begun(hang: NoSpace) -> NoSpace:
    return NoSpace(
        "Not begun, since a pool takes nothing: it may be full", where=hang.where, hint=hang.hint
    )


def plan(door: Storage, pairs: Sequence[tuple[StrPath, str]], *, overwrite: bool) -> list[Transfer]:
    """Return what `upload_many` would do, without doing it: the reason stands in ``note``."""
    files = [(os.fspath(local), remote) for local, remote in pairs]
    if not door.can_rename:
        note = "upload: it may be there" if overwrite else "refuse: it may be there"
        return [Transfer(remote, local, _size(local), note=note) for local, remote in files]
    there = look_there(door, [remote for _, remote in files], make=False)
    planned = []
    for local, remote in files:
        try:
            entry = there[remote] if remote in there else door.exists(remote)
        except UsageError as why:  # no remote path; the others are uploaded all the same
            planned.append(Transfer(remote, local, _size(local), note=f"refuse: {why}"))
            continue
        ours = Entry(remote, size_bytes=_size(local))
        if entry is None:
            note = "upload: not there"
        elif entry.error is not None:
            note = f"look again: it can't be described: {entry.error}"
        elif entry.checksums and entry.same_content_as(ours) is not False:
            note = "compare: same size, checksum to be compared"
        elif entry.link is not None:
            note = f"refuse: it is {links.words(entry)}"
        else:
            note = "replace: it differs" if overwrite else "refuse: another file is there"
        planned.append(Transfer(remote, local, _size(local), note=note))
    return planned


def look_there(
    door: Storage, remotes: Sequence[str], *, make: bool = True
) -> dict[str, Entry | None]:
    """Look what is there of many files, with one request a directory.

    A directory that is missing is made, if ``make``: not all servers make it on the first PUT, and
    Apache 2.4 answers 409, see `WebDAVStorage.putting`. What is below one that was made here is not
    looked at: nothing is there. Where a storage can't rename, it is not known before an upload what
    is there, see `protocol.Storage`.

    Returns
    -------
    dict
        Path as given to what is there; those that are left out were not looked at.
    """
    below: dict[str, list[str]] = defaultdict(list)
    for remote in remotes if door.can_rename else ():
        if not remote.endswith("/"):
            below[remote.rpartition("/")[0]].append(remote)
    found: dict[str, Entry | None] = {}
    made: set[str] = set()
    for folder, paths in below.items():
        is_new = folder.rpartition("/")[0] in made
        if len(paths) < _LIST_FROM and not is_new:
            continue
        wanted: dict[str, str] = {}
        for path in paths:
            with contextlib.suppress(UsageError):  # no remote path: its own upload will say so
                wanted[door.normalise(path)] = path
        there: dict[str, Entry] = {}
        try:
            if not is_new:
                there = {e.path: e for e in door.list(folder or "/") if e.path in wanted}
        except NotFound:
            is_new = True
        if is_new and make:
            with contextlib.suppress(CtaflowsError):  # the first upload will say what is wrong
                _make(door, folder, made)
        found |= {path: there.get(full) for full, path in wanted.items()}
    return found


def _make(door: Storage, folder: str, made: set[str]) -> None:
    """Make a directory and those above it, and note those that were not there."""
    try:
        door.mkdir(folder)
    except NotFound:
        above = folder.rpartition("/")[0]
        if not above:
            raise
        _make(door, above, made)
        door.mkdir(folder)
    made.add(folder)


def files_of(folder: Path, remote: str, unseen: list[str] | None = None) -> list[tuple[str, str]]:
    """Return the files of a folder, each with its path below ``remote`` in a directory of its name.

    Parameters
    ----------
    folder : Path
        A folder here. Links to other folders are not followed.
    remote : str
        A directory at the door.
    unseen : list of str, optional
        Gets the folders of whose files nothing is seen, relative to this one: see `decide.unseen`.
    """
    base = f"{remote.rstrip('/')}/{folder.resolve().name}"

    def unreadable(why: OSError) -> None:
        hint = "Nothing was uploaded. Leave the folder out, or get the right to read it."
        raise local_error(why, why.filename, "A folder can't be read", hint=hint) from None

    walk = list(os.walk(folder, onerror=unreadable))
    if unseen is not None:
        unseen += decide.unseen(walk)
    top = os.path.join(folder, "")  # noqa: PTH118  Path costs a hundred times as much
    relative = [
        f"{os.path.join(where, '').removeprefix(top)}{name}"  # noqa: PTH118
        for where, _, names in walk
        for name in names
    ]
    relative.sort(key=_parts)
    prefix = "" if top == f".{os.sep}" else top
    return [(f"{prefix}{path}", f"{base}/{path}") for path in relative]


def _parts(path: str) -> list[str]:
    return path.split("/")


def _size(local: str) -> int:
    try:
        return os.stat(local).st_size  # noqa: PTH116  the cheapest
    except OSError:
        return 0
