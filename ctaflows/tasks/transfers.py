"""Tasks that move files, and prove them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctaflows.errors import NotFound, PartialFailure, UsageError
from ctaflows.model import Entry, Report, StrPath, Transfer
from ctaflows.storage import paths as _paths
from ctaflows.storage.connect import connect
from ctaflows.tasks.namespace import find
from ctaflows.tracking.cancellation import followed
from ctaflows.tracking.concurrency_limit import admitted
from ctaflows.tracking.task import task
from ctaflows.transfer import fetch as _fetch
from ctaflows.transfer import many as _many
from ctaflows.transfer import upload as _upload
from ctaflows.transfer import uploads as _uploads
from ctaflows.transfer import verify as _verify
from ctaflows.transfer.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.transfer.decide import Check
    from ctaflows.transfer.verify import Verdict


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
    with followed():
        return _fetch.fetch(door, _fetch.Job(entry, _fetch.destination(dest, entry.name)))


@task(name="fetch-files", tags=["ctaflows"])
def fetch_files(
    paths: Sequence[str | Entry],
    dest: StrPath = ".",
    *,
    base: str | None = None,
    manifest: StrPath | None = None,
    check: Check = "proof",
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
    check : {"proof", "checksum", "size"}
        What a file that is here must share with the one at the door to be left alone, see
        `transfer.plan.Check`.
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
    proofs = Manifest(Path(manifest), of=[e.path for e in entries]) if manifest else None
    with admitted(door.settings.door_url):
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
    check: Check = "proof",
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
    with followed():
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
    door = connect(profile)
    with admitted(door.settings.door_url):
        report = _uploads.upload_many(door, _uploads.files_of(source, path), overwrite=overwrite)
    if report.failed:
        raise PartialFailure.of(report)
    return report


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
