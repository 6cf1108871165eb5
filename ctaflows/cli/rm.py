"""`ctaflows rm`."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import click

from ctaflows.cli import console, options, output
from ctaflows.cli.several import for_each, print_failure
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctaflows.tasks.namespace import PathResult, RemovalPlan

#: Paths printed before the question.
_SHOWN = 10


@click.command("rm", epilog="Example: ctaflows rm -r lst/users/me/old")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Remove directories with everything below.")
@click.option("-f", "--force", is_flag=True, help="Ignore paths that do not exist.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be removed; remove nothing.")
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
    """Remove remote files, and with -r directories.

    With -r everything to be removed is listed and counted first, and you are asked. Without a
    terminal nothing is removed unless --yes is given. Only what was listed is removed: a directory
    to which files are added meanwhile, or that you may not read, stays. A failure is printed and
    does not stop the rest.

    Symbolic links are kept at a dCache door. At StoRM, which lists a link to a directory as a
    directory, a directory with files below it stays if none of them can be read. nginx, Apache and
    XRootD follow links without telling: with -r, what a link leads to is removed there.
    """
    if recursive:
        _remove_trees(paths, force, profile, yes=yes, dry_run=dry_run, as_json=as_json)
    else:
        _remove_files(paths, force, profile, dry_run=dry_run, as_json=as_json)


def _remove_files(
    paths: tuple[str, ...], force: bool, profile: str | None, *, dry_run: bool, as_json: bool
) -> None:
    from ctaflows.tasks.namespace import PathResult, remove

    def one(path: str) -> PathResult:
        removed = remove(path, missing_ok=force, dry_run=dry_run, profile=profile)
        if not removed:
            return PathResult("/" + path.strip("/"))
        if dry_run and not as_json:
            click.echo(output.one_line(removed[0].path))
        return removed[0]

    for_each(paths, one, "removed", as_json=as_json)


def _remove_trees(
    paths: tuple[str, ...],
    force: bool,
    profile: str | None,
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """List what is to be removed, ask, and remove it."""
    from ctaflows.tasks.namespace import failure, iter_remove, plan_removal

    plan = plan_removal(paths, missing_ok=force, profile=profile)
    must_ask = bool(plan.dirs) and not (dry_run or yes)
    if dry_run or must_ask:
        _show(plan)
    if plan.n_empty and console.verbosity >= 0:
        click.echo(f"({plan.n_empty:,} directories are empty already)", err=True)
    if must_ask and not _is_confirmed():
        click.echo("Nothing was removed.", err=True)
        return
    batches = [list(plan.all())] if dry_run else iter_remove(plan, profile=profile)
    failed = _print(batches, as_json=as_json, names=dry_run)
    if not dry_run and console.verbosity >= 0:
        click.echo(f"{len(plan) - len(failed):,} of {len(plan):,} removed", err=True)
    if failed:
        raise failure(failed, len(plan), "removed")


def _show(plan: RemovalPlan) -> None:
    """Print on stderr what is to be removed."""
    from ctaflows.text import human_bytes

    click.echo(
        f"{len(plan.files):,} files ({human_bytes(plan.size_bytes)}) and "
        f"{len(plan.dirs):,} directories are to be removed:",
        err=True,
    )
    removable = (result for result in plan.all() if result.ok)
    for result in itertools.islice(removable, _SHOWN):
        click.echo(f"  {output.one_line(result.path)}{'/' * result.is_dir}", err=True)
    n_more = len(plan) - len(plan.kept) - _SHOWN
    if n_more > 0:
        click.echo(f"  … and {n_more:,} more", err=True)


def _is_confirmed() -> bool:
    """Ask whether to remove the directories; raise where there is no terminal."""
    if not sys.stdin.isatty():
        raise UsageError(
            "A directory is not removed without confirmation",
            hint="There is no terminal: look with --dry-run, then add --yes.",
        )
    return click.confirm("Remove them all?", err=True)


def _print(
    batches: Iterable[Sequence[PathResult]], *, as_json: bool, names: bool
) -> list[PathResult]:
    """Print the result for each path as it comes, and return those that failed."""
    failed: list[PathResult] = []

    def with_failures_printed() -> Iterator[Sequence[PathResult]]:
        for batch in batches:
            for result in batch:
                if not result.ok:
                    failed.append(result)
                    print_failure(result)
            yield batch

    if as_json:
        output.print_json_batches([r.to_dict() for r in batch] for batch in with_failures_printed())
    else:
        for batch in with_failures_printed():
            for result in batch:
                if names and result.ok:
                    click.echo(output.one_line(result.path) + "/" * result.is_dir)
    return failed
