"""The collection: every operation as a task.

Called directly each is a plain function that answers at once; within a Prefect flow the same name
is a tracked task run. Paths at the door are written as ``cta/DL1/20241114``; ``profile`` names the
settings, see `ctaflows.settings.load`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctaflows.dl1 import names, night
from ctaflows.dl1.night import Night
from ctaflows.dl1.report import Inspection
from ctaflows.errors import CtaflowsError, NotFound, PartialFailure, UsageError, error_text
from ctaflows.model import Entry, Report, Transfer
from ctaflows.storage import paths as _paths
from ctaflows.storage import renaming as _renaming
from ctaflows.storage.connect import connect
from ctaflows.storage.outcome import Outcome, failure
from ctaflows.storage.usage import Tally, Usage
from ctaflows.storage.walk import files_below, walk_batches
from ctaflows.task import task
from ctaflows.transfer import fetch as _fetch
from ctaflows.transfer import many as _many
from ctaflows.transfer import removal as _removal
from ctaflows.transfer import upload as _upload
from ctaflows.transfer import uploads as _uploads
from ctaflows.transfer import verify as _verify
from ctaflows.transfer.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.auth.keeper import Keeper
    from ctaflows.auth.token import TokenInfo
    from ctaflows.dl1.summary import DL1Summary
    from ctaflows.transfer.verify import Verdict

StrPath = str | os.PathLike[str]


@task(name="list-dir", tags=["ctaflows"])
def list_dir(path: str, *, profile: str | None = None) -> list[Entry]:
    """List a directory.

    Parameters
    ----------
    path : str
        A directory at the door; a file lists itself.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Entry
        Sorted by name. An empty list may also mean that the door could not read the directory:
        dCache shows both alike.

    Raises
    ------
    NotFound
        There is nothing at the path.

    Examples
    --------
    >>> for entry in list_dir("cta/DL1/20241114"):  # doctest: +SKIP
    ...     print(entry.name, entry.size_bytes)
    """
    return sorted(connect(profile).list(path), key=lambda e: e.path)


@task(name="find", tags=["ctaflows"])
def find(
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    profile: str | None = None,
) -> list[Entry]:
    """Find files below a directory.

    Parameters
    ----------
    path : str
        Where to begin.
    include, exclude : sequence of str
        Shell patterns such as ``*.h5`` or ``datacheck``, matched against the path below ``path``,
        the file's name, and each directory's name.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Entry
        Files only, each with size, time and the storage's checksums.
    """
    return list(files_below(connect(profile), path, include, exclude))


@task(name="stat", tags=["ctaflows"])
def stat(path: str, *, profile: str | None = None) -> Entry:
    """Describe one file or directory: size, time, checksums, whether it is on disk.

    Parameters
    ----------
    path : str
        A path at the door.
    profile : str, optional
        Settings to use.

    Raises
    ------
    NotFound
        There is nothing at the path.
    """
    door = connect(profile)
    entry = door.stat(path)
    if not entry.is_dir and not entry.checksums:
        entry = replace(entry, checksums=door.checksums(path))
    return entry


@task(name="disk-usage", tags=["ctaflows"])
def disk_usage(path: str, *, depth: int | None = None, profile: str | None = None) -> list[Usage]:
    """Tell how many bytes and files are below each directory.

    Parameters
    ----------
    path : str
        Where to begin.
    depth : int, optional
        Levels of sub-directories that are told apart; 0 gives the total alone, None all.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Usage
        Sub-directories before the one that holds them, ``path`` itself last. What the door could
        not read counts as empty: it shows both alike.

    Raises
    ------
    NotFound
        There is nothing at the path.
    """
    door = connect(profile)
    tally = Tally(door.normalise(path), depth)
    for batch in walk_batches(door, path):
        tally.add(batch)
    return tally.usages()


@task(name="make-dir", tags=["ctaflows"])
def make_dir(path: str, *, parents: bool = False, profile: str | None = None) -> str:
    """Make a directory.

    Parameters
    ----------
    path : str
        A path at the door.
    parents : bool
        Make missing parents too; a directory that is there already is then no error.
    profile : str, optional
        Settings to use.

    Returns
    -------
    str
        The directory's path from the door's root.

    Raises
    ------
    AlreadyExists
        Something is there.
    NotFound
        The directory above is missing.
    """
    door = connect(profile)
    where = door.normalise(path)
    door.mkdir(where, parents=parents, exist_ok=parents)
    return where


@task(name="move", tags=["ctaflows"])
def move(source: str, target: str, *, overwrite: bool = False, profile: str | None = None) -> str:
    """Move or rename a file or directory.

    Parameters
    ----------
    source : str
        What to move.
    target : str
        Its new path, or a directory to move it into; one that ends in ``/`` must be there.
    overwrite : bool
        Replace a file that is there. Directories are never replaced.
    profile : str, optional
        Settings to use.

    Returns
    -------
    str
        The new path from the door's root.

    Raises
    ------
    NotFound, AlreadyExists
        There is no source or no such directory; the place is taken.
    UsageError
        A directory would be moved into itself.
    """
    return _renaming.move(connect(profile), source, target, overwrite=overwrite)[1]


@task(name="remove", tags=["ctaflows"])
def remove(
    path: str, *, recursive: bool = False, missing_ok: bool = False, profile: str | None = None
) -> list[Outcome]:
    """Remove a file, or with ``recursive`` a directory with all that is below it now.

    Nobody is asked. Only what a listing shows is removed: a directory into which something comes
    meanwhile stays, and is told as failed.

    Parameters
    ----------
    path : str
        A path at the door, never its root.
    recursive : bool
        Is a directory meant?
    missing_ok : bool
        Is it right if nothing is there?
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Outcome
        One for each file and directory that is gone.

    Raises
    ------
    UsageError
        The root, or a directory without ``recursive``.
    NotFound
        There is nothing at the path.
    PartialFailure
        Some of it is still there; ``report`` tells what. The rest is gone.
    """
    door = connect(profile)
    entry = door.exists(path)
    if entry is None:
        if missing_ok:
            return []
        raise NotFound("There is nothing at this path", where=door.normalise(path))
    if entry.is_dir and not recursive:
        raise UsageError("That is a directory", where=entry.path, hint="Say recursive=True.")
    doomed = _removal.doom(door, [entry])
    outcomes = [o for batch in _removal.remove_all(door, doomed) for o in batch]
    if failed := [o for o in outcomes if not o.ok]:
        raise failure(failed, len(outcomes), "removed")
    return outcomes


@task(name="fetch-file", tags=["ctaflows"])
def fetch_file(path: str | Entry, dest: StrPath = ".", *, profile: str | None = None) -> Transfer:
    """Fetch one file, resumed and verified; one that is here and proven is not moved.

    Parameters
    ----------
    path : str or Entry
        A file at the door.
    dest : path
        A folder to put it into (one that is there, or a path that ends in ``/``), or its new name.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Transfer
        ``verified`` says whether the storage held a checksum to compare with.

    Raises
    ------
    CtaflowsError
        The file is not in place under its final name; what came of it is kept for the next call.
    """
    door = connect(profile)
    entry = path if isinstance(path, Entry) else door.stat(path)
    _refuse_directory(entry)
    return _fetch.fetch(door, _fetch.Job(entry, _fetch.destination(dest, entry.name)))


@task(name="fetch-files", tags=["ctaflows"])
def fetch_files(
    paths: Sequence[str | Entry],
    dest: StrPath = ".",
    *,
    base: str | None = None,
    manifest: StrPath | None = None,
    check: Literal["checksum", "size"] = "checksum",
    on_error: Literal["raise", "report"] = "raise",
    profile: str | None = None,
) -> Report:
    """Fetch many files at once.

    Parameters
    ----------
    paths : sequence of str or Entry
        Files at the door. Entries from a listing spare a request each.
    dest : path
        Folder to put them into.
    base : str, optional
        Directory at the door that ``dest`` stands for: what is below it keeps its sub-directories.
        None means the deepest directory that holds all files.
    manifest : path, optional
        File to which a line of proof is appended for each file.
    check : {"checksum", "size"}
        What a file that is here must share with the one at the door to be left alone.
    on_error : {"raise", "report"}
        With ``report`` failed files are told in the report alone.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Report
        The result for each file, in the order of ``paths``.

    Raises
    ------
    PartialFailure
        Some files failed; carries the report. The others are in place.
    """
    door = connect(profile)
    entries = [p if isinstance(p, Entry) else door.stat(p) for p in paths]
    for entry in entries:
        _refuse_directory(entry)
    root = door.normalise(base) if base else _paths.common_parent(e.path for e in entries)
    jobs = [_fetch.Job(e, _paths.local_path(e.path, root, Path(dest))) for e in entries]
    proofs = Manifest(Path(manifest)) if manifest else None
    report = _many.fetch_many(door, jobs, manifest=proofs, check=check)
    if report.failed and on_error == "raise":
        raise PartialFailure.of(report)
    return report


@task(name="fetch-dir", tags=["ctaflows"])
def fetch_dir(
    path: str,
    dest: StrPath = ".",
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    manifest: StrPath | None = None,
    check: Literal["checksum", "size"] = "checksum",
    profile: str | None = None,
) -> Report:
    """Fetch a directory with all that is below it, into ``dest/<name of the directory>``.

    Parameters
    ----------
    path : str
        A directory at the door.
    dest : path
        Folder here.
    include, exclude : sequence of str
        As for `find`.
    manifest, check, profile
        As for `fetch_files`.

    Raises
    ------
    PartialFailure
        Some files failed.
    """
    door = connect(profile)
    found = find(path, include=include, exclude=exclude, profile=profile)
    root = door.normalise(path)
    return fetch_files(
        found,
        Path(dest) / root.rpartition("/")[2],
        base=root,
        manifest=manifest,
        check=check,
        profile=profile,
    )


@task(name="verify-dir", tags=["ctaflows"])
def verify_dir(path: StrPath) -> list[Verdict]:
    """Compare a folder with the proofs that its transfers left in ``manifest.jsonl``.

    Parameters
    ----------
    path : path
        A folder with a manifest in it or below, or a manifest.

    Returns
    -------
    list of Verdict
        One for each file that a manifest names: ``intact``, ``damaged``, ``missing``,
        ``unreadable`` or ``failed``.

    Raises
    ------
    NotFound
        There is no manifest.
    """
    return _verify.verify(Path(path))


@task(name="upload-file", tags=["ctaflows"])
def upload_file(
    local: StrPath, path: str, *, overwrite: bool = False, profile: str | None = None
) -> Transfer:
    """Upload one file: under a temporary name, compared, then moved to its own.

    Parameters
    ----------
    local : path
        A file here.
    path : str
        Its path at the door; one that ends in ``/`` is completed with the file's name.
    overwrite : bool
        Replace another file that is there. The same file is never moved twice.
    profile : str, optional
        Settings to use.

    Raises
    ------
    AlreadyExists
        Another file is there.
    IntegrityError
        What arrived is not what was sent; nothing is left behind.
    """
    return _upload.upload(connect(profile), Path(local), path, overwrite=overwrite)


@task(name="upload-dir", tags=["ctaflows"])
def upload_dir(
    local: StrPath, path: str, *, overwrite: bool = False, profile: str | None = None
) -> Report:
    """Upload a directory with all files below it, into ``path/<name of the directory>``.

    Parameters
    ----------
    local : path
        A directory here. Links are not followed into other directories.
    path : str
        Directory at the door; it is made if need be.
    overwrite, profile
        As for `upload_file`.

    Raises
    ------
    PartialFailure
        Some files failed; the others are in place.
    """
    source = Path(local)
    if not source.is_dir():
        raise NotFound("There is no such directory here", where=str(local))
    report = _uploads.upload_many(
        connect(profile), _uploads.files_of(source, path), overwrite=overwrite
    )
    if report.failed:
        raise PartialFailure.of(report)
    return report


@task(name="inspect-dl1", tags=["ctaflows"])
def inspect_dl1(path: StrPath) -> DL1Summary:
    """Tell what is in a DL1 file: layout, run, tables, events by type, times, rates.

    Parameters
    ----------
    path : path
        A file here, in lstchain's or ctapipe's layout.

    Raises
    ------
    IntegrityError
        The file is damaged, or no HDF5 at all.
    """
    from ctaflows.dl1.inspect import inspect_file

    return inspect_file(Path(path))


@task(name="inspect-dl1-files", tags=["ctaflows"])
def inspect_dl1_files(paths: Sequence[StrPath]) -> list[Inspection]:
    """Tell what is in each of many DL1 files, damaged ones with their error.

    Parameters
    ----------
    paths : sequence of path
        Files here.

    Returns
    -------
    list of Inspection
        In the order of ``paths``.
    """
    found = []
    for path in paths:
        try:
            found.append(Inspection(str(path), inspect_dl1.fn(path)))
        except CtaflowsError as why:
            found.append(Inspection(str(path), error=error_text(why)))
    return found


@task(name="list-night", tags=["ctaflows"])
def list_night(date: str, *, version: str = "latest", profile: str | None = None) -> Night:
    """List all files of a night.

    Parameters
    ----------
    date : str
        The evening's date, ``20241114`` or ``2024-11-14``.
    version : str
        Such as ``v0.1``; ``latest`` takes the highest there is.
    profile : str, optional
        Settings to use; ``night_path`` tells where nights lie.

    Raises
    ------
    NotFound
        There is no such night or version.
    """
    day = names.parse_date(date)
    door = connect(profile)
    where, rest = night.directories(door.settings.night_path, day, version)
    found: str | None = version if "{version}" in door.settings.night_path else None
    try:
        if rest is not None:
            found = night.latest(e.name for e in door.list(where) if e.is_dir)
            where = f"{where}/{found}/{rest}" if found else where
        entries = tuple(files_below(door, where))
    except NotFound as why:
        parent = door.settings.night_path.partition("{")[0].strip("/")
        raise NotFound(
            f"There is no night {day:%Y%m%d}" + (f" {version}" if rest is None else ""),
            where=why.where,
            hint=f"`ctaflows ls {parent}` shows the nights there are, one of them its versions.",
        ) from why
    return Night(f"{day:%Y%m%d}", found, door.normalise(where), entries)


@task(name="refresh-token", tags=["ctaflows"])
def refresh_token(*, profile: str | None = None) -> TokenInfo:
    """Renew the stored token now.

    Parameters
    ----------
    profile : str, optional
        Settings to use.

    Returns
    -------
    TokenInfo
        Whose it is and how long it lives; never the token.

    Raises
    ------
    TokenMissing
        Nothing is stored for this profile.
    LoginNeeded
        The issuer will not renew it: a person must log in again.
    """
    return _keeper(profile).refresh()


@task(name="keep-token", tags=["ctaflows"])
def keep_token(*, profile: str | None = None) -> TokenInfo:
    """Renew the stored token if half of its life is over, or less than five minutes are left.

    Parameters
    ----------
    profile : str, optional
        Settings to use.

    Returns
    -------
    TokenInfo
        Whose it is and how long it lives; never the token.

    Raises
    ------
    TokenMissing, LoginNeeded
        As for `refresh_token`.
    CtaflowsError
        The issuer could not be asked; the old token may still hold.
    """
    from ctaflows.auth.agent import FRACTION, MARGIN_S

    keeper = _keeper(profile)
    keeper.warm(MARGIN_S, fraction=FRACTION, quiet=False)
    return keeper.stored_info()


@task(name="share-token", tags=["ctaflows"])
def share_token(block: str, *, profile: str | None = None) -> None:
    """Keep a copy of the access token in a Prefect Secret block, never the refresh token.

    For workers that share no home; they set ``token_source`` to ``block:NAME``. Every client of the
    Prefect API can read the block.

    Parameters
    ----------
    block : str
        Name of the block; it is made, or replaced.
    profile : str, optional
        Settings to use.
    """
    from ctaflows.auth import block as _block

    _block.put(block, _keeper(profile).token())


@task(name="get-token-info", tags=["ctaflows"])
def get_token_info(*, profile: str | None = None) -> TokenInfo:
    """Tell whose token would be used, where it was found and how long it lives.

    Parameters
    ----------
    profile : str, optional
        Settings to use.

    Raises
    ------
    TokenMissing
        None was found.
    """
    return _keeper(profile).info()


def _keeper(profile: str | None) -> Keeper:
    from ctaflows import settings
    from ctaflows.auth.keeper import Keeper

    return Keeper(settings.load(profile))


def plan_fetch(
    entries: Sequence[Entry], dest: StrPath, *, base: str, manifest: StrPath | None = None
) -> list[Transfer]:
    """Say what `fetch_files` would do, without doing it: the reason stands in ``note``.

    Parameters
    ----------
    entries, dest, base, manifest
        As for `fetch_files`.
    """
    jobs = [_fetch.Job(e, _paths.local_path(e.path, base, Path(dest))) for e in entries]
    return _many.plan(jobs, manifest=Manifest(Path(manifest)) if manifest else None)


def _refuse_directory(entry: Entry) -> None:
    if entry.is_dir:
        raise UsageError(
            "That is a directory", where=entry.path, hint="Fetch it with -r, or with fetch_dir."
        )
