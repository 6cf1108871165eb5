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
@click.option("-o", "--dest", metavar="DEST", help="Where to: all paths are then to be fetched.")
@click.option("-r", "--recursive", is_flag=True, help="Fetch directories with all below them.")
@options.patterns
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--check",
    type=click.Choice(["proof", "checksum", "size"]),
    default="proof",
    show_default=True,
    help="What spares a file that is here: a proof in the manifest (or else its checksum), its "
    "checksum computed again, or its size alone.",
)
@click.option("--delete", is_flag=True, help="With -r: delete files here that are not there.")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the proofs there [default with -r: DEST/NAME/manifest.jsonl].",
)
@click.option("--no-manifest", is_flag=True, help="Write no proofs.")
@click.option(
    "--retry",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="MANIFEST",
    help="Fetch just the files that failed, says the manifest.",
)
@click.option(
    "--tables",
    multiple=True,
    metavar="NAME",
    help="Of HDF5 files only such tables, as NAME.partial.h5: e.g. parameters, or a pattern.",
)
@click.option(
    "--drop", multiple=True, metavar="NAME", help="The same without such tables, e.g. images."
)
@options.rate_options
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], **wanted: Any) -> None:
    """Fetch files from the door.

    With two or more arguments the last one is the destination here: a folder (one that is there, or
    written with a slash at the end), for a single file its new name, or - for the standard output.
    With -o DEST all arguments are fetched. A directory becomes DEST/NAME. A file that is here and
    has the storage's checksum is not moved again; one that was interrupted goes on where it
    stopped; none appears under its name before it is proven. Ends with 10 if some files of many
    failed.
    """
    dest = wanted["dest"] if wanted["dest"] is not None else (paths[1:] or ("",))[-1]
    if _is_stdout(dest):
        _print(paths if wanted["dest"] is not None else paths[:-1], wanted)
        return
    in_part = wanted["tables"] or wanted["drop"]
    if in_part:
        _refuse_others(wanted)
    requests = [_failed(paths, wanted)] if wanted["retry"] else _requests(paths, wanted)
    if in_part:
        _fetch_tables(requests, wanted)
    elif wanted["dry_run"]:
        _print_plan(requests, wanted)
    else:
        _fetch(requests, wanted)


@dataclass
class Request:
    """Files that are fetched together: those named one by one, or those of one directory.

    Attributes
    ----------
    files : sequence of Entry or (Entry, str)
        What to fetch, and where to if that is not below ``dest``.
    dest, base, manifest
        As for `ctaflows.tasks.fetch_files`.
    tree : Tree or None
        What the directory has shown.
    lost : sequence of Transfer
        Failed before, and can't be fetched now.
    """

    files: Sequence[Entry | tuple[Entry, str]]
    dest: Path = Path()
    base: str | None = None
    manifest: Path | None = None
    tree: Tree | None = None
    lost: Sequence[Transfer] = ()

    def where(self) -> dict[str, Any]:
        """Return the arguments of `fetch_files` that say where the files go."""
        return {"dest": self.dest, "base": self.base}

    def entries(self) -> list[Entry]:
        """Return the files themselves."""
        return [file[0] if isinstance(file, tuple) else file for file in self.files]

    def prune(self, wanted: dict[str, Any], *, dry_run: bool) -> tuple[list[str], list[str]]:
        """Delete the local files that the directory does not have, see `prune_tree`."""
        from ctaflows.tasks import prune_tree

        if self.tree is None or not wanted["delete"]:
            return [], []
        patterns = {"include": wanted["include"], "exclude": wanted["exclude"]}
        spare = wanted["manifest"]
        pruned: tuple[list[str], list[str]] = prune_tree(
            self.tree, self.dest, **patterns, spare=spare, dry_run=dry_run
        )
        return pruned


def _requests(paths: _Paths, wanted: dict[str, Any]) -> list[Request]:
    """Look at what is asked for, and return which files go where."""
    from ctaflows.errors import NotFound, UsageError
    from ctaflows.tasks import stat
    from ctaflows.tasks.namespace import selected

    if not paths:
        raise UsageError("What is to be fetched?", hint="Write: ctaflows get REMOTE... [DEST]")
    if wanted["delete"] and not wanted["recursive"]:
        raise UsageError("--delete goes with -r", hint="Only a whole directory can be mirrored.")
    remotes, dest = _split(paths, wanted)
    files: list[tuple[Entry, str]] = []
    requests: list[Request] = []
    for remote in remotes:
        entry = stat(remote, checksums=False, profile=wanted["profile"])
        if entry.is_dir:
            requests.append(_directory(entry, Path(dest) / entry.name, wanted))
        elif selected(entry.name, wanted["include"], wanted["exclude"]):
            folder = dest if len(remotes) == 1 or dest.endswith("/") else dest + "/"
            files.append((entry, folder))
    if len({request.dest for request in requests}) < len(requests):
        raise UsageError(
            "Two directories would become the same one here",
            where=", ".join(remotes),
            hint="Fetch them into different folders.",
        )
    if files or not requests:
        requests.insert(0, Request(files, manifest=wanted["manifest"]))
    if not any(r.files for r in requests) and (wanted["include"] or wanted["exclude"]):
        raise NotFound(
            "No file matches", where=", ".join(remotes), hint="See --include and --exclude."
        )
    return requests


def _directory(root: Entry, folder: Path, wanted: dict[str, Any]) -> Request:
    from ctaflows.errors import UsageError
    from ctaflows.tasks import list_tree
    from ctaflows.tasks.transfers import MANIFEST

    if not wanted["recursive"]:
        raise UsageError("That is a directory", where=root.path, hint="Fetch it with -r.")
    patterns = {"include": wanted["include"], "exclude": wanted["exclude"]}
    tree = list_tree(root, **patterns, profile=wanted["profile"])
    manifest = wanted["manifest"] or (None if MANIFEST in tree.names else folder / MANIFEST)
    if wanted["no_manifest"]:
        manifest = None
    request = Request(tree.files, folder, tree.path, manifest, tree)
    _, kept = request.prune(wanted, dry_run=True)
    if kept:
        click.echo(
            f"ctaflows: {len(kept)} files stay, since the door shows their directory empty, "
            f"as it shows one that it can't read, or not at all: {output.one_line(kept[0])}",
            err=True,
        )
    return request


def _failed(paths: _Paths, wanted: dict[str, Any]) -> Request:
    """Return the files that failed according to a manifest."""
    from ctaflows.errors import NotFound, Refused, StorageError, UsageError, error_text
    from ctaflows.tasks import failed_transfers, stat

    if paths:
        raise UsageError("--retry takes its paths from the manifest", hint="Leave them out.")
    files: list[tuple[Entry, str]] = []
    lost: list[Transfer] = []
    for record in failed_transfers(wanted["retry"]):
        if record.path.endswith("#partial"):
            continue  # made anew by the command that made it: the manifest has not its tables
        try:
            entry = stat(record.path, checksums=False, profile=wanted["profile"])
            if entry.is_dir:
                raise UsageError("It is a directory: fetch it with -r", where=entry.path)
            files.append((entry, record.local))
        except (NotFound, Refused, StorageError, UsageError) as why:
            lost.append(replace(record, error=error_text(why)))
    return Request(files, manifest=wanted["retry"], lost=lost)


def _split(paths: _Paths, wanted: dict[str, Any]) -> tuple[_Paths, str]:
    """Part what is to be fetched from where it is to go, or refuse what can be read in two ways."""
    from ctaflows.errors import UsageError

    if wanted["dest"] == "":
        raise UsageError("-o names nothing", hint="Write: -o DEST, or -o . for this folder")
    if wanted["dest"] is not None or len(paths) == 1:
        return paths, wanted["dest"] or "."
    *remotes, last = paths
    if not _is_plain(last) and (len(remotes) > 1 or _may_be_remote(remotes[0], last, wanted)):
        all_paths = " ".join(paths)
        as_name = f"{remotes[0]} -o {last}" if len(remotes) == 1 else f"{' '.join(remotes)} {last}/"
        raise UsageError(
            f"Is {last} to be fetched too, or is it where the rest goes?",
            hint=f"To fetch all of them, into this folder or another one:\n"
            f"              ctaflows get {all_paths} .\n"
            f"          To fetch what is before it, as {last} here:\n"
            f"              ctaflows get {as_name}",
        )
    return tuple(remotes), last


def _is_plain(dest: str) -> bool:
    """Tell whether a destination can be nothing else: a folder, a device or a pipe."""
    try:
        return dest.endswith("/") or (Path(dest).exists() and not Path(dest).is_file())
    except OSError:
        return False


def _may_be_remote(remote: str, last: str, wanted: dict[str, Any]) -> bool:
    """Tell whether the second of two paths may be one to be fetched, too.

    It is the new name of a file, or of the folder that a directory goes into, if nothing at the
    door has that path, and its own folder is here.
    """
    from ctaflows.errors import NotFound, Refused, StorageError, UsageError
    from ctaflows.tasks import stat

    folder = Path(last).absolute().parent
    if last.startswith("/") and folder.is_dir():
        return False  # a whole path of a folder that is here
    try:
        if remote.strip("/") == last.strip("/"):
            return False
        stat(last, checksums=False, profile=wanted["profile"])
    except Refused:
        return True  # whether anything is there is unknown
    except (NotFound, StorageError, UsageError):
        pass  # nothing there, no path that a door can have, or no answer about it
    else:
        return True
    if not wanted["recursive"] and not folder.is_dir():
        raise UsageError(
            "There is no such folder here",
            where=str(folder),
            hint=f"Make it, or say that it is meant: ctaflows get {remote} -o {last}",
        )
    return False


def _is_stdout(dest: str) -> bool:
    """Tell whether a destination is the standard output, by ``-`` or by a name of its own."""
    import os
    import sys

    if dest == "-":
        return True
    try:
        return os.path.samestat(Path(dest).stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def _print(paths: _Paths, wanted: dict[str, Any]) -> None:
    """Write a file to the standard output."""
    import sys

    from ctaflows.errors import UsageError
    from ctaflows.tasks import fetch_into

    others = ("recursive", "as_json", "dry_run", "retry", "manifest", "tables", "drop", "delete")
    if len(paths) != 1 or any(wanted[name] for name in others):
        raise UsageError(
            "Only one file goes to the standard output, and as it is",
            hint="Write: ctaflows get REMOTE -",
        )
    sys.stdout.flush()
    done = fetch_into(
        paths[0], sys.stdout.fileno(), "the standard output", profile=wanted["profile"]
    )
    if not done.verified and console.verbosity >= 0:
        click.echo(f"ctaflows: unverified: {done.note}", err=True)


def _fetch(requests: list[Request], wanted: dict[str, Any]) -> None:
    """Fetch; then delete; then report."""
    from ctaflows.model import Report
    from ctaflows.tasks import fetch_files

    file = _only_file(requests)
    if file is not None:
        report, failure = _fetch_one(*file, wanted)
    else:
        report = Report()
        for request in requests:
            report += fetch_files(
                request.files,
                **request.where(),
                manifest=request.manifest,
                check=wanted["check"],
                on_error="report",
                progress=console.progress_bar(),
                second_process=len(requests) == 1 and not wanted["bwlimit"],
                profile=wanted["profile"],
            )
            report += Report(tuple(request.lost))
        report, failure = output.settle(report)
    if failure is None:
        for request in requests:
            deleted, _ = request.prune(wanted, dry_run=False)
            if deleted:
                click.echo(f"{len(deleted)} files deleted in {request.dest}", err=True)
    elif report.failed and file is None:
        failure.hint = _retry_hint(requests)
    if wanted["as_json"]:
        output.print_json([t.to_dict() for t in report.transfers])
    else:
        output.print_report(report)
    if failure is not None:
        raise failure


def _only_file(requests: list[Request]) -> tuple[Entry, str] | None:
    """Return the file and its destination where just one was named, and no manifest keeps it."""
    [request, *others] = requests
    if others or request.manifest or request.lost or len(request.files) != 1:
        return None
    [file] = request.files
    return file if isinstance(file, tuple) else None


def _fetch_one(
    entry: Entry, dest: str, wanted: dict[str, Any]
) -> tuple[Report, CtaflowsError | None]:
    from ctaflows.model import Report, Transfer
    from ctaflows.tasks.transfers import destination, fetch_file

    untold = Report((Transfer(entry.path, str(destination(dest, entry.name))),))
    return output.settle(
        untold,
        lambda: fetch_file(
            entry,
            dest,
            check=wanted["check"],
            local_checksum=wanted["as_json"],  # else no line shows it
            progress=console.progress_bar(),
            profile=wanted["profile"],
        ),
    )


def _retry_hint(requests: Iterable[Request]) -> str:
    files = [str(request.manifest) for request in requests if request.manifest]
    if not files:
        return "The same command again goes on with the files that failed."
    return "Just these again: " + "; ".join(f"ctaflows get --retry {file}" for file in files)


def _print_plan(requests: list[Request], wanted: dict[str, Any]) -> None:
    """Print what would be fetched and deleted."""
    from ctaflows.tasks import plan_fetch
    from ctaflows.tasks.namespace import refuse_undescribed

    how: dict[str, Any] = {"check": wanted["check"], "profile": wanted["profile"]}
    planned = [
        transfer
        for request in requests
        for transfer in plan_fetch(
            request.files, **request.where(), manifest=request.manifest, **how
        )
    ]
    if wanted["as_json"]:
        output.print_json([t.to_dict() for t in planned])
    else:
        for transfer in planned:
            click.echo(f"{transfer.path} -> {transfer.local}  ({transfer.note})")
        for request in requests:
            for name in request.prune(wanted, dry_run=True)[0]:
                click.echo(f"delete {request.dest}/{output.one_line(name)}")
    refuse_undescribed(entry for request in requests for entry in request.entries())


# -- some tables of files, not the files -----------------------------------------------------------

_HDF5_ENDINGS = (".h5", ".hdf5", ".hdf")
#: Options that have no meaning for some tables of a file, and their values when not given.
_NOT_FOR_TABLES = {"delete": False, "retry": None, "check": "proof"}


def _refuse_others(wanted: dict[str, Any]) -> None:
    """Refuse options that don't go with --tables and --drop."""
    from ctaflows.errors import UsageError

    for name, usual in _NOT_FOR_TABLES.items():
        if wanted[name] != usual:
            raise UsageError(f"--{name} doesn't go with --tables and --drop")


def _fetch_tables(requests: list[Request], wanted: dict[str, Any]) -> None:
    """Copy the tables, or print what would be copied."""
    from ctaflows.model import Report, Transfer
    from ctaflows.tasks.namespace import refuse_undescribed
    from ctaflows.tasks.remote import (
        fetch_tables,
        fetch_tables_of_files,
        partial_name,
        plan_tables,
    )
    from ctaflows.tasks.transfers import destination

    how: dict[str, Any] = {
        "tables": _words(wanted["tables"]),
        "drop": _words(wanted["drop"]),
        "profile": wanted["profile"],
    }
    file = None if wanted["recursive"] else _only_file(requests)
    if file is None:
        for request in requests:
            request.files = [
                file
                for file, entry in zip(request.files, request.entries(), strict=True)
                if entry.error is not None or entry.name.endswith(_HDF5_ENDINGS)
            ]
    if wanted["dry_run"]:
        planned = [t for r in requests for t in plan_tables(r.files, **r.where(), **how)]
        _print_copies(Report(tuple(planned)), wanted)
        refuse_undescribed(entry for request in requests for entry in request.entries())
        return
    if file is not None:
        entry, dest = file
        local = partial_name(entry, destination(dest, entry.name))
        report, failure = output.settle(
            Report((Transfer(entry.path, str(local)),)),
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
        report, failure = output.settle(report)
    _print_copies(report, wanted)
    if failure is not None:
        raise failure


def _words(values: tuple[str, ...]) -> tuple[str, ...]:
    """Split values that have several names, with commas between."""
    return tuple(word for value in values for word in value.split(",") if word)


def _print_copies(report: Report, wanted: dict[str, Any]) -> None:
    from ctaflows.text import human_bytes

    if wanted["as_json"]:
        output.print_json([t.to_dict() for t in report.transfers])
        return
    if wanted["dry_run"]:
        for transfer in report.transfers:
            click.echo(f"{transfer.path} -> {transfer.local}  ({transfer.note})")
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
