"""`ctaflows get`."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import console, options, output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctaflows.model import Entry, Transfer
    from ctaflows.storage.webdav import WebDAVStorage
    from ctaflows.transfer.beside import Beside
    from ctaflows.transfer.decide import Check
    from ctaflows.transfer.fetch import Job
    from ctaflows.transfer.manifest import Manifest

_Paths = tuple[str, ...]
_Patterns = tuple[tuple[str, ...], tuple[str, ...]]


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
    from ctaflows.storage.connect import connect
    from ctaflows.transfer.progress import limited_to

    door = connect(wanted["profile"], transfers=wanted["transfers"])
    dest = wanted["dest"] if wanted["dest"] is not None else (paths[1:] or ("",))[-1]
    if _is_stdout(dest):
        _print(door, paths if wanted["dest"] is not None else paths[:-1], wanted)
        return
    if wanted["tables"] or wanted["drop"]:
        _carry_out_in_part(door, paths, wanted)
        return
    if wanted["retry"]:
        trees = [_failed(door, wanted["retry"], paths)]
    else:
        trees = _trees(door, paths, wanted)
    with limited_to(wanted["bwlimit"]):
        _carry_out(door, trees, wanted)


class _Tree:
    """What one argument asks for: files, and where it is a directory, its place here."""

    def __init__(self, jobs: list[Job], folder: Path | None = None) -> None:
        self.jobs = jobs
        self.folder = folder
        self.manifest: Manifest | None = None
        self.superfluous: list[str] = []
        self.lost: list[Transfer] = []  # failed before, and can't be fetched now


def _trees(door: WebDAVStorage, paths: tuple[str, ...], wanted: dict[str, Any]) -> list[_Tree]:
    from ctaflows.errors import NotFound, UsageError

    if not paths:
        raise UsageError("What is to be fetched?", hint="Write: ctaflows get REMOTE... [DEST]")
    if wanted["delete"] and not wanted["recursive"]:
        raise UsageError("--delete goes with -r", hint="Only a whole directory can be mirrored.")
    remotes, dest = _split(door, paths, wanted)
    trees = [_tree(door, remote, dest, len(remotes) > 1, wanted) for remote in remotes]
    folders = [tree.folder for tree in trees if tree.folder]
    if len(folders) > len(set(folders)):
        raise UsageError(
            "Two directories would become the same one here",
            where=", ".join(remotes),
            hint="Fetch them into different folders.",
        )
    if not any(tree.jobs for tree in trees) and (wanted["include"] or wanted["exclude"]):
        raise NotFound(
            "No file matches", where=", ".join(remotes), hint="See --include and --exclude."
        )
    return trees


def _split(
    door: WebDAVStorage, paths: tuple[str, ...], wanted: dict[str, Any]
) -> tuple[_Paths, str]:
    """Part what is to be fetched from where it is to go, or refuse what can be read in two ways."""
    from ctaflows.errors import UsageError

    if wanted["dest"] == "":
        raise UsageError("-o names nothing", hint="Write: -o DEST, or -o . for this folder")
    if wanted["dest"] is not None or len(paths) == 1:
        return paths, wanted["dest"] or "."
    *remotes, last = paths
    if not _is_plain(last) and (len(remotes) > 1 or _may_be_remote(door, remotes[0], last, wanted)):
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
    from ctaflows.atomic_files import is_special

    try:
        return dest.endswith("/") or Path(dest).is_dir() or is_special(dest)
    except OSError:
        return False


def _may_be_remote(door: WebDAVStorage, remote: str, last: str, wanted: dict[str, Any]) -> bool:
    """Tell whether the second of two paths may be one to be fetched, too.

    It is the new name of a file, or of the folder that a directory goes into, if nothing at the
    door has that path, and its own folder is here.
    """
    from ctaflows.errors import Refused, StorageError, UsageError

    folder = Path(last).absolute().parent
    if last.startswith("/") and folder.is_dir():
        return False  # a whole path of a folder that is here
    try:
        if door.normalise(remote) == door.normalise(last):
            return False
        if door.exists(last) is not None:
            return True
    except Refused:
        return True  # who knows what is there
    except (StorageError, UsageError):
        pass  # no path that a door can have, or no answer about it
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


def _print(door: WebDAVStorage, paths: tuple[str, ...], wanted: dict[str, Any]) -> None:
    """Write a file to the standard output."""
    import sys

    from ctaflows.errors import UsageError
    from ctaflows.transfer.fetch import fetch_into
    from ctaflows.transfer.part_file import NobodyReads
    from ctaflows.transfer.progress import limited_to

    others = ("recursive", "as_json", "dry_run", "retry", "manifest", "tables", "drop", "delete")
    if len(paths) != 1 or any(wanted[name] for name in others):
        raise UsageError(
            "Only one file goes to the standard output, and as it is",
            hint="Write: ctaflows get REMOTE -",
        )
    entry = door.stat(paths[0])
    if entry.is_dir:
        raise UsageError("That is a directory", where=entry.path, hint="Fetch it with -r.")
    sys.stdout.flush()
    try:
        with limited_to(wanted["bwlimit"]):
            done = fetch_into(door, entry, sys.stdout.fileno(), "the standard output")
    except NobodyReads:
        raise BrokenPipeError from None  # as `ctaflows get … - | head` ends
    if not done.verified and console.verbosity >= 0:
        click.echo(f"ctaflows: unverified: {done.note}", err=True)


def _tree(
    door: WebDAVStorage, remote: str, dest: str, several: bool, wanted: dict[str, Any]
) -> _Tree:
    """Look at what is asked for, and say which files go where."""
    from ctaflows.errors import UsageError
    from ctaflows.storage.paths import selected
    from ctaflows.transfer.fetch import Job, destination

    patterns: _Patterns = (wanted["include"], wanted["exclude"])
    entry = door.stat(remote)
    if entry.is_dir:
        if not wanted["recursive"]:
            raise UsageError("That is a directory", where=entry.path, hint="Fetch it with -r.")
        return _folder(door, entry, Path(dest) / entry.name, patterns, wanted)
    folder = dest if not several or dest.endswith("/") else dest + "/"
    jobs = [Job(entry, destination(folder, entry.name))] if selected(entry.name, *patterns) else []
    tree = _Tree(jobs)
    tree.manifest = _manifest(wanted["manifest"])
    return tree


def _folder(
    door: WebDAVStorage, root: Entry, here: Path, patterns: _Patterns, wanted: dict[str, Any]
) -> _Tree:
    from ctaflows.storage.paths import local_path
    from ctaflows.tasks.transfers import tree_below
    from ctaflows.transfer.fetch import Job
    from ctaflows.transfer.manifest import NAME

    found = tree_below(door, root, *patterns)
    jobs = [Job(entry, local_path(entry.path, root.path, here)) for entry in found.files]
    tree = _Tree(jobs, here)
    if not wanted["no_manifest"]:
        file = wanted["manifest"] or (None if NAME in found.names else here / NAME)
        tree.manifest = _manifest(file)
    if wanted["delete"]:
        extra = _superfluous(here, found.names, found.empty, patterns)
        kept = wanted["manifest"].resolve() if wanted["manifest"] else None
        tree.superfluous = [name for name in extra if (here / name).resolve() != kept]
    return tree


def _superfluous(
    here: Path, names: Sequence[str], empty: Sequence[str], patterns: _Patterns
) -> list[str]:
    from ctaflows.transfer.decide import extraneous, files_here

    extra, protected = extraneous(files_here(here), names, empty, *patterns)
    if protected:
        click.echo(
            f"ctaflows: {len(protected)} files stay, since the door shows their directory empty, "
            f"as it shows one that it can't read, or not at all: {output.one_line(protected[0])}",
            err=True,
        )
    return extra


def _manifest(file: Path | None) -> Manifest | None:
    from ctaflows.transfer.manifest import Manifest

    return Manifest(file) if file else None


def _failed(door: WebDAVStorage, file: Path, paths: tuple[str, ...]) -> _Tree:
    """Read which files failed."""
    from ctaflows.errors import NotFound, Refused, StorageError, UsageError, error_text
    from ctaflows.transfer.fetch import Job
    from ctaflows.transfer.manifest import Manifest

    if paths:
        raise UsageError("--retry takes its paths from the manifest", hint="Leave them out.")
    manifest = Manifest(file)
    failed = [
        proof
        for proof in manifest.proofs.values()
        # a copy in part is made anew by the command that made it: here nobody knows its tables
        if proof.error and not proof.path.endswith("#partial")
    ]
    tree = _Tree([])
    for proof in failed:
        try:
            entry = door.stat(proof.path)
            if entry.is_dir:
                raise UsageError("It is a directory: fetch it with -r", where=entry.path)
            tree.jobs.append(Job(entry, Path(proof.local)))
        except (NotFound, Refused, StorageError, UsageError) as why:
            tree.lost.append(replace(proof, error=error_text(why)))
    tree.manifest = manifest
    return tree


def _carry_out_in_part(door: WebDAVStorage, paths: tuple[str, ...], wanted: dict[str, Any]) -> None:
    """Fetch some tables of the files, not the files."""
    from ctaflows.cli import partial
    from ctaflows.transfer.progress import limited_to

    partial.refuse_others(wanted)
    trees = _trees(door, paths, wanted)
    files = [([(job.entry, job.local) for job in tree.jobs], tree.manifest) for tree in trees]
    with limited_to(wanted["bwlimit"]):
        partial.carry_out(door, files, wanted)


def _carry_out(door: WebDAVStorage, trees: list[_Tree], wanted: dict[str, Any]) -> None:
    """Fetch, or say what would be fetched; then delete; then report."""
    from ctaflows.model import Report, Transfer
    from ctaflows.storage.namespace import refuse_undescribed
    from ctaflows.transfer.many import fetch_alone, fetch_many, plan

    check: Check = wanted["check"]
    jobs = [job for tree in trees for job in tree.jobs]
    if wanted["dry_run"]:
        planned = [
            t for tree in trees for t in plan(tree.jobs, manifest=tree.manifest, check=check)
        ]
        _print_plan(planned, trees, as_json=wanted["as_json"])
        refuse_undescribed(job.entry for job in jobs)
        return
    report, failure = Report(), None
    with _beside(door, trees, wanted) as other, console.progress_shown():
        if len(jobs) == 1 and not any(tree.manifest for tree in trees):
            # no line tells the checksum, and no manifest keeps it
            job = replace(jobs[0], keeps_sum=wanted["as_json"])
            untold = Report((Transfer(job.entry.path, str(job.local)),))
            report, failure = output.settle(untold, lambda: fetch_alone(door, job, check=check))
        else:
            for tree in trees:
                report += fetch_many(
                    door, tree.jobs, manifest=tree.manifest, check=check, beside=other
                )
                report += Report(tuple(tree.lost))
            report, failure = output.settle(report)
    if failure is None:
        _delete(trees)
    elif report.failed and len(jobs) > 1:
        failure.hint = _retry_hint(trees)
    if wanted["as_json"]:
        output.print_json([t.to_dict() for t in report.transfers])
    else:
        output.print_report(report)
    if failure is not None:
        raise failure


def _beside(
    door: WebDAVStorage, trees: list[_Tree], wanted: dict[str, Any]
) -> contextlib.AbstractContextManager[Beside | None]:
    """Let a second process stand ready; to be done while no thread shows the progress yet."""
    from ctaflows.storage.connect import reconnect
    from ctaflows.transfer.haul import beside

    if len(trees) > 1 or wanted["bwlimit"]:
        return contextlib.nullcontext()
    [tree] = trees
    return beside(
        door,
        tree.jobs,
        manifest=tree.manifest,
        check=wanted["check"],
        afresh=partial(reconnect, door),
    )


def _retry_hint(trees: Iterable[_Tree]) -> str:
    files = [str(tree.manifest.file) for tree in trees if tree.manifest]
    if not files:
        return "The same command again goes on with the files that failed."
    return "Just these again: " + "; ".join(f"ctaflows get --retry {file}" for file in files)


def _delete(trees: Iterable[_Tree]) -> None:
    from ctaflows.transfer.decide import remove_here

    for tree in trees:
        if tree.folder and tree.superfluous:
            remove_here(tree.folder, tree.superfluous)
            click.echo(f"{len(tree.superfluous)} files deleted in {tree.folder}", err=True)


def _print_plan(planned: list[Any], trees: list[_Tree], *, as_json: bool) -> None:
    if as_json:
        output.print_json([t.to_dict() for t in planned])
        return
    for transfer in planned:
        click.echo(f"{transfer.path} -> {transfer.local}  ({transfer.note})")
    for tree in trees:
        for name in tree.superfluous:
            click.echo(f"delete {tree.folder}/{output.one_line(name)}")
