"""`ctaflows mkdir`."""

from __future__ import annotations

import click

from ctaflows.cli import options


@click.command("mkdir", epilog="Example: ctaflows mkdir -p lst/users/me/results/2024")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-p", "--parents", is_flag=True, help="Parents, too; no error if it is there.")
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], *, parents: bool, as_json: bool, profile: str | None) -> None:
    """Make directories at the door."""
    from ctaflows.cli.several import for_each
    from ctaflows.storage.connect import connect
    from ctaflows.storage.namespace import RemovalResult

    door = connect(profile)

    def make(path: str) -> RemovalResult:
        where = door.normalise(path)
        door.mkdir(where, parents=parents, exist_ok=parents)
        return RemovalResult(where, is_dir=True)

    for_each(paths, make, "made", as_json=as_json)
