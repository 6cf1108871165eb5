"""`ctaflows mkdir`."""

from __future__ import annotations

import click

from ctaflows.cli import options


@click.command("mkdir", epilog="Example: ctaflows mkdir -p lst/users/me/results/2024")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "-p", "--parents", is_flag=True, help="Make parents too; accept a directory that exists."
)
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], *, parents: bool, as_json: bool, profile: str | None) -> None:
    """Make remote directories."""
    from ctaflows.cli.several import for_each
    from ctaflows.tasks.namespace import PathResult, make_dir

    def make(path: str) -> PathResult:
        return PathResult(make_dir(path, parents=parents, profile=profile), is_dir=True)

    for_each(paths, make, "made", as_json=as_json)
