"""`ctaflows get`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctaflows.cli import options, render

if TYPE_CHECKING:
    from ctaflows.storage.door import Door
    from ctaflows.transfer.fetch import Job

_Patterns = tuple[tuple[str, ...], tuple[str, ...]]


@click.command("get", epilog="Example: ctaflows get -r cta/DL1/20241114 . --exclude datacheck")
@click.argument("paths", nargs=-1, required=True, metavar="REMOTE... [DEST]")
@click.option("-r", "--recursive", is_flag=True, help="Fetch directories with all below them.")
@options.patterns
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@options.as_json
@options.profile
@options.verbose
def command(
    paths: tuple[str, ...],
    *,
    recursive: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    profile: str | None,
) -> None:
    """Fetch files from the door.

    With two or more arguments the last one is the destination here: a folder, or for a single file
    its new name. A directory becomes DEST/NAME. A file that is here and has the storage's checksum
    is not moved again; one that was interrupted goes on where it stopped; none appears under its
    name before it is proven.
    """
    from ctaflows.errors import NotFound
    from ctaflows.model import Report, Transfer
    from ctaflows.storage.connect import connect
    from ctaflows.transfer.many import fetch_alone, fetch_many, plan

    remotes, dest = (paths[:-1], paths[-1]) if len(paths) > 1 else (paths, ".")
    door = connect(profile)
    jobs: list[Job] = []
    for remote in remotes:
        jobs += _jobs(door, remote, dest, len(remotes) > 1, recursive, (include, exclude))
    if not jobs and (include or exclude):
        raise NotFound(
            "No file matches", where=", ".join(remotes), hint="See --include and --exclude."
        )
    report, failure = Report(tuple(plan(jobs))) if dry_run else Report(), None
    with render.progress_shown():
        if len(jobs) == 1 and not dry_run:
            untold = Report((Transfer(jobs[0].entry.path, str(jobs[0].local)),))
            report, failure = render.settle(untold, lambda: fetch_alone(door, jobs[0]))
        elif not dry_run:
            report, failure = render.settle(fetch_many(door, jobs))
    if as_json:
        render.print_json([t.to_dict() for t in report.transfers])
    elif dry_run:
        for transfer in report.transfers:
            click.echo(f"{transfer.path} -> {transfer.local}  ({transfer.note})")
    else:
        render.print_report(report)
    if failure is not None:
        raise failure


def _jobs(
    door: Door, remote: str, dest: str, several: bool, recursive: bool, patterns: _Patterns
) -> list[Job]:
    """Look at what is asked for, and say which files go where."""
    from ctaflows.errors import UsageError
    from ctaflows.storage.paths import local_path, selected
    from ctaflows.storage.walk import files_below
    from ctaflows.transfer.fetch import Job, destination

    entry = door.stat(remote)
    if not entry.is_dir:
        wanted = selected(entry.name, *patterns)
        folder = dest if not several or dest.endswith("/") else dest + "/"
        return [Job(entry, destination(folder, entry.name))] if wanted else []
    if not recursive:
        raise UsageError("That is a directory", where=entry.path, hint="Fetch it with -r.")
    folder_here = Path(dest) / entry.name
    return [
        Job(found, local_path(found.path, entry.path, folder_here))
        for found in files_below(door, entry.path, *patterns)
    ]
