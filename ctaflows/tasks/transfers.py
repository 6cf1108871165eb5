"""Tasks that move files, and prove them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctaflows.errors import NotFound, PartialFailure, UsageError
from ctaflows.model import Entry, Report, StrPath, Transfer
from ctaflows.storage import paths as _paths
from ctaflows.storage.connect import connect
from ctaflows.storage.links import may_hide_files
from ctaflows.storage.walk import is_wanted, unless_excluded, walk
from ctaflows.tasks.namespace import find
from ctaflows.tracking.cancellation import stopped_by_cancellation
from ctaflows.tracking.concurrency_limit import limited
from ctaflows.tracking.opaque import OpaqueSequence
from ctaflows.tracking.task import task
from ctaflows.transfer import decide as _decide
from ctaflows.transfer import fetch as _fetch
from ctaflows.transfer import many as _many
from ctaflows.transfer import upload as _upload
from ctaflows.transfer import uploads as _uploads
from ctaflows.transfer import verify as _verify
from ctaflows.transfer.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.model import StrPath, Transfer
    from ctaflows.storage.webdav import WebDAVStorage
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
    with stopped_by_cancellation():
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
        `ctaflows.transfer.decide.Check`.
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
    with limited(door.settings.door_url):
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
    with stopped_by_cancellation():
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
    with limited(door.settings.door_url):
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


# -- whole trees -----------------------------------------------------------------------------------
#
# Tasks that keep whole trees in step: what is there, what is here, and what is too much.


@dataclass(frozen=True)
class Tree:
    """What a listing of a directory and all below it has shown.

    Attributes
    ----------
    path : str
        The directory, from the door's root.
    files : sequence of Entry
        The files that are wanted.
    names : sequence of str
        All files that were shown, wanted or not, relative to ``path``.
    empty : sequence of str
        Directories in which nothing was shown, and what may be a directory that was not shown,
        likewise; "" is ``path`` itself.
    """

    path: str
    files: Sequence[Entry] = ()
    names: Sequence[str] = ()
    empty: Sequence[str] = ()


@task(name="list-tree", tags=["ctaflows"])
def list_tree(
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    profile: str | None = None,
) -> Tree:
    """List a directory with all that is below it.

    Parameters
    ----------
    path : str
        A directory at the door.
    include, exclude, profile
        As for `find`. Directories that are left out are not listed.

    Raises
    ------
    NotFound
        There is nothing at the path.
    UsageError
        A file is there.
    """
    door = connect(profile)
    root = door.stat(path)
    if not root.is_dir:
        raise UsageError(
            "That is a file", where=root.path, hint=f"Fetch it with: ctaflows get {root.path}"
        )
    return tree_below(door, root, include, exclude)


def tree_below(
    door: WebDAVStorage, root: Entry, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Tree:
    """Return a directory with all that is below it, as `list_tree`.

    Parameters
    ----------
    door : WebDAVStorage
        Where it is.
    root : Entry
        The directory.
    include, exclude
        As for `list_tree`.
    """
    base = root.path.rstrip("/") + "/"
    empty: list[str] = []
    found = walk(
        door, root.path, ordered=True, enter=unless_excluded(exclude), on_empty=empty.append
    )
    files = [entry for entry in found if not entry.is_dir]
    names = [entry.path.removeprefix(base) for entry in files]
    wanted = [
        entry
        for entry, name in zip(files, names, strict=True)
        if is_wanted(entry, name, include, exclude)
    ]
    empty += [entry.path for entry in files if may_hide_files(entry)]
    shown_empty = [where.rstrip("/").removeprefix(base.rstrip("/")).strip("/") for where in empty]
    return Tree(
        root.path, OpaqueSequence(wanted), OpaqueSequence(names), OpaqueSequence(shown_empty)
    )


def plan_tree(
    tree: Tree, dest: StrPath, *, manifest: StrPath | None = None, check: Check = "proof"
) -> list[Transfer]:
    """Say what `fetch_files` would do with the files of a tree: the reason stands in ``note``.

    Parameters
    ----------
    tree : Tree
        What a directory showed.
    dest : path
        Its mirror here.
    manifest, check
        As for `fetch_files`.
    """
    jobs = [_fetch.Job(e, _paths.local_path(e.path, tree.path, Path(dest))) for e in tree.files]
    proofs = Manifest(Path(manifest)) if manifest else None
    return _many.plan(jobs, manifest=proofs, check=check)


@task(name="prune-tree", tags=["ctaflows"])
def prune_tree(
    tree: Tree,
    dest: StrPath,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    spare: StrPath | None = None,
    dry_run: bool = False,
) -> tuple[list[str], list[str]]:
    """Delete files here that the directory at the door does not have.

    Parameters
    ----------
    tree : Tree
        What the directory showed.
    dest : path
        Its mirror here.
    include, exclude : sequence of str
        Files that are not selected are left alone, and so are manifests and part files.
    spare : path, optional
        A manifest of another name.
    dry_run : bool
        Only say what would be deleted.

    Returns
    -------
    deleted, kept : list of str
        Relative to ``dest``; kept are those whose directory was shown empty, as a dCache door shows
        one that it can't read, or not at all.
    """
    folder = Path(dest)
    here = sorted(_decide.files_here(folder))
    extra, kept = _decide.extraneous(here, tree.names, tree.empty, include, exclude)
    if spare is not None:
        extra = [name for name in extra if (folder / name).absolute() != Path(spare).absolute()]
    if not dry_run:
        _decide.remove_here(folder, extra)
    return extra, kept


def find_uploads(
    local: Sequence[StrPath], path: str, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[tuple[str, Entry]]:
    """Say which files here go where.

    Parameters
    ----------
    local : sequence of path
        Files, and folders with all that is below them. Links to other folders are not followed.
    path : str
        Directory at the door: a file becomes ``path/NAME``, a folder ``path/NAME/…``.
    include, exclude : sequence of str
        Shell patterns, see `paths.selected`: of the path below a folder, or of a file's name.

    Returns
    -------
    list of (str, Entry)
        Path here, and what is to be at the door.

    Raises
    ------
    NotFound
        Something is not there.
    UsageError
        Two files would get the same name there, or a folder can't be read.
    """
    base = path.rstrip("/")
    found: dict[str, tuple[str, Entry]] = {}
    for source in map(Path, local):
        if not source.exists():
            raise NotFound("There is no such file here", where=str(source))
        if source.is_dir():
            above = f"{base}/{source.resolve().name}/"
            pairs = [(file, there, there.removeprefix(above))
                     for file, there in _uploads.files_of(source, base)]  # fmt: skip
        else:
            pairs = [(source, f"{base}/{source.name}", source.name)]
        for file, there, name in pairs:
            if not _paths.selected(name, include, exclude):
                continue
            if there in found:
                raise UsageError(
                    "Two files would get the same name there",
                    where=there,
                    said=f"{found[there][0]} and {file}",
                    hint="Upload them into different directories.",
                )
            size = file.stat().st_size if file.exists() else None
            found[there] = (str(file), Entry(there, size_bytes=size))
    return list(found.values())


@task(name="upload-files", tags=["ctaflows"])
def upload_files(
    pairs: Sequence[tuple[StrPath, str]],
    *,
    overwrite: bool = False,
    manifest: StrPath | None = None,
    on_error: Literal["raise", "report"] = "raise",
    profile: str | None = None,
) -> Report:
    """Upload many files at once.

    Parameters
    ----------
    pairs : sequence of (path, str)
        File here, and its path at the door.
    overwrite : bool
        Replace other files that are there. The same file is never moved twice.
    manifest : path, optional
        File to which a line of proof is appended for each file.
    on_error : {"raise", "report"}
        With ``report`` failed files are told in the report alone.
    profile : str, optional
        Settings to use.

    Raises
    ------
    PartialFailure
        Some files failed; carries the report. The others are in place.
    """
    proofs = Manifest(Path(manifest)) if manifest else None
    files = [(Path(local), there) for local, there in pairs]
    door = connect(profile)
    with limited(door.settings.door_url):
        report = _uploads.upload_many(door, files, overwrite=overwrite, manifest=proofs)
    if report.failed and on_error == "raise":
        raise PartialFailure.of(report)
    return report


def plan_uploads(
    pairs: Sequence[tuple[StrPath, str]], *, overwrite: bool = False, profile: str | None = None
) -> list[Transfer]:
    """Say what `upload_files` would do, without doing it: the reason stands in ``note``.

    Parameters
    ----------
    pairs, overwrite, profile
        As for `upload_files`.
    """
    return _uploads.plan(
        connect(profile), [(Path(local), there) for local, there in pairs], overwrite=overwrite
    )
