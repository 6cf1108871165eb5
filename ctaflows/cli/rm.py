"""`ctaflows rm`."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import console, options, output
from ctaflows.cli.several import for_each, tell
from ctaflows.errors import CtaflowsError, NotFound, UsageError, error_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctaflows.model import Entry
    from ctaflows.storage.namespace import RemovalPlan, RemovalResult
    from ctaflows.storage.webdav import WebDAVStorage

_SHOWN = 10


@click.command("rm", epilog="Example: ctaflows rm -r lst/users/me/old")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Directories with all below them.")
@click.option("-f", "--force", is_flag=True, help="What is not there is no error.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@options.as_json
@options.profile
@options.verbose
def command(
    paths: tuple[str, ...],
    *,
    recursive: bool,
    force: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    profile: str | None,
) -> None:
    """Remove files, and with -r directories, at the door.

    With -r all that is to go is listed and counted first, and you are asked; without a terminal
    nothing is removed unless --yes is given. Only what was listed is removed, so that a directory
    into which something came meanwhile stays. What fails is told, and the rest done.
    """
    from ctaflows.storage.connect import connect

    door = connect(profile)
    if recursive:
        entries, missing = _look(door, paths, force=force)
        _remove_trees(door, entries, missing, yes=yes, dry_run=dry_run, as_json=as_json)
    else:
        _remove_files(door, paths, force=force, dry_run=dry_run, as_json=as_json)


def _remove_files(
    door: WebDAVStorage, paths: tuple[str, ...], *, force: bool, dry_run: bool, as_json: bool
) -> None:
    from ctaflows.storage.namespace import RemovalResult, remove_one

    def remove(path: str) -> RemovalResult:
        where = door.normalise(path)
        entry = door.exists(where) if force else door.stat(where)
        if entry is None:
            return RemovalResult(where)
        if entry.is_dir:
            raise UsageError("That is a directory", where=where, hint="Remove it with -r.")
        if not dry_run:
            remove_one(door, where, is_dir=False)
        elif not as_json:
            click.echo(where)
        return RemovalResult(where)

    for_each(paths, remove, "removed", as_json=as_json)


def _look(
    door: WebDAVStorage, paths: tuple[str, ...], *, force: bool
) -> tuple[list[Entry], list[RemovalResult]]:
    """Give what is there, and what is not with its error."""
    from ctaflows.storage.namespace import RemovalResult

    entries: list[Entry] = []
    missing: list[RemovalResult] = []
    for path in paths:
        try:
            entries.append(door.stat(path))
        except CtaflowsError as why:
            if force and isinstance(why, NotFound):
                continue
            if len(paths) == 1:
                raise
            missing.append(RemovalResult(path, error=error_text(why)))
    return entries, missing


def _remove_trees(
    door: WebDAVStorage,
    entries: list[Entry],
    missing: list[RemovalResult],
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """List, show, ask, remove."""
    from ctaflows.storage.namespace import failure, plan_removal, remove_all

    doomed = plan_removal(door, entries)
    if dry_run or (doomed.dirs and not yes):
        _show(doomed)
    if doomed.dirs and not (dry_run or yes or _is_agreed()):
        click.echo("Nothing was removed.", err=True)
        return
    batches = ([outcome] for outcome in doomed.all()) if dry_run else remove_all(door, doomed)
    failed = _tell(itertools.chain([missing], batches), as_json=as_json, names=dry_run)
    n_all = len(doomed) + len(missing)
    if not dry_run and console.verbosity >= 0:
        click.echo(f"{n_all - len(failed):,} of {n_all:,} removed", err=True)
    if failed:
        raise failure(failed, n_all, "removed")


def _show(doomed: RemovalPlan) -> None:
    """Say on stderr what is to go."""
    from ctaflows.text import human_bytes

    click.echo(
        f"{len(doomed.files):,} files ({human_bytes(doomed.size_bytes)}) and "
        f"{len(doomed.dirs):,} directories are to be removed:",
        err=True,
    )
    for outcome in itertools.islice(doomed.all(), _SHOWN):
        click.echo(f"  {output.one_line(outcome.path)}{'/' * outcome.is_dir}", err=True)
    if len(doomed) > _SHOWN:
        click.echo(f"  … and {len(doomed) - _SHOWN:,} more", err=True)
    if doomed.n_empty:
        click.echo(f"  ({doomed.n_empty:,} directories are empty, or not readable)", err=True)


def _is_agreed() -> bool:
    """Ask; where nobody can answer nothing is removed."""
    if not sys.stdin.isatty():
        raise UsageError(
            "A directory is not removed without being asked",
            hint="There is no terminal to ask on: look with --dry-run, then add --yes.",
        )
    return click.confirm("Remove them all?", err=True)


def _tell(
    batches: Iterable[Sequence[RemovalResult]], *, as_json: bool, names: bool
) -> list[RemovalResult]:
    """Tell what became of each path, while it happens, and give those that failed."""
    failed: list[RemovalResult] = []

    def told() -> Iterator[list[dict[str, Any]]]:
        for batch in batches:
            for outcome in batch:
                if not outcome.ok:
                    failed.append(outcome)
                    tell(outcome, among=2)
                elif names and not as_json:
                    click.echo(outcome.path + "/" * outcome.is_dir)
            yield [outcome.to_dict() for outcome in batch] if as_json else []

    if as_json:
        output.print_json_batches(told())
    else:
        for _ in told():
            pass
    return failed
