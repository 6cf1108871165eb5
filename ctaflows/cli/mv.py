"""`ctaflows mv`."""

from __future__ import annotations

import click

from ctaflows.cli import options
from ctaflows.errors import UsageError


@click.command("mv", epilog="Example: ctaflows mv lst/users/me/a.h5 lst/users/me/b.h5 lst/done/")
@click.argument("paths", nargs=-1, required=True, metavar="SOURCE... TARGET")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], *, overwrite: bool, as_json: bool, profile: str | None) -> None:
    """Move or rename remote files and directories.

    If TARGET is a directory, the sources are moved into it and keep their names; for several
    sources it must be one. Directories are never replaced.
    """
    from ctaflows.cli.several import for_each
    from ctaflows.tasks.namespace import PathResult, move, stat

    *sources, target = paths
    if not sources:
        raise UsageError("No target is given", hint="Write: ctaflows mv SOURCE... TARGET")
    into = target if len(sources) == 1 or target.endswith("/") else target + "/"

    def rename(source: str) -> PathResult:
        entry = stat(source, checksums=False, profile=profile)
        path = move(entry, into, overwrite=overwrite, profile=profile)
        return PathResult(entry.path, entry.is_dir, path)

    for_each(sources, rename, "moved", as_json=as_json)
