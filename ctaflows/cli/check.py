"""`ctaflows check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ctaflows.cli import options, output

if TYPE_CHECKING:
    from rich.table import Table

    from ctaflows.dl1.quality.checks import Check, Inspection

#: The exit code of failed checks, as of checksums that differ.
_BAD = 7
_COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


@click.command(
    "check",
    epilog="""\b
Examples:
  ctaflows check 20241114/v0.1/tailcut84/*.h5
  ctaflows check --all dl1_LST-1.Run11111.0000.h5
  ctaflows check --bounds moon.toml --json *.h5 | jq '.[] | select(.verdict == "bad") | .file'

\b
Exit codes: 0 all files are good, perhaps with warnings; 7 some are bad or can't be read.""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-a", "--all", "show_all", is_flag=True, help="Show the value of each check.")
@click.option("--bounds", metavar="FILE", help="TOML file with your own bounds.")
@click.option("--whole", is_flag=True, help="Read all images, not only a sample.")
@options.as_json
@options.verbose
def command(
    files: tuple[str, ...], *, show_all: bool, bounds: str | None, whole: bool, as_json: bool
) -> None:
    """Check the quality of local DL1 files.

    Checks tables, event numbers and times, gaps, rates, intensity spectrum, charges of pedestals
    and flat-field events, pixels and pointing; with lstchain's formulas and bounds where it has
    them.
    """
    from ctaflows.dl1.content.images import DEFAULT_IMAGES
    from ctaflows.tasks.dl1 import inspect_dl1_files

    found = inspect_dl1_files(files, bounds=bounds, images=None if whole else DEFAULT_IMAGES)
    if as_json:
        output.print_json([_record(one) for one in found])
    else:
        for one in found:
            _print(one, show_all=show_all)
    counts = {v: sum(one.verdict == v for one in found) for v in ("ok", "warn", "bad")}
    if len(found) > 1:
        click.echo(", ".join(f"{n} {v}" for v, n in counts.items() if n), err=True)
    if counts["bad"]:
        raise click.exceptions.Exit(_BAD)


def _record(one: Inspection) -> dict[str, object]:
    return {
        "file": one.file,
        "verdict": one.verdict,
        "error": one.error,
        "checks": [c.to_dict() for c in one.checks],
    }


def _print(one: Inspection, *, show_all: bool) -> None:
    from ctaflows.dl1.quality.checks import remarks

    verdict = one.verdict or "absent"
    click.echo(
        click.style(f"{verdict:<5}", fg=_COLOURS.get(verdict), bold=True)
        + output.one_line(one.file)
    )
    if show_all and one.error is None:
        output.print_rich(_table(one.checks))
        return
    for remark in remarks(one.checks):
        click.echo(f"     {output.one_line(remark)}")


def _table(checks: tuple[Check, ...]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("check", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("value", justify="right")
    for heading in ("good", "not bad", "verdict", "source"):
        table.add_column(heading, overflow="fold")
    for one in checks:
        unit = f" {one.unit}" if one.unit else ""
        value = "not in the file" if one.value is None else f"{one.value:.4g}{unit}"
        table.add_row(
            one.name,
            value,
            _bounds(one.warn),
            _bounds(one.bad),
            Text(one.verdict, style=_COLOURS.get(one.verdict, "")),
            one.source,
        )
    return table


def _bounds(pair: tuple[float | None, float | None]) -> str:
    low, high = (None if b is None else f"{b:g}" for b in pair)
    if low is None or high is None:
        return "any" if low == high else f"≤ {high}" if low is None else f"≥ {low}"
    return low if low == high else f"{low} to {high}"
