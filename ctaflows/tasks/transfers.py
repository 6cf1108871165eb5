"""Operations that transfer files: plan, fetch, upload, mirror, verify."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctaflows.atomic_files import NobodyReads
from ctaflows.errors import NotFound, PartialFailure, UsageError, error_text
from ctaflows.model import Entry, Report, StrPath, Transfer
from ctaflows.storage import paths as _paths
from ctaflows.storage.connect import connect
from ctaflows.storage.links import refuse_as_file, refuse_link, words
from ctaflows.storage.namespace import PathResult, RemovalPlan, keep_behind_links, unread_entries
from ctaflows.storage.search import Criteria
from ctaflows.storage.walk import unconfirmed, unless_excluded, walk
from ctaflows.tracking.cancellation import stopped_by_cancellation
from ctaflows.tracking.concurrency_limit import limited
from ctaflows.tracking.opaque import OpaqueSequence
from ctaflows.tracking.task import get_logger, task
from ctaflows.transfer import batch as _batch
from ctaflows.transfer import decide as _decide
from ctaflows.transfer import download as _download
from ctaflows.transfer import uploads as _uploads
from ctaflows.transfer import verify as _verify
from ctaflows.transfer.download import destination as destination
from ctaflows.transfer.manifest import NAME, Manifest
from ctaflows.transfer.progress import Progress, reported_to

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import TypeAlias

    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.decide import Check
    from ctaflows.transfer.verify import Verdict

    #: A file to fetch: its remote path, or its entry from a listing, which saves a request; or a
    #: pair of one of these and the local destination, as for `fetch_file`.
    Fetchable: TypeAlias = str | Entry | tuple[str | Entry, StrPath]


#: Name of the manifest in a fetched directory.
MANIFEST = NAME
#: What a directory in `Tree.links` is.
LISTED_ELSEWHERE = "listed by another path"


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
    """Fetch one file and verify its checksum; an interrupted download is resumed.

    A local file that is the same already is not fetched again, see ``check``.

    Parameters
    ----------
    path : str or Entry
        A remote file; an Entry from a listing saves a request.
    dest : path
        A local folder (one that exists, or a path that ends in ``/``), or the local file's name.
    check : {"proof", "checksum", "size"}
        What must be equal before a local file is left as it is. ``size``: the size alone. The
        others: the size and the file's checksum; or, where the storage has no checksum, the size
        and the time of the last modification. The two differ only where there is a manifest, see
        `fetch_files`.
    local_checksum : bool
        Compute the sha256 of the local file where the storage has no checksum to compare with. For
        a large file that takes half as long as receiving it.
    progress : Progress, optional
        Receiver of progress reports: files and bytes, expected and done.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Transfer
        ``verified`` is True if the file's checksum is one that the storage reports.

    Raises
    ------
    NotFound
        There is nothing at the path.
    UsageError
        There is a directory at the path.
    CtaflowsError
        The file could not be fetched, and is not there under its final name. The bytes received
        are kept for the next call.
    """
    door = connect(profile)
    entry = path if isinstance(path, Entry) else door.stat(path)
    _refuse_directory(entry)
    job = _download.Job(entry, destination(dest, entry.name), local_checksum)
    with stopped_by_cancellation(), reported_to(progress):
        return _batch.fetch_alone(door, job, check=check)


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
    second_process: bool = False,  # noqa: ARG001
    profile: str | None = None,
) -> Report:
    """Fetch many files, several at a time.

    Parameters
    ----------
    paths : sequence of str, Entry, or (str or Entry, path)
        Remote files; an Entry from a listing saves a request. In a pair the second item is the
        local destination of that file, as ``dest`` of `fetch_file`.
    dest : path
        Local folder of all files that have no destination of their own.
    base : str, optional
        Remote directory whose local copy is ``dest``: files keep their path relative to it. By
        default, the deepest directory that holds all files.
    manifest : path, optional
        Local file that records the result for each file, a line of JSON each. What it records as
        verified is not read again, see ``check``.
    check : {"proof", "checksum", "size"}
        What must be equal before a local file is left as it is, beside its size. ``proof``: the
        checksum and the time that the manifest records as verified, else the file's own checksum.
        ``checksum``: the file's checksum, always computed anew. ``size``: nothing more. Where the
        storage has no checksum, the time of the last modification takes its place.
    on_error : {"raise", "report"}
        Whether failed files raise `PartialFailure`, or are reported only.
    progress : Progress, optional
        Receiver of progress reports: files and bytes, expected and done.
    second_process : bool
        Without effect since 0.2: one process is faster than two were.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Report
        The result for each file, in the order of ``paths``.

    Raises
    ------
    PartialFailure
        Some files failed; its ``report`` has all results. The other files are in place.
    UsageError
        A path is a directory, or two files would have the same local path; nothing was fetched.
    NoSpace
        The files need more than the free disk space; nothing was fetched.
    """
    door = connect(profile)
    jobs = jobs_of(door, paths, dest, base)
    records = _records(manifest, jobs)
    with limited(door.url), reported_to(progress):
        report = _batch.fetch_many(door, jobs, manifest=records, check=check)
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
    """Return what `fetch_files` would do with each file; ``note`` has the reason.

    Parameters
    ----------
    paths, dest, base, manifest, check, profile
        As for `fetch_files`.
    """
    jobs = jobs_of(connect(profile), paths, dest, base)
    return _batch.plan(jobs, manifest=_records(manifest, jobs), check=check)


def jobs_of(
    door: Storage, paths: Sequence[Fetchable], dest: StrPath, base: str | None
) -> list[_download.Job]:
    """Return the files to fetch, each with its local path; the parameters are of `fetch_files`."""
    pairs = [one if isinstance(one, tuple) else (one, None) for one in paths]
    files = [(f if isinstance(f, Entry) else door.stat(f), where) for f, where in pairs]
    for entry, _ in files:
        _refuse_directory(entry)
    if not base:
        root = _paths.common_parent(e.path for e, where in files if where is None)
    else:
        root = door.normalise(base)
    folder = Path(dest)
    return [
        _download.Job(
            entry,
            _paths.local_path(entry.path, root, folder)
            if where is None
            else destination(where, entry.name),
        )
        for entry, where in files
    ]


def _records(manifest: StrPath | None, jobs: Sequence[_download.Job]) -> Manifest | None:
    if not manifest:
        return None
    return Manifest(Path(manifest), of=[job.entry.path for job in jobs])


def _refuse_directory(entry: Entry) -> None:
    try:
        refuse_as_file(entry)
    except UsageError as why:
        why.hint = "Fetch it with -r, or with fetch_dir."
        raise


def fetch_into(
    path: str | Entry, descriptor: int, name: str, *, profile: str | None = None
) -> Transfer:
    """Write the bytes of a remote file into a device, a pipe or a stream, as they arrive.

    Parameters
    ----------
    path : str or Entry
        A remote file.
    descriptor : int
        Open file descriptor to write to, such as ``sys.stdout.fileno()``.
    name : str
        Its name in messages.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Transfer
        ``verified`` is True if the bytes have a checksum that the storage reports.

    Raises
    ------
    ChecksumMismatch
        The bytes written do not have the storage's checksum.
    BrokenPipeError
        The reader has closed the pipe.
    """
    door = connect(profile)
    entry = path if isinstance(path, Entry) else door.stat(path)
    _refuse_directory(entry)
    try:
        with stopped_by_cancellation():
            return _batch.fetch_into(door, entry, descriptor, name)
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
    follow: bool = False,
    progress: Progress | None = None,
    profile: str | None = None,
) -> Report:
    """Fetch a directory with everything below it, into ``dest/<name of the directory>``.

    Parameters
    ----------
    path : str
        A remote directory.
    dest : path
        A local folder.
    include, exclude : sequence of str
        Shell patterns of the files to fetch and to leave out, as for `find`.
    follow : bool
        Fetch what symbolic links to directories lead to as well, into folders with the names of the
        links. Without, a warning names the links. A link to a file is always fetched as that file.
    manifest, check, progress, profile
        As for `fetch_files`. No manifest is written by default.

    Returns
    -------
    Report
        The result for each file.

    Raises
    ------
    NotFound
        There is nothing at the path.
    UsageError
        There is a file at the path.
    PartialFailure
        Some files failed, or directories can't be read; its ``report`` has all results. The other
        files are in place.
    """
    tree = list_tree(path, include=include, exclude=exclude, follow=follow, profile=profile)
    warn_of_links(tree.links)
    folder = Path(dest) / tree.path.rpartition("/")[2]
    report: Report = fetch_files(
        tree.files,
        folder,
        base=tree.path,
        manifest=manifest,
        check=check,
        on_error="report",
        progress=progress,
        profile=profile,
    )
    report += tree.unread_report(folder)
    if report.failed:
        raise PartialFailure.of(report)
    return report


def failed_transfers(manifest: StrPath) -> list[Transfer]:
    """Return the transfers that a manifest records as failed.

    Parameters
    ----------
    manifest : path
        Manifest written by `fetch_files` or `upload_files`. Of several lines about one file the
        last one counts.
    """
    records = Manifest(Path(manifest)).proofs.values()
    # no file has a name with a NUL: such a line was not written by us
    return [record for record in records if record.error and "\0" not in record.local]


@task(name="verify-dir", tags=["ctaflows"])
def verify_dir(path: StrPath, *, progress: Progress | None = None) -> list[Verdict]:
    """Check every file listed in a folder's manifests against its recorded size and checksum.

    Damaged files are recorded as such in their manifest, so that the next fetch fetches them again.

    Parameters
    ----------
    path : path
        A local folder with a ``manifest.jsonl`` in it or below, or the path of a manifest.
    progress : Progress, optional
        Receiver of progress reports: files and bytes, expected and done.

    Returns
    -------
    list of Verdict
        One for each file that a manifest lists. Its ``verdict`` is ``intact``, ``damaged``,
        ``missing``, ``unreadable``, or ``failed`` where the transfer had failed.

    Raises
    ------
    NotFound
        There is no manifest, or none that records a file.
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
    """Upload one file: under a temporary name, which becomes the final one once it is verified.

    Parameters
    ----------
    local : path
        A local file.
    path : str
        Its remote path; the file's name is added to one that ends in ``/``.
    overwrite : bool
        Replace a different file at that path. The same file is not uploaded again.
    progress : Progress, optional
        Receiver of progress reports: files and bytes, expected and done.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Transfer
        ``verified`` is True if the storage reports the local file's checksum.

    Raises
    ------
    AlreadyExists
        A different file is at that path.
    IntegrityError
        The bytes received by the storage differ from the local file; they were removed.
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
        A local directory. Symbolic links to directories are not followed.
    path : str
        A remote directory; it is made if it does not exist.
    overwrite, progress, profile
        As for `upload_file`.

    Returns
    -------
    Report
        The result for each file.

    Raises
    ------
    NotFound
        There is no such local directory.
    PartialFailure
        Some files failed; its ``report`` has all results. The other files are in place.
    """
    source = Path(local)
    if not source.is_dir():
        raise NotFound("There is no such local directory", where=str(local))
    pairs = _uploads.files_of(source, path)
    report: Report = upload_files.fn(pairs, overwrite=overwrite, progress=progress, profile=profile)
    return report


# -- whole trees -----------------------------------------------------------------------------------
#
# Tasks that keep a mirror equal to its source: the files of both, and the extraneous ones.


@dataclass(frozen=True)
class Tree:
    """The files of a remote directory and of all directories below it, as listed.

    Attributes
    ----------
    path : str
        The directory, absolute.
    files : sequence of Entry
        The files that the patterns select.
    names : sequence of str
        All files that were listed, selected or not, relative to ``path``.
    empty : sequence of str
        Directories whose files are unknown, relative to ``path``; "" is ``path`` itself. Their
        listing is empty and they can't be read (a dCache door shows such a directory as empty) or
        are gone, or they are listed by another path, or they are symbolic links that were not
        followed, or entries that the storage lists without properties.
    links : sequence of Entry
        Symbolic links to directories that are not listed by any path, links to nothing, and
        directories that are listed by another path instead, unless they are excluded.
    unread : sequence of Entry
        Directories that can't be read, each with the reason in ``error``.
    """

    path: str
    files: Sequence[Entry] = ()
    names: Sequence[str] = ()
    empty: Sequence[str] = ()
    links: Sequence[Entry] = ()
    unread: Sequence[Entry] = ()

    def unread_report(self, dest: StrPath, base: str | None = None) -> Report:
        """Return ``unread`` as transfers that failed, to be added to those of ``files``.

        Parameters
        ----------
        dest, base
            As for `fetch_files`; by default ``base`` is ``path``.
        """
        root = (self.path if base is None else base).rstrip("/")
        return Report(
            tuple(
                Transfer(
                    entry.path,
                    str(Path(dest) / entry.path.removeprefix(root).strip("/")),
                    error=entry.error,
                )
                for entry in self.unread
            )
        )


@task(name="list-tree", tags=["ctaflows"])
def list_tree(
    path: str | Entry,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow: bool = False,
    profile: str | None = None,
) -> Tree:
    """List a directory with everything below it.

    Parameters
    ----------
    path : str or Entry
        A remote directory.
    include, exclude, follow, profile
        As for `find`. Excluded directories are not listed.

    Returns
    -------
    Tree
        For `prune_tree`; its ``files`` are those to fetch.

    Raises
    ------
    NotFound
        There is nothing at the path.
    UsageError
        There is a file at the path.
    """
    door = connect(profile)
    root = path if isinstance(path, Entry) else door.stat(path)
    if not root.is_dir:
        raise UsageError(
            "That is a file", where=root.path, hint=f"Fetch it with: ctaflows get {root.path}"
        )
    base = root.path.rstrip("/") + "/"
    shown_empty: list[str] = []
    links: list[Entry] = []
    found = list(
        walk(
            door,
            root.path,
            ordered=True,
            enter=unless_excluded(exclude),
            follow=follow,
            on_empty=shown_empty.append,
            on_link=links.append,
        )
    )
    entered = {entry.parent for entry in found}
    entries = [entry for entry in found if not entry.is_dir]
    names = [entry.path.removeprefix(base) for entry in entries]
    criteria = Criteria(include=tuple(include), exclude=tuple(exclude), kind="file")
    wanted = [e for e, name in zip(entries, names, strict=True) if criteria.accept(e, name)]
    unread = unconfirmed(door, shown_empty)
    unseen = [entry for entry in entries if entry.kind in ("unknown", "link")]
    elsewhere = [entry for entry in links if entry.is_dir]
    unknown = [*unread, *(e.path for e in (*unseen, *elsewhere) if e.path not in entered)]
    empty = [where.rstrip("/").removeprefix(base.rstrip("/")).strip("/") for where in unknown]
    return Tree(
        root.path,
        OpaqueSequence(wanted),
        OpaqueSequence(names),
        OpaqueSequence(empty),
        OpaqueSequence(links),
        OpaqueSequence(unread_entries(unread)),
    )


def warn_of_links(links: Sequence[Entry]) -> None:
    """Log what is not fetched, since it is behind symbolic links, or these lead to nothing.

    Parameters
    ----------
    links : sequence of Entry
        From `Tree.links`, or ``on_link`` of `find`.
    """
    for link in links:
        hint = "" if link.link == "nothing" else ", not fetched: follow=True follows it"
        what = LISTED_ELSEWHERE if link.is_dir else words(link) + hint
        get_logger("transfers").warning("%s is %s", link.path, what)


@task(name="prune-tree", tags=["ctaflows"])
def prune_tree(
    tree: Tree,
    dest: StrPath,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    spare: StrPath | None = None,
    only: Collection[str] | None = None,
    dry_run: bool = False,
) -> tuple[list[str], list[str]]:
    """Delete the files of a local mirror that the remote directory does not have.

    Manifests and unfinished downloads are never deleted.

    Parameters
    ----------
    tree : Tree
        The remote directory, from `list_tree`.
    dest : path
        Its local mirror.
    include, exclude : sequence of str
        Shell patterns, as for `find`; files that they do not select are left alone.
    spare : path, optional
        A local file to keep, such as a manifest with a name of its own.
    only : collection of str, optional
        Delete only these, from an earlier call with ``dry_run``: what has come since the remote
        directory was listed stays.
    dry_run : bool
        Delete nothing, and return what would be deleted.

    Returns
    -------
    deleted, kept : list of str
        Paths relative to ``dest``: those deleted; and those that are not in the listing, but stay
        since it is unknown whether the remote directory has them, see `Tree`.
    """
    folder = Path(dest)
    here = sorted(_decide.files_here(folder))
    extra, kept = _decide.extraneous(here, tree.names, tree.empty, include, exclude)
    if spare is not None:
        spared = Path(spare).resolve()
        extra = [name for name in extra if (folder / name).resolve() != spared]
    if only is not None:
        extra = [name for name in extra if name in only]
    if not dry_run:
        _decide.remove_here(folder, extra)
    return extra, kept


def find_uploads(
    local: Sequence[StrPath], path: str, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[tuple[str, Entry]]:
    """Return the local files to upload, each with its remote path.

    Parameters
    ----------
    local : sequence of path
        Files, and folders with everything below them. Symbolic links to folders are not followed.
    path : str
        Remote directory: a file becomes ``path/NAME``, a folder ``path/NAME/…``.
    include, exclude : sequence of str
        Shell patterns, as for `find`: of the path relative to a folder, or of a file's name.

    Returns
    -------
    list of (str, Entry)
        The local path, and the remote file that it becomes.

    Raises
    ------
    NotFound
        A local path does not exist.
    UsageError
        Two files would have the same remote path, or a folder can't be read.
    """
    base = path.rstrip("/")
    found: dict[str, tuple[str, Entry]] = {}
    for source in map(Path, local):
        if not source.exists():
            raise NotFound("There is no such local file", where=str(source))
        if source.is_dir():
            above = f"{base}/{source.resolve().name}/"
            pairs = [(file, remote, remote.removeprefix(above))
                     for file, remote in _uploads.files_of(source, base)]  # fmt: skip
        else:
            pairs = [(os.fspath(source), f"{base}/{source.name}", source.name)]
        for file, remote, name in pairs:
            if not _paths.selected(name, include, exclude):
                continue
            if remote in found:
                raise UsageError(
                    "Two files would have the same remote path",
                    where=remote,
                    said=f"{found[remote][0]} and {file}",
                    hint="Upload them into different directories.",
                )
            found[remote] = (file, Entry(remote, size_bytes=_size(file)))
    return list(found.values())


def _size(local: str) -> int | None:
    try:
        return os.stat(local).st_size  # noqa: PTH116  the cheapest
    except OSError:
        return None


@task(name="upload-files", tags=["ctaflows"])
def upload_files(
    pairs: Sequence[tuple[StrPath, str]],
    *,
    overwrite: bool = False,
    manifest: StrPath | None = None,
    on_error: Literal["raise", "report"] = "raise",
    progress: Progress | None = None,
    second_process: bool = False,  # noqa: ARG001
    profile: str | None = None,
) -> Report:
    """Upload many files, several at a time.

    Parameters
    ----------
    pairs : sequence of (path, str)
        Local files, each with its remote path.
    overwrite : bool
        Replace different files at these paths. The same file is not uploaded again.
    manifest : path, optional
        Local file to which the result for each file is appended, a line of JSON each.
    on_error : {"raise", "report"}
        Whether failed files raise `PartialFailure`, or are reported only.
    progress, second_process
        As for `fetch_files`.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Report
        The result for each file, in the order of ``pairs``.

    Raises
    ------
    PartialFailure
        Some files failed; its ``report`` has all results. The other files are in place.
    """
    records = Manifest(Path(manifest)) if manifest else None
    door = connect(profile)
    with limited(door.url), reported_to(progress):
        report = _uploads.upload_many(door, pairs, overwrite=overwrite, manifest=records)
    if report.failed and on_error == "raise":
        raise PartialFailure.of(report)
    return report


def plan_uploads(
    pairs: Sequence[tuple[StrPath, str]], *, overwrite: bool = False, profile: str | None = None
) -> list[Transfer]:
    """Return what `upload_files` would do with each file; ``note`` has the reason.

    Parameters
    ----------
    pairs, overwrite, profile
        As for `upload_files`.
    """
    return _uploads.plan(connect(profile), pairs, overwrite=overwrite)


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
        Shell patterns, as for `find`; files that they do not select are left alone.
    profile : str, optional
        Settings to use.

    Returns
    -------
    plan : RemovalPlan
        For `remove`: nothing is removed here. Its ``kept`` has directories that may lie behind a
        symbolic link, or can't be read.
    kept : list of str
        Remote paths of files that have no local counterpart, but are not in the plan, since their
        local folder is empty (perhaps a disk that is not mounted), or a symbolic link.

    Raises
    ------
    StorageError
        A remote mirror is a symbolic link, or it is unknown whether it is one.
    """
    sources: dict[str, tuple[list[str], list[str]]] = {}  # two folders of one name share a mirror
    for source in map(Path, local):
        above = f"{path.rstrip('/')}/{source.resolve().name}/"
        here, unseen = sources.setdefault(above, ([], []))
        here += [r.removeprefix(above) for _, r in _uploads.files_of(source, path, unseen)]
    door = connect(profile)
    plan, all_kept, mirrors = RemovalPlan(), list[str](), set[str]()
    shown_empty: list[str] = []
    for above, (here, unseen) in sources.items():
        mirror = door.exists(above)
        if mirror is None:
            continue
        if not mirror.is_dir:
            raise UsageError("There is a file in the mirror's place", where=mirror.path)
        refuse_link(door, mirror.path, itself=mirror, must_be_known=True)
        base = mirror.path.rstrip("/") + "/"
        found = walk(door, mirror.path, on_empty=shown_empty.append)
        there = {e.path.removeprefix(base): e for e in found if not e.is_dir}
        extra, kept = _decide.extraneous(there, here, unseen, include, exclude)
        plan.add(there[name] for name in extra)
        all_kept += [base + name for name in kept]
        mirrors.add(mirror.path)
    keep_behind_links(door, plan, mirrors)
    plan.kept += [
        PathResult(where, is_dir=True, error=error_text(why))
        for where, why in unconfirmed(door, shown_empty).items()
        if why is not None
    ]
    return plan, all_kept
