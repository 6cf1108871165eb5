"""`ctaflows stat`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import options, output
from ctaflows.errors import CtaflowsError, PartialFailure, error_text

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("stat", epilog="Example: ctaflows stat --json cta/DL1/20241114")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], *, as_json: bool, profile: str | None) -> None:
    """Show size, time, checksums and locality of remote files or directories.

    Of several paths, those that exist are shown, and the errors of the others are printed. The exit
    code is then 10.
    """
    failed: list[str] = []
    described = _described(paths, failed, profile)
    if as_json:
        output.print_json_batches([record] for record in described)
    else:
        for record in described:
            _print(record)
    if failed:
        raise PartialFailure(
            f"{len(failed)} of {len(paths)} could not be looked up, the first: {failed[0]}",
            report=tuple(failed),
        )


def _described(
    paths: tuple[str, ...], failed: list[str], profile: str | None
) -> Iterator[dict[str, Any]]:
    from ctaflows.tasks import stat

    for path in paths:
        try:
            yield stat(path, profile=profile).to_dict()
        except CtaflowsError as why:
            if len(paths) == 1:
                raise
            failed.append(f"{path}: {error_text(why)}")
            click.echo(f"ctaflows: {output.one_line(failed[-1])}", err=True)


def _print(record: dict[str, Any]) -> None:
    sums = " ".join(f"{a}:{v}" for a, v in record.pop("checksums").items())
    for key, value in (*record.items(), ("checksums", sums or None)):
        shown = "-" if value is None else output.one_line(str(value))
        click.echo(f"{key:>10}: {shown}")
