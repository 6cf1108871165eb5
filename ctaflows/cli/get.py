"""`ctaflows get`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import console, options, output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctaflows.errors import CtaflowsError
    from ctaflows.model import Entry, Report, Transfer
    from ctaflows.tasks.transfers import Tree

_Paths = tuple[str, ...]


@click.command(
    "get",
    epilog="""\b
Examples:
  ctaflows get -r cta/DL1/20241114 . --exclude datacheck
  ctaflows get -r cta/DL1/20241114 . --check size --transfers 4 --bwlimit 50M
  ctaflows get lst/a.h5 lst/b.h5 -o data/
  ctaflows get --retry 20241114/manifest.jsonl
  ctaflows get -r cta/DL1/20241114 . --drop images""",
)
@click.argument("paths", nargs=-1, metavar="REMOTE... [DEST]")
@click.option("-o", "--dest", metavar="DEST", help="Destination: all arguments are then fetched.")
@click.option("-r", "--recursive", is_flag=True, help="Fetch directories with everything below.")
@options.follow
@options.patterns
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be done; do nothing.")
@click.option(
    "--check",
    type=click.Choice(["proof", "checksum", "size"]),
    default="proof",
    show_default=True,
    help="What must be equal for a local file to be left as it is: proof, the checksum recorded in "
    "the manifest, else the file's own; checksum, the file's own; size, nothing more.",
)
@click.option(
    "--delete",
    is_flag=True,
    help="With -r: delete local files that the remote directory does not have.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File that records the result for each file [default with -r: DEST/NAME/manifest.jsonl].",
)
@click.option("--no-manifest", is_flag=True, help="Write no manifest.")
@click.option(
    "--retry",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="MANIFEST",
    help="Fetch only the files that failed according to this manifest.",
)
@click.option(
    "--tables",
    multiple=True,
    metavar="NAME",
    help="Fetch only these tables of HDF5 files, as NAME.partial.h5: a name or pattern, such as "
    "parameters.",
)
@click.option(
    "--drop", multiple=True, metavar="NAME", help="The same without these tables, e.g. images."
)
@options.rate_options
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], **opts: Any) -> None:
    """Fetch files and verify their checksums.

    With two or more arguments the last one is the local destination: an existing folder, a new one
    written with a slash at the end, the new name of a single file, or - for the standard output.
    With -o DEST all arguments are fetched. A directory becomes DEST/NAME. A symbolic link to a file
    is fetched as that file; a directory behind one only with --follow.

    A local file with the storage's checksum is not fetched again, one that differs is replaced, and
    an interrupted download is resumed. A file gets its name only when it is complete, and verified
    if the storage has a checksum. The exit code is 10 if some files of many failed.
    """
    dest = opts["dest"] if opts["dest"] is not None else (paths[1:] or ("",))[-1]
    if _is_stdout(dest):
        _write_to_stdout(paths if opts["dest"] is not None else paths[:-1], opts)
        return
    in_part = opts["tables"] or opts["drop"]
    if in_part:
        _refuse_excluded(opts)
    requests = [_failed(paths, opts)] if opts["retry"] else _requests(paths, opts)
    if in_part:
        _fetch_tables(requests, opts)
    elif opts["dry_run"]:
        _print_plan(requests, opts)
    else:
        _fetch(requests, opts)


@dataclass
class Request:
    """Files that are fetched together: those named one by one, or those of one directory.

    Attributes
    ----------
    files : sequence of Entry or (Entry, str)
        The files, with a destination where it is not below ``dest``.
    dest, base, manifest
        As for `ctaflows.tasks.fetch_files`.
    tree : Tree or None
        Listing of the directory.
    lost : sequence of Transfer
        Files of --retry that can't be fetched any more, with the error.
    extra : sequence of str
        Local files, relative to ``dest``, that --delete deletes after the directory is fetched.
    """

    files: Sequence[Entry | tuple[Entry, str]]
    dest: Path = Path()
    base: str | None = None
    manifest: Path | None = None
    tree: Tree | None = None
    lost: Sequence[Transfer] = ()
    extra: Sequence[str] = ()

    def where(self) -> dict[str, Any]:
        """Return the arguments of `fetch_files` for the destination."""
        return {"dest": self.dest, "base": self.base}

    def entries(self) -> list[Entry]:
        """Return the files without their destinations."""
        return [file[0] if isinstance(file, tuple) else file for file in self.files]


def _requests(paths: _Paths, opts: dict[str, Any]) -> list[Request]:
    """Look up the remote paths, and return the files to fetch with their destinations."""
    from ctaflows.errors import NotFound, UsageError
    from ctaflows.tasks import stat
    from ctaflows.tasks.namespace import selected

    if not paths:
        raise UsageError("No remote path is given", hint="Write: ctaflows get REMOTE... [DEST]")
    if opts["delete"] and not opts["recursive"]:
        raise UsageError("--delete goes with -r", hint="Only a whole directory can be mirrored.")
    remotes, dest = _split(paths, opts)
    files: list[tuple[Entry, str]] = []
    requests: list[Request] = []
    place: int | None = None  # of the files that are named, among the directories
    for remote in remotes:
        entry = stat(remote, checksums=False, profile=opts["profile"])
        if entry.is_dir:
            requests.append(_directory(entry, Path(dest) / entry.name, opts))
        elif selected(entry.name, opts["include"], opts["exclude"]):
            folder = dest if len(remotes) == 1 or dest.endswith("/") else dest + "/"
            place = len(requests) if place is None else place
            files.append((entry, folder))
    if len({request.dest for request in requests}) < len(requests):
        raise UsageError(
            "Two directories would have the same local path",
            where=", ".join(remotes),
            hint="Fetch them into different folders.",
        )
    if files or not requests:
        requests.insert(place or 0, Request(files, manifest=opts["manifest"]))
    if not any(r.files or (r.tree and r.tree.unread) for r in requests) and (
        opts["include"] or opts["exclude"]
    ):
        raise NotFound(
            "No file matches", where=", ".join(remotes), hint="See --include and --exclude."
        )
    return requests


def _directory(root: Entry, folder: Path, opts: dict[str, Any]) -> Request:
    from ctaflows.cli import listing
    from ctaflows.errors import UsageError
    from ctaflows.tasks import list_tree, prune_tree
    from ctaflows.tasks.transfers import MANIFEST

    if not opts["recursive"]:
        raise UsageError("That is a directory", where=root.path, hint="Fetch it with -r.")
    patterns = {"include": opts["include"], "exclude": opts["exclude"]}
    tree = list_tree(root, **patterns, follow=opts["follow"], profile=opts["profile"])
    manifest = opts["manifest"] or (None if MANIFEST in tree.names else folder / MANIFEST)
    if opts["no_manifest"]:
        manifest = None
    request = Request(tree.files, folder, tree.path, manifest, tree)
    listing.print_links(tree.links)
    files = set(tree.names)  # one that is not described is a failure of its own
    doubtful = {
        f"{tree.path.rstrip('/')}/{path}".rstrip("/") for path in tree.empty if path not in files
    }
    told = {entry.path for entry in (*tree.unread, *tree.links)}
    listing.print_note(sorted(doubtful - told), *listing.DOUBTFUL)
    if not opts["delete"]:
        return request
    request.extra, kept = prune_tree(tree, folder, **patterns, spare=opts["manifest"], dry_run=True)
    if kept:
        click.echo(
            f"ctaflows: {len(kept)} files stay, since it is unknown whether the storage has them "
            f"(their directory can't be read, is behind a symbolic link or listed by another "
            f"path): {output.one_line(kept[0])}",
            err=True,
        )
    return request


def _failed(paths: _Paths, opts: dict[str, Any]) -> Request:
    """Return the files that failed according to a manifest."""
    from ctaflows.errors import NotFound, Refused, StorageError, UsageError, error_text
    from ctaflows.tasks import failed_transfers, stat

    if paths:
        raise UsageError("--retry takes its paths from the manifest", hint="Leave them out.")
    files: list[tuple[Entry, str]] = []
    lost: list[Transfer] = []
    for record in failed_transfers(opts["retry"]):
        if record.path.endswith("#partial"):
            continue  # the manifest does not record which tables were selected
        try:
            entry = stat(record.path, checksums=False, profile=opts["profile"])
            if entry.is_dir:
                raise UsageError("It is a directory: fetch it with -r", where=entry.path)
            if Path(record.local).is_dir():
                raise UsageError("There is a local directory of that name", where=record.local)
            files.append((entry, record.local))
        except (NotFound, Refused, StorageError, UsageError) as why:
            lost.append(replace(record, error=error_text(why)))
    return Request(files, manifest=opts["retry"], lost=lost)


def _split(paths: _Paths, opts: dict[str, Any]) -> tuple[_Paths, str]:
    """Return the remote paths and the destination; raise if the last path may be either."""
    from ctaflows.errors import UsageError

    if opts["dest"] == "":
        raise UsageError("-o is empty", hint="Write: -o DEST, or -o . for this folder")
    if opts["dest"] is not None or len(paths) == 1:
        return paths, opts["dest"] or "."
    *remotes, last = paths
    if not _is_destination(last) and (len(remotes) > 1 or _may_be_remote(remotes[0], last, opts)):
        all_paths = " ".join(paths)
        as_name = f"{remotes[0]} -o {last}" if len(remotes) == 1 else f"{' '.join(remotes)} {last}/"
        raise UsageError(
            f"Is {last} a remote path too, or the local destination?",
            hint=f"To fetch all of them, into this folder or another one:\n"
            f"              ctaflows get {all_paths} .\n"
            f"          To fetch what is before it, as the local {last}:\n"
            f"              ctaflows get {as_name}",
        )
    return tuple(remotes), last


def _is_destination(path: str) -> bool:
    """Return whether a path can only be a destination: a folder, a device or a pipe."""
    try:
        return path.endswith("/") or (Path(path).exists() and not Path(path).is_file())
    except OSError:
        return False


def _may_be_remote(remote: str, last: str, opts: dict[str, Any]) -> bool:
    """Return whether the second of two paths may be a remote path too.

    It is the local destination if there is nothing remote at that path. Without -r its folder must
    exist.
    """
    from ctaflows.errors import NotFound, Refused, StorageError, UsageError
    from ctaflows.tasks import stat

    folder = Path(last).absolute().parent
    if last.startswith("/") and folder.is_dir():
        return False  # an absolute path in an existing local folder
    try:
        found = stat(last, checksums=False, profile=opts["profile"])
    except Refused:
        return True  # it is unknown whether anything is there
    except (NotFound, StorageError, UsageError):
        pass  # there is nothing, it is not a valid remote path, or the storage can't tell
    else:
        return found.path != stat(remote, checksums=False, profile=opts["profile"]).path
    if not opts["recursive"] and not folder.is_dir():
        raise UsageError(
            "There is no such local folder",
            where=str(folder),
            hint=f"Make it, or write: ctaflows get {remote} -o {last}",
        )
    return False


def _is_stdout(dest: str) -> bool:
    """Return whether a destination is the standard output: ``-``, or a path such as /dev/stdout."""
    import os
    import sys

    if dest == "-":
        return True
    try:
        return os.path.samestat(Path(dest).stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def _write_to_stdout(paths: _Paths, opts: dict[str, Any]) -> None:
    """Write the bytes of a single remote file to the standard output."""
    import sys

    from ctaflows.errors import UsageError
    from ctaflows.tasks import fetch_into

    others = ("recursive", "as_json", "dry_run", "retry", "manifest", "tables", "drop", "delete")
    if len(paths) != 1 or any(opts[name] for name in others):
        raise UsageError(
            "Only a single whole file can be written to the standard output",
            hint="Write: ctaflows get REMOTE -",
        )
    sys.stdout.flush()
    done = fetch_into(paths[0], sys.stdout.fileno(), "the standard output", profile=opts["profile"])
    if not done.verified and console.verbosity >= 0:
        click.echo(f"ctaflows: unverified: {done.note}", err=True)


def _fetch(requests: list[Request], opts: dict[str, Any]) -> None:
    """Fetch the files, delete what --delete asks for, and print the report."""
    from ctaflows.errors import CtaflowsError, Stopped
    from ctaflows.model import Report
    from ctaflows.tasks import fetch_files

    file = _only_file(requests)
    if file is not None:
        report, failure = _fetch_one(*file, opts)
    else:
        report, failure = Report(), None
        for request in requests:
            try:
                report += fetch_files(
                    request.files,
                    **request.where(),
                    manifest=request.manifest,
                    check=opts["check"],
                    on_error="report",
                    progress=console.progress_bar(),
                    profile=opts["profile"],
                )
            except CtaflowsError as why:  # of this request as a whole, such as no space
                if not report.transfers or isinstance(why, Stopped):
                    raise
                failure = why
                break
            report += Report(tuple(request.lost))
    unread = _unread_report(requests)
    if failure is None and not report.failed:
        for request in requests:
            if request.tree is not None and request.extra:
                deleted = _delete(request.tree, request, opts)
                click.echo(f"{len(deleted)} files deleted in {request.dest}", err=True)
    is_mended_by_retry = file is None and report.failed and not unread.failed
    report += unread
    failure = failure or output.failure_of(report)
    if failure is not None and is_mended_by_retry:
        failure.hint = _retry_hint(requests)
    output.end(report, failure, as_json=opts["as_json"])


def _unread_report(requests: Iterable[Request]) -> Report:
    """Return the directories that can't be read; all others are fetched and mirrored."""
    from ctaflows.model import Report

    reports = (r.tree.unread_report(r.dest) for r in requests if r.tree is not None)
    return sum(reports, Report())


def _delete(tree: Tree, request: Request, opts: dict[str, Any]) -> list[str]:
    """Delete the extraneous local files that were found before the directory was fetched."""
    from ctaflows.tasks import prune_tree

    deleted: list[str]
    deleted, _ = prune_tree(
        tree,
        request.dest,
        include=opts["include"],
        exclude=opts["exclude"],
        spare=opts["manifest"],
        only=request.extra,
    )
    return deleted


def _only_file(requests: list[Request]) -> tuple[Entry, str] | None:
    """Return the file and its destination if a single one was named, without a manifest."""
    [request, *others] = requests
    if others or request.manifest or request.lost or len(request.files) != 1:
        return None
    [file] = request.files
    return file if isinstance(file, tuple) else None


def _fetch_one(
    entry: Entry, dest: str, opts: dict[str, Any]
) -> tuple[Report, CtaflowsError | None]:
    from ctaflows.tasks.transfers import destination, fetch_file

    return output.transfer_alone(
        entry.path,
        destination(dest, entry.name),
        lambda: fetch_file(
            entry,
            dest,
            check=opts["check"],
            local_checksum=opts["as_json"],  # it is printed in JSON only
            progress=console.progress_bar(),
            profile=opts["profile"],
        ),
    )


def _retry_hint(requests: Iterable[Request]) -> str:
    files = [str(request.manifest) for request in requests if request.manifest]
    if not files:
        return "The same command again goes on with the files that failed."
    return "To fetch only these: " + "; ".join(f"ctaflows get --retry {file}" for file in files)


def _print_plan(requests: list[Request], opts: dict[str, Any]) -> None:
    """Print what would be fetched and deleted."""
    from ctaflows.tasks import plan_fetch

    how: dict[str, Any] = {"check": opts["check"], "profile": opts["profile"]}
    planned = [
        transfer
        for request in requests
        for transfer in plan_fetch(
            request.files, **request.where(), manifest=request.manifest, **how
        )
    ]
    _print_planned(planned, opts)
    if not opts["as_json"]:
        for request in requests:
            for name in request.extra:
                click.echo(f"delete {request.dest}/{output.one_line(name)}")
    _refuse_unknown(requests)


def _refuse_unknown(requests: Iterable[Request]) -> None:
    """Raise if the storage does not describe some files, or can't read some directories."""
    from ctaflows.tasks.namespace import refuse_undescribed

    refuse_undescribed(
        entry
        for request in requests
        for entry in (*request.entries(), *(request.tree.unread if request.tree else ()))
    )


def _print_planned(planned: Sequence[Transfer], opts: dict[str, Any]) -> None:
    if opts["as_json"]:
        output.print_json([t.to_dict() for t in planned])
        return
    for transfer in planned:
        click.echo(output.one_line(f"{transfer.path} -> {transfer.local}  ({transfer.note})"))


# -- some tables of files --------------------------------------------------------------------------

_HDF5_ENDINGS = (".h5", ".hdf5", ".hdf")
#: Options that --tables and --drop exclude, with their default values.
_NOT_FOR_TABLES = {"delete": False, "retry": None, "check": "proof"}


def _refuse_excluded(opts: dict[str, Any]) -> None:
    """Raise if an option is given that --tables and --drop exclude."""
    from ctaflows.errors import UsageError

    for name, default in _NOT_FOR_TABLES.items():
        if opts[name] != default:
            raise UsageError(f"--{name} can't be used with --tables or --drop")


def _fetch_tables(requests: list[Request], opts: dict[str, Any]) -> None:
    """Fetch the tables, or print what would be fetched."""
    from ctaflows.model import Report
    from ctaflows.tasks.remote import (
        fetch_tables,
        fetch_tables_of_files,
        partial_name,
        plan_tables,
    )
    from ctaflows.tasks.transfers import destination

    how: dict[str, Any] = {
        "tables": _split_commas(opts["tables"]),
        "drop": _split_commas(opts["drop"]),
        "profile": opts["profile"],
    }
    file = None if opts["recursive"] else _only_file(requests)
    if file is None:
        for request in requests:
            if request.tree is None and len(request.files) == 1:
                continue  # it was named: whether it is an HDF5 file will be seen
            request.files = [
                file
                for file, entry in zip(request.files, request.entries(), strict=True)
                if entry.error is not None or entry.name.endswith(_HDF5_ENDINGS)
            ]
    if opts["dry_run"]:
        planned = [t for r in requests for t in plan_tables(r.files, **r.where(), **how)]
        _print_planned(planned, opts)
        _refuse_unknown(requests)
        return
    if file is not None:
        entry, dest = file
        report, failure = output.transfer_alone(
            entry.path,
            partial_name(entry, destination(dest, entry.name)),
            lambda: fetch_tables(entry, dest, **how, progress=console.progress_bar()),
        )
    else:
        report = Report()
        for request in requests:
            report += fetch_tables_of_files(
                request.files,
                **request.where(),
                **how,
                manifest=request.manifest,
                on_error="report",
                progress=console.progress_bar(),
            )
        report += _unread_report(requests)
        failure = output.failure_of(report)
    _print_copies(report, opts)
    if failure is not None:
        raise failure


def _split_commas(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in values that may have several, separated by commas."""
    return tuple(name for value in values for name in value.split(",") if name)


def _print_copies(report: Report, opts: dict[str, Any]) -> None:
    from ctaflows.text import human_bytes

    if opts["as_json"]:
        output.print_json([t.to_dict() for t in report.transfers])
        return
    for transfer in report.transfers:
        click.echo(f"{_outcome(transfer):<10} {output.one_line(transfer.local)}")
        if transfer.error and len(report.transfers) > 1:
            click.secho(f"           {output.one_line(transfer.error)}", fg="red", err=True)
    made = [t for t in report.transfers if t.ok and not t.skipped]
    n_here = sum(_outcome(t) == "in place" for t in report.transfers)
    click.echo(
        f"{len(made)} partial copies ({human_bytes(sum(t.size_bytes or 0 for t in made))}, "
        f"{human_bytes(report.moved_bytes)} read), {n_here} in place, {len(report.failed)} failed",
        err=True,
    )


def _outcome(transfer: Transfer) -> str:
    from ctaflows.tasks.remote import NO_TABLE

    if transfer.error:
        return "failed"
    if transfer.note == NO_TABLE:
        return "no table"
    return "in place" if transfer.skipped else "partial"
