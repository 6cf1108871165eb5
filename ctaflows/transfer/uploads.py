"""Many files to be uploaded: looked at with one listing a directory, then sent at once."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.errors import CtaflowsError, NotFound, UsageError, error_text
from ctaflows.model import Report, Transfer
from ctaflows.transfer import progress
from ctaflows.transfer.crew import at_once
from ctaflows.transfer.source import SMALL_BYTES
from ctaflows.transfer.upload import Unknown, upload
from ctaflows.transfer.upload_lane import LEAST, UploadLane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.model import Entry
    from ctaflows.storage.door import Door
    from ctaflows.transfer.manifest import Manifest

#: From so many files on a directory is listed; a few are asked for one by one.
_LIST_FROM = 8


def upload_alone(door: Door, local: Path, remote: str, *, overwrite: bool = False) -> Transfer:
    """Upload one file as `upload` does, and tell the listener of it."""
    progress.current().expect(1, _size(local))
    done = upload(door, local, remote, overwrite=overwrite)
    progress.current().finished(done)
    return done


def upload_many(
    door: Door,
    pairs: Sequence[tuple[Path, str]],
    *,
    overwrite: bool = False,
    manifest: Manifest | None = None,
) -> Report:
    """Upload many files at once.

    Parameters
    ----------
    door : Door
        Where to; its ``transfer_slots`` bound how many move at once.
    pairs : sequence of (Path, str)
        File here and its path at the door.
    overwrite : bool
        As for `upload`.
    manifest : Manifest, optional
        Gets a line for each file as it finishes.

    Returns
    -------
    Report
        In the order of the pairs, failed ones with their error.
    """
    started, stop = time.monotonic(), threading.Event()
    sizes = [_size(local) for local, _ in pairs]
    progress.current().expect(len(pairs), sum(sizes))
    there = look_there(door, [remote for _, remote in pairs])
    results: list[Transfer | None] = [None] * len(pairs)

    def settle(place: int, done: Transfer) -> None:
        if manifest and not done.skipped:
            try:
                manifest.append(done)
            except CtaflowsError as why:
                done = replace(done, error=done.error or error_text(why))
        results[place] = done
        progress.current().finished(done)

    small = [
        place
        for place, (_, remote) in enumerate(pairs)
        if sizes[place] <= SMALL_BYTES and there.get(remote, Unknown.LOOK) is None
    ]
    lane = UploadLane(door, pairs, small, settle, overwrite=overwrite, stop=stop)

    def one(place: int) -> None:
        local, remote = pairs[place]
        try:
            done = lane.went_on(place)
            if done is None or done == "anew":
                seen = there.get(remote, Unknown.LOOK) if done is None else Unknown.LOOK
                again = done is not None
                done = upload(door, local, remote, overwrite=overwrite, there=seen, stop=stop)
                if again and not done.skipped:
                    done = replace(done, retries=done.retries + 1)
        except CtaflowsError as why:
            with contextlib.suppress(CtaflowsError):
                remote = door.normalise(remote)  # as the record of a success names it
            done = Transfer(remote, str(local), _size(local), error=error_text(why))
        settle(place, done)

    with manifest.kept_open() if manifest else contextlib.nullcontext():
        try:
            if len(small) >= LEAST:
                at_once(lambda lane: lane.run(), [lane], 1, stop)
            rest = [place for place, done in enumerate(results) if done is None]
            at_once(one, rest, door.settings.transfers, stop)
        finally:
            lane.tidy()
    transfers = tuple(done for done in results if done is not None)
    return Report(transfers, time.monotonic() - started)


def plan(door: Door, pairs: Sequence[tuple[Path, str]], *, overwrite: bool) -> list[Transfer]:
    """Say what `upload_many` would do, without doing it: the reason stands in ``note``."""
    there = look_there(door, [remote for _, remote in pairs], make=False)
    planned = []
    for local, remote in pairs:
        entry = there[remote] if remote in there else door.exists(remote)
        same = entry is not None and entry.size_bytes == _size(local)
        if entry is None:
            note = "upload: not there"
        elif same and entry.checksums:
            note = "compare: same size, checksum to be compared"
        else:
            note = "replace: it differs" if overwrite else "refuse: another file is there"
        planned.append(Transfer(remote, str(local), _size(local), note=note))
    return planned


def look_there(door: Door, remotes: Sequence[str], *, make: bool = True) -> dict[str, Entry | None]:
    """Look what is there of many files, with one request a directory.

    A directory that is missing is made, if ``make``: not all servers make it on the first PUT.

    Returns
    -------
    dict
        Path as given to what is there; those that are left out were not looked at.
    """
    below: dict[str, list[str]] = defaultdict(list)
    for remote in remotes:
        if not remote.endswith("/"):
            below[remote.rpartition("/")[0]].append(remote)
    found: dict[str, Entry | None] = {}
    for folder, paths in below.items():
        if len(paths) < _LIST_FROM:
            continue
        wanted = {door.normalise(path): path for path in paths}
        there: dict[str, Entry] = {}
        try:
            there = {e.path: e for e in door.list(folder or "/") if e.path in wanted}
        except NotFound:
            with contextlib.suppress(CtaflowsError):  # the first upload will say what is wrong
                if make:
                    door.mkdir(folder, parents=True, exist_ok=True)
        found |= {path: there.get(full) for full, path in wanted.items()}
    return found


def files_of(folder: Path, remote: str) -> list[tuple[Path, str]]:
    """Say where the files of a folder go: below ``remote``, in a directory of the folder's name.

    Parameters
    ----------
    folder : Path
        A folder here. Links to other folders are not followed.
    remote : str
        A directory at the door.
    """
    base = f"{remote.rstrip('/')}/{folder.resolve().name}"

    def unreadable(why: OSError) -> None:
        raise UsageError(
            "A folder can't be read",
            where=str(why.filename),
            said=why.strerror,
            hint="Nothing was uploaded. Leave the folder out, or get the right to read it.",
        ) from None

    walk = os.walk(folder, onerror=unreadable)
    found = [Path(where) / name for where, _, names in walk for name in names]
    n_parts = len(folder.parts)  # `relative_to` costs ten times as much
    return [(f, f"{base}/{'/'.join(f.parts[n_parts:])}") for f in sorted(found)]


def _size(local: Path) -> int:
    try:
        return local.stat().st_size
    except OSError:
        return 0
