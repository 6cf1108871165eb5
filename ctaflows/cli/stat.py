"""`ctaflows stat`."""

from __future__ import annotations

import click

from ctaflows.cli import options, render


@click.command("stat", epilog="Example: ctaflows stat --json cta/DL1/20241114")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], *, as_json: bool, profile: str | None) -> None:
    """Describe files or directories at the door."""
    from ctaflows.tasks import stat

    records = [stat(path, profile=profile).to_dict() for path in paths]
    if as_json:
        render.print_json(records)
        return
    for record in records:
        sums = " ".join(f"{a}:{v}" for a, v in record.pop("checksums").items())
        for key, value in (*record.items(), ("checksums", sums or None)):
            click.echo(f"{key:>10}: {'-' if value is None else value}")
