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

from ctaflows.atomic_files import local_error
from ctaflows.errors import CtaflowsError, NotFound, UsageError
from ctaflows.model import Entry, Report, Transfer
from ctaflows.storage import links
from ctaflows.transfer import decide, progress
from ctaflows.transfer.cargo import Cargo, Lading
from ctaflows.transfer.manifest import kept_open
from ctaflows.transfer.twin import Line
from ctaflows.transfer.upload import upload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.beside import Beside
    from ctaflows.transfer.manifest import Manifest

#: From so many files on a directory is listed; a few are asked for one by one.
_LIST_FROM = 8


def upload_alone(door: Storage, local: Path, remote: str, *, overwrite: bool = False) -> Transfer:
    """Upload one file as `upload` does, and tell the listener of it."""
    progress.current().expect(1, _size(local))
    done = upload(door, local, remote, overwrite=overwrite)
    progress.current().finished(done)
    return done


def upload_many(
    door: Storage,
    pairs: Sequence[tuple[Path, str]],
    *,
    overwrite: bool = False,
    manifest: Manifest | None = None,
) -> Report:
    """Upload many files at once.

    Parameters
    ----------
    door : Storage
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
    started = time.monotonic()
    report = upload_lading(door, lading_of(door, pairs), overwrite=overwrite, manifest=manifest)
    return replace(report, seconds=time.monotonic() - started)


def lading_of(door: Storage, pairs: Sequence[tuple[Path, str]]) -> Lading:
    """Look at what is to go up, here and there; directories at the door are made."""
    there = look_there(door, [remote for _, remote in pairs])
    return Lading(pairs, [_size(local) for local, _ in pairs], there)


def upload_lading(
    door: Storage,
    lading: Lading,
    *,
    overwrite: bool = False,
    manifest: Manifest | None = None,
    beside: Beside | None = None,
) -> Report:
    """Upload what was looked at, see `upload_many`.

    Parameters
    ----------
    beside : Beside, optional
        A second process for the same files, see `cargo.beside`.
    door, lading, overwrite, manifest
        As for `cargo.Cargo`.
    """
    started, stop = time.monotonic(), threading.Event()
    progress.current().expect(len(lading.pairs), sum(lading.sizes))
    results: list[Transfer | None] = [None] * len(lading.pairs)

    def tell(place: int, done: Transfer) -> None:
        results[place] = done
        progress.current().finished(done)

    cargo = Cargo(door, lading, manifest, tell, overwrite=overwrite)
    with kept_open(manifest):
        if beside is None:
            small, others = lading.sorted_out()
            cargo.work(Line(small), Line(others), stop)
        else:
            with beside.at_work(door, cargo.heard, stop):
                cargo.work(beside.small, beside.others, stop)
            # of a process that came to an end too soon: what it did is not known
            left = [place for place, done in enumerate(results) if done is None]
            rest = Cargo(door, replace(lading, there={}), manifest, tell, overwrite=overwrite)
            rest.work((), Line(left), stop)
    transfers = tuple(done for done in results if done is not None)
    return Report(transfers, time.monotonic() - started)


def plan(door: Storage, pairs: Sequence[tuple[Path, str]], *, overwrite: bool) -> list[Transfer]:
    """Say what `upload_many` would do, without doing it: the reason stands in ``note``."""
    if not door.can_rename:
        note = "upload: it may be there" if overwrite else "refuse: it may be there"
        return [Transfer(remote, str(local), _size(local), note=note) for local, remote in pairs]
    there = look_there(door, [remote for _, remote in pairs], make=False)
    planned = []
    for local, remote in pairs:
        try:
            entry = there[remote] if remote in there else door.exists(remote)
        except UsageError as why:  # no remote path; the others are uploaded all the same
            planned.append(Transfer(remote, str(local), _size(local), note=f"refuse: {why}"))
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
        planned.append(Transfer(remote, str(local), _size(local), note=note))
    return planned


def look_there(
    door: Storage, remotes: Sequence[str], *, make: bool = True
) -> dict[str, Entry | None]:
    """Look what is there of many files, with one request a directory.

    A directory that is missing is made, if ``make``: not all servers make it on the first PUT, and
    Apache 2.4 answers 409, see `WebDAVStorage.put`. Where a storage can't rename, it is not known
    before an upload what is there, see `protocol.Storage`.

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
    for folder, paths in below.items():
        if len(paths) < _LIST_FROM:
            continue
        wanted: dict[str, str] = {}
        for path in paths:
            with contextlib.suppress(UsageError):  # no remote path: its own upload will say so
                wanted[door.normalise(path)] = path
        there: dict[str, Entry] = {}
        try:
            there = {e.path: e for e in door.list(folder or "/") if e.path in wanted}
        except NotFound:
            with contextlib.suppress(CtaflowsError):  # the first upload will say what is wrong
                if make:
                    door.mkdir(folder, parents=True, exist_ok=True)
        found |= {path: there.get(full) for full, path in wanted.items()}
    return found


def files_of(folder: Path, remote: str, unseen: list[str] | None = None) -> list[tuple[Path, str]]:
    """Say where the files of a folder go: below ``remote``, in a directory of the folder's name.

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
    found = [Path(where) / name for where, _, names in walk for name in names]
    n_parts = len(folder.parts)  # `relative_to` costs ten times as much
    return [(f, f"{base}/{'/'.join(f.parts[n_parts:])}") for f in sorted(found)]


def _size(local: Path) -> int:
    try:
        return local.stat().st_size
    except OSError:
        return 0
