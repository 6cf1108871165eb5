"""`ctaflows put`."""

from __future__ import annotations

from pathlib import Path

import click

from ctaflows.cli import options, render


@click.command("put", epilog="Example: ctaflows put dl2_LST-1.Run11111.h5 lst/users/me/results/")
@click.argument("paths", nargs=-1, required=True, metavar="LOCAL... REMOTE")
@click.option("-r", "--recursive", is_flag=True, help="Upload directories with all below them.")
@click.option("--overwrite", is_flag=True, help="Replace other files that are there.")
@options.as_json
@options.profile
@options.verbose
def command(
    paths: tuple[str, ...],
    *,
    recursive: bool,
    overwrite: bool,
    as_json: bool,
    profile: str | None,
) -> None:
    """Upload files to the door.

    REMOTE is the new name of a single file; one that ends in a slash is a directory, which is made
    if need be. Each file goes up under a temporary name, is compared there, and then gets its own.
    The same file is not moved twice.
    """
    from ctaflows.model import Report, Transfer
    from ctaflows.storage.connect import connect
    from ctaflows.transfer.uploads import upload_alone, upload_many

    pairs = _pairs(paths, recursive)
    door = connect(profile)
    with render.progress_shown():
        if len(pairs) == 1:
            local, remote = pairs[0]
            untold = Report((Transfer(remote, str(local)),))
            report, failure = render.settle(
                untold, lambda: upload_alone(door, local, remote, overwrite=overwrite)
            )
        else:
            report, failure = render.settle(upload_many(door, pairs, overwrite=overwrite))
    if as_json:
        render.print_json([t.to_dict() for t in report.transfers])
    else:
        render.print_report(report)
    if failure is not None:
        raise failure


def _pairs(paths: tuple[str, ...], recursive: bool) -> list[tuple[Path, str]]:
    """Say which file goes where."""
    from ctaflows.errors import NotFound, UsageError
    from ctaflows.transfer.uploads import files_of

    if len(paths) < 2:
        raise UsageError("Where to?", hint="Write: ctaflows put LOCAL... REMOTE")
    *sources, remote = paths
    if len(sources) > 1 and not remote.endswith("/"):
        raise UsageError("Several files need a directory to go to", hint=f"Write it as {remote}/")
    pairs: list[tuple[Path, str]] = []
    for source in map(Path, sources):
        if not source.exists():
            raise NotFound("There is no such file here", where=str(source))
        if not source.is_dir():
            pairs.append((source, remote + source.name if remote.endswith("/") else remote))
        elif recursive:
            pairs += files_of(source, remote)
        else:
            raise UsageError("That is a directory", where=str(source), hint="Upload it with -r.")
    return pairs
