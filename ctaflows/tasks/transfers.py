"""Operations that move files: plan, fetch, upload, mirror, verify."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctaflows.atomic_files import NobodyReads
from ctaflows.errors import NotFound, PartialFailure, UsageError
from ctaflows.model import Entry, Report, StrPath, Transfer
from ctaflows.storage import paths as _paths
from ctaflows.storage.connect import connect, reconnect
from ctaflows.storage.links import Kind, kind_of, refuse_link
from ctaflows.storage.namespace import RemovalPlan
from ctaflows.storage.search import Criteria
from ctaflows.storage.walk import unless_excluded, walk
from ctaflows.tasks.namespace import find
from ctaflows.tracking.cancellation import stopped_by_cancellation
from ctaflows.tracking.concurrency_limit import limited
from ctaflows.tracking.opaque import OpaqueSequence
from ctaflows.tracking.task import task
from ctaflows.transfer import cargo as _cargo
from ctaflows.transfer import decide as _decide
from ctaflows.transfer import fetch as _fetch
from ctaflows.transfer import haul as _haul
from ctaflows.transfer import many as _many
from ctaflows.transfer import uploads as _uploads
from ctaflows.transfer import verify as _verify
from ctaflows.transfer.fetch import destination as destination
from ctaflows.transfer.manifest import NAME, Manifest
from ctaflows.transfer.progress import Progress, reported_to

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.decide import Check
    from ctaflows.transfer.verify import Verdict

    #: A file to fetch: its path, or its entry from a listing, which spares a request; or a pair of
    #: that and where it goes, a folder or the local file's name.
    Fetchable: TypeAlias = str | Entry | tuple[str | Entry, StrPath]


#: What the manifest of a directory is called.
MANIFEST = NAME


@task(name="fetch-file", tags=["ctaflows"])
def fetch_file(
    path: str | Entry,
    dest: StrPath = ".",
    *,
    check: Check = "proof",
    local_checksum: bool = True,
    progress: Progress | None = None,
    profile: str | None = None,
) -> Transfer:
    """Fetch one file, resumed and verified; one that is in place already is not moved.

    Parameters
    ----------
    path : str or Entry
        A remote file.
    dest : path
        A folder to put it into (one that exists, or a path that ends in ``/``), or its new name.
    check : {"proof", "checksum", "size"}
        What a local file must share with the remote one to be left alone, see
        `ctaflows.transfer.decide.Check`.
    local_checksum : bool
        Compute a checksum of the local file where the storage has none to compare with. For a large
        file that costs half of what receiving costs.
    progress : Progress, optional
        Told how many files and bytes are expected and done.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Transfer
        ``verified`` is True where the storage has a checksum and the local file has the same.

    Raises
    ------
    CtaflowsError
        The file is not in place under its final name; what was received is kept for the next call.
    """
    door = connect(profile)
    entry = path if isinstance(path, Entry) else door.stat(path)
    _refuse_directory(entry)
    job = _fetch.Job(entry, destination(dest, entry.name), local_checksum)
    with stopped_by_cancellation(), reported_to(progress):
        return _many.fetch_alone(door, job, check=check)


@task(name="fetch-files", tags=["ctaflows"])
def fetch_files(
    paths: Sequence[Fetchable],
    dest: StrPath = ".",
    *,
    base: str | None = None,
    manifest: StrPath | None = None,
    check: Check = "proof",
    on_error: Literal["raise", "report"] = "raise",
    progress: Progress | None = None,
    second_process: bool = False,
    profile: str | None = None,
) -> Report:
    """Fetch many files at once.

    Parameters
    ----------
    paths : sequence of str, Entry, or (str or Entry, path)
        Remote files. Entries from a listing spare a request each. In a pair the second is where
        that file goes, as for `fetch_file`.
    dest : path
        Folder to put them into.
    base : str, optional
        Remote directory that ``dest`` stands for: what is below it keeps its sub-directories. None
        means the deepest directory that holds all files.
    manifest : path, optional
        File to which a line with the result is appended for each file.
    check : {"proof", "checksum", "size"}
        As for `fetch_file`.
    on_error : {"raise", "report"}
        With ``report`` failed files are in the report alone.
    progress : Progress, optional
        Told how many files and bytes are expected and done.
    second_process : bool
        Let a second process, made by fork, share the work where that is faster. Only for a process
        that has one thread.
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
    jobs = jobs_of(door, paths, dest, base)
    records = _records(manifest, jobs)
    with (
        limited(door.settings.door_url),
        _haul.beside(door, jobs, manifest=records, check=check, afresh=partial(reconnect, door))
        if second_process
        else contextlib.nullcontext() as other,
        reported_to(progress),
    ):
        report = _many.fetch_many(door, jobs, manifest=records, check=check, beside=other)
    if report.failed and on_error == "raise":
        raise PartialFailure.of(report)
    return report


def plan_fetch(
    paths: Sequence[Fetchable],
    dest: StrPath = ".",
    *,
    base: str | None = None,
    manifest: StrPath | None = None,
    check: Check = "proof",
    profile: str | None = None,
) -> list[Transfer]:
    """Return what `fetch_files` would do, without doing it: ``note`` has the reason.

    Parameters
    ----------
    paths, dest, base, manifest, check, profile
        As for `fetch_files`.
    """
    jobs = jobs_of(connect(profile), paths, dest, base)
    return _many.plan(jobs, manifest=_records(manifest, jobs), check=check)


def jobs_of(
    door: Storage, paths: Sequence[Fetchable], dest: StrPath, base: str | None
) -> list[_fetch.Job]:
    """Return which file goes where; parameters are those of `fetch_files`."""
    pairs = [one if isinstance(one, tuple) else (one, None) for one in paths]
    files = [(f if isinstance(f, Entry) else door.stat(f), where) for f, where in pairs]
    for entry, _ in files:
        _refuse_directory(entry)
    if base is None:
        root = _paths.common_parent(e.path for e, where in files if where is None)
    else:
        root = door.normalise(base)
    folder = Path(dest)
    return [
        _fetch.Job(
            entry,
            _paths.local_path(entry.path, root, folder)
            if where is None
            else destination(where, entry.name),
        )
        for entry, where in files
    ]


def _records(manifest: StrPath | None, jobs: Sequence[_fetch.Job]) -> Manifest | None:
    if manifest is None:
        return None
    return Manifest(Path(manifest), of=[job.entry.path for job in jobs])


def _refuse_directory(entry: Entry) -> None:
    if entry.is_dir:
        raise UsageError(
            "That is a directory", where=entry.path, hint="Fetch it with -r, or with fetch_dir."
        )


def fetch_into(
    path: str | Entry, descriptor: int, name: str, *, profile: str | None = None
) -> Transfer:
    """Write a remote file's bytes into a device, a pipe or a stream, in order, as they arrive.

    Parameters
    ----------
    path : str or Entry
        A remote file.
    descriptor : int
        Descriptor of what to write into, such as ``sys.stdout.fileno()``.
    name : str
        What it is called in messages.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Transfer
        ``verified`` as for `fetch_file`.

    Raises
    ------
    ChecksumMismatch
        What was written is not what the storage holds.
    BrokenPipeError
        The reader of a pipe has gone.
    """
    door = connect(profile)
    entry = path if isinstance(path, Entry) else door.stat(path)
    _refuse_directory(entry)
    try:
        with stopped_by_cancellation():
            return _fetch.fetch_into(door, entry, descriptor, name)
    except NobodyReads:
        raise BrokenPipeError from None


@task(name="fetch-dir", tags=["ctaflows"])
def fetch_dir(
    path: str,
    dest: StrPath = ".",
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    manifest: StrPath | None = None,
    check: Check = "proof",
    progress: Progress | None = None,
    profile: str | None = None,
) -> Report:
    """Fetch a directory with all that is below it, into ``dest/<name of the directory>``.

    Parameters
    ----------
    path : str
        A remote directory.
    dest : path
        A local folder.
    include, exclude : sequence of str
        As for `find`.
    manifest, check, progress, profile
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
        progress=progress,
        profile=profile,
    )


def failed_transfers(manifest: StrPath) -> list[Transfer]:
    """Return the transfers that a manifest records as failed.

    Parameters
    ----------
    manifest : path
        A file that `fetch_files` or `upload_files` has written. The last line of a file counts.
    """
    return [record for record in Manifest(Path(manifest)).proofs.values() if record.error]


@task(name="verify-dir", tags=["ctaflows"])
def verify_dir(path: StrPath, *, progress: Progress | None = None) -> list[Verdict]:
    """Check every file listed in a folder's manifests against its recorded size and checksum.

    Parameters
    ----------
    path : path
        A folder with a ``manifest.jsonl`` in it or below, or a manifest.
    progress : Progress, optional
        Told how many files and bytes are expected and done.

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
    with reported_to(progress):
        return _verify.verify(Path(path))


@task(name="upload-file", tags=["ctaflows"])
def upload_file(
    local: StrPath,
    path: str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    profile: str | None = None,
) -> Transfer:
    """Upload one file: under a temporary name, compared, then moved to its own.

    Parameters
    ----------
    local : path
        A local file.
    path : str
        Its remote path; one that ends in ``/`` is completed with the file's name.
    overwrite : bool
        Replace another file that is there. The same file is never moved twice.
    progress : Progress, optional
        Told how many files and bytes are expected and done.
    profile : str, optional
        Settings to use.

    Raises
    ------
    AlreadyExists
        Another file is there.
    IntegrityError
        What arrived is not what was sent; nothing is left behind.
    """
    with stopped_by_cancellation(), reported_to(progress):
        return _uploads.upload_alone(connect(profile), Path(local), path, overwrite=overwrite)


@task(name="upload-dir", tags=["ctaflows"])
def upload_dir(
    local: StrPath,
    path: str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    profile: str | None = None,
) -> Report:
    """Upload a directory with all files below it, into ``path/<name of the directory>``.

    Parameters
    ----------
    local : path
        A local directory. Links are not followed into other directories.
    path : str
        A remote directory; it is made if need be.
    overwrite, progress, profile
        As for `upload_file`.

    Raises
    ------
    PartialFailure
        Some files failed; the others are in place.
    """
    source = Path(local)
    if not source.is_dir():
        raise NotFound("There is no such directory here", where=str(local))
    pairs = _uploads.files_of(source, path)
    report: Report = upload_files.fn(pairs, overwrite=overwrite, progress=progress, profile=profile)
    return report


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
    path: str | Entry,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    profile: str | None = None,
) -> Tree:
    """List a directory with all that is below it.

    Parameters
    ----------
    path : str or Entry
        A remote directory.
    include, exclude, profile
        As for `find`. Excluded directories are not listed.

    Raises
    ------
    NotFound
        There is nothing at the path.
    UsageError
        A file is there.
    """
    door = connect(profile)
    root = path if isinstance(path, Entry) else door.stat(path)
    if not root.is_dir:
        raise UsageError(
            "That is a file", where=root.path, hint=f"Fetch it with: ctaflows get {root.path}"
        )
    base = root.path.rstrip("/") + "/"
    empty: list[str] = []
    found = walk(
        door, root.path, ordered=True, enter=unless_excluded(exclude), on_empty=empty.append
    )
    files = [entry for entry in found if not entry.is_dir]
    names = [entry.path.removeprefix(base) for entry in files]
    criteria = Criteria(include=tuple(include), exclude=tuple(exclude))
    wanted = [e for e, name in zip(files, names, strict=True) if criteria.accept(e, name)]
    empty += [entry.path for entry in files if kind_of(entry) is Kind.UNKNOWN]
    shown_empty = [where.rstrip("/").removeprefix(base.rstrip("/")).strip("/") for where in empty]
    return Tree(
        root.path, OpaqueSequence(wanted), OpaqueSequence(names), OpaqueSequence(shown_empty)
    )


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
    progress: Progress | None = None,
    second_process: bool = False,
    profile: str | None = None,
) -> Report:
    """Upload many files at once.

    Parameters
    ----------
    pairs : sequence of (path, str)
        Local file, and its remote path.
    overwrite : bool
        Replace other files that are there. The same file is never moved twice.
    manifest : path, optional
        File to which a line with the result is appended for each file.
    on_error : {"raise", "report"}
        With ``report`` failed files are in the report alone.
    progress, second_process
        As for `fetch_files`.
    profile : str, optional
        Settings to use.

    Raises
    ------
    PartialFailure
        Some files failed; carries the report. The others are in place.
    """
    records = Manifest(Path(manifest)) if manifest else None
    door = connect(profile)
    with limited(door.settings.door_url):
        lading = _uploads.lading_of(door, [(Path(local), remote) for local, remote in pairs])
        with (
            _cargo.beside(
                door, lading, manifest=records, overwrite=overwrite, afresh=partial(reconnect, door)
            )
            if second_process
            else contextlib.nullcontext() as other,
            reported_to(progress),
        ):
            report = _uploads.upload_lading(
                door, lading, overwrite=overwrite, manifest=records, beside=other
            )
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


def find_extraneous(
    local: Sequence[StrPath],
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    profile: str | None = None,
) -> tuple[RemovalPlan, list[str]]:
    """List the files of remote directories that the local ones they mirror do not have.

    Parameters
    ----------
    local : sequence of path
        Local directories.
    path : str
        Remote directory that holds their mirrors, each as ``path/<name of the directory>``.
    include, exclude : sequence of str
        Files that are not selected are left alone.
    profile : str, optional
        Settings to use.

    Returns
    -------
    plan : RemovalPlan
        For `remove`.
    kept : list of str
        Remote paths of files that have no local counterpart, and are yet not in the plan: their
        local folder is empty, or a link.

    Raises
    ------
    StorageError
        A mirror is a symbolic link, or that can't be told.
    """
    sources: dict[str, tuple[list[str], list[str]]] = {}  # two folders of one name share a mirror
    for source in map(Path, local):
        above = f"{path.rstrip('/')}/{source.resolve().name}/"
        here, unseen = sources.setdefault(above, ([], []))
        here += [r.removeprefix(above) for _, r in _uploads.files_of(source, path, unseen)]
    door = connect(profile)
    plan, all_kept = RemovalPlan(), list[str]()
    for above, (here, unseen) in sources.items():
        mirror = door.exists(above)
        if mirror is None:
            continue
        if mirror.is_dir:
            refuse_link(door, mirror.path, itself=mirror, must_be_known=True)
        base = mirror.path.rstrip("/") + "/"
        there = {e.path.removeprefix(base): e for e in walk(door, mirror.path) if not e.is_dir}
        extra, kept = _decide.extraneous(there, here, unseen, include, exclude)
        plan.add(there[name] for name in extra)
        all_kept += [base + name for name in kept]
    return plan, all_kept
