"""`ctaflows night`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ctaflows.cli import options, output

if TYPE_CHECKING:
    from rich.table import Table

    from ctaflows.dl1.night_completeness import Completeness

#: Exit code by verdict: 10 as where some files failed; 11, still growing: look again later.
EXIT_CODES = {"complete": 0, "incomplete": 10, "growing": 11}
_COLOURS = {"complete": "green", "incomplete": "red", "growing": "yellow"}


@click.command(
    "night",
    epilog="""\b
Examples:
  ctaflows night 20241114
  ctaflows night 20241114 --json | jq '.[0].missing'
  ctaflows night 20241114 --run-summary RunSummary_20241114.ecsv

\b
Exit codes: 0 complete, 10 incomplete, or without any DL1 file, 11 still growing (of several nights
the highest), 3 no such night; the others are those of all commands.""",
)
@click.argument("dates", nargs=-1, required=True, metavar="DATE...")
@click.option(
    "--version",
    default="latest",
    show_default=True,
    help="A single version such as v0.1; or latest, for each run from its newest version.",
)
@click.option(
    "--run-summary",
    metavar="FILE",
    help="Local file with lstchain's run summary: the runs taken, and their numbers of subruns.",
)
@click.option(
    "--state", metavar="FILE", help="File with the result of the last look, for a single DATE."
)
@click.option(
    "--no-state", is_flag=True, help="Do not compare with the last look, and store nothing."
)
@options.follow
@options.as_json
@options.profile
@options.verbose
def command(
    dates: tuple[str, ...],
    *,
    version: str,
    run_summary: str | None,
    state: str | None,
    no_state: bool,
    follow: bool,
    as_json: bool,
    profile: str | None,
) -> None:
    """Check whether a night is complete on the storage, from its listing: no file is read.

    Shows runs and subruns; missing, growing, duplicate and empty files; unusual sizes; data without
    datacheck and the reverse; and what has changed since the last look. DATE is that of the
    evening, such as 20241114, or last-night.
    """
    from ctaflows.errors import UsageError
    from ctaflows.tasks.dl1 import look_at_night

    if len(dates) > 1 and (run_summary or state):
        raise UsageError("--run-summary and --state are for a single night")
    found = [
        look_at_night(
            date,
            version=version,
            run_summary=run_summary,
            state=state,
            remember=not no_state,
            follow=follow,
            profile=profile,
        )
        for date in dates
    ]
    if as_json:
        output.print_json([census.to_dict() for census in found])
    else:
        for census in found:
            _print(census)
    code = max(EXIT_CODES[census.verdict] for census in found)
    if code:
        raise click.exceptions.Exit(code)


def _print(census: Completeness) -> None:
    from ctaflows.dl1.report.tables import counted

    output.print_rich(_table(census))
    for key, items in _lines(census):
        if items:
            click.echo(f"  {key:<12} {output.one_line(items)}")
    click.secho(counted(census), fg=_COLOURS[census.verdict], bold=True)


def _lines(census: Completeness) -> list[tuple[str, str]]:
    from ctaflows.dl1.night_completeness import missing, versions_text
    from ctaflows.dl1.report.tables import since
    from ctaflows.text import human_bytes, shortened

    doubles = (f"{d.kind} Run{d.run:05d}: {d.n_files} in {', '.join(d.places)}"
               for d in census.doubles)  # fmt: skip
    sizes = (f"{o.path.rpartition('/')[2]} {human_bytes(o.size_bytes)} "
             f"(others {human_bytes(o.median_bytes)})" for o in census.odd_sizes)  # fmt: skip
    return [
        ("versions", versions_text((run.version, run.run) for run in census.runs)),
        ("no DL1 in", shortened(census.versions_without_dl1)),
        ("missing", shortened(missing(census))),
        ("unknown", shortened(census.unknown, 4)),
        ("growing", shortened(census.growing)),
        ("empty", shortened(p.rpartition("/")[2] for p in census.empty)),
        ("unchecked", shortened(census.data_without_datacheck)),
        ("no data for", shortened(census.datacheck_without_data)),
        ("there twice", shortened(doubles, 4)),
        ("odd sizes", shortened(sizes, 4)),
        ("datacheck", "" if census.has_datacheck else "the night has none"),
        ("last look", since(census)),
    ]


def _table(census: Completeness) -> Table:
    from rich import box
    from rich.table import Table

    from ctaflows.text import human_bytes

    table = Table(
        "run",
        title=f"Night {census.name}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("subruns", "missing", "growing", "datacheck", "size"):
        table.add_column(heading, justify="right")
    table.add_column("whole run")
    table.add_column("last change (UTC)")
    for run in census.runs:
        expected = f" of {run.n_expected}" if run.n_expected is not None else ""
        table.add_row(
            str(run.run),
            f"{run.n_subruns}{expected}",
            str(len(run.missing) or ""),
            str(len(run.growing) or ""),
            str(run.n_datacheck),
            human_bytes(run.size_bytes),
            "yes" if run.is_merged else "",
            f"{run.last_change:%Y-%m-%d %H:%M}" if run.last_change else "",
        )
    return table
