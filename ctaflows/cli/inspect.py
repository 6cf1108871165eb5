"""`ctaflows inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ctaflows.cli import options, render

if TYPE_CHECKING:
    from rich.table import Table

    from ctaflows.dl1.summary import DL1Summary


@click.command("inspect", epilog="Example: ctaflows inspect --tables dl1_LST-1.Run11111.0000.h5")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--tables", is_flag=True, help="Also each table's columns, with type and unit.")
@options.as_json
@options.verbose
def command(files: tuple[str, ...], *, tables: bool, as_json: bool) -> None:
    """Tell what is in DL1 files here: layout, run, events by type, times, rates, tables.

    Reads lstchain's and ctapipe's layout. Rates are events over elapsed time, not corrected for
    dead time.
    """
    from ctaflows.errors import CtaflowsError
    from ctaflows.tasks import inspect_dl1

    summaries, errors = [], list[CtaflowsError]()
    for file in files:
        try:
            summaries.append(inspect_dl1(file))
        except CtaflowsError as why:
            if len(files) == 1:
                raise
            errors.append(why)
    if as_json:
        render.print_json([summary.to_dict() for summary in summaries])
    else:
        for summary in summaries:
            _print(summary, columns=tables)
    for error in errors:
        click.secho(f"ctaflows: {error}", fg="red", err=True)
    if errors:
        # several files can fail in several ways: the first one's code stands for all
        raise click.exceptions.Exit(errors[0].exit_code)


def _print(summary: DL1Summary, *, columns: bool) -> None:
    click.secho(summary.file, bold=True)
    for key, value in _lines(summary):
        click.echo(f"  {key:<12} {value}")
    render.print_rich(_columns(summary) if columns else _tables(summary))


def _lines(summary: DL1Summary) -> list[tuple[str, str]]:
    counts = ", ".join(f"{n:,} {k}" for k, n in (summary.n_events_by_type or {}).items())
    rates = ", ".join(f"{r:.1f} Hz {k}" for k, r in (summary.rate_hz_by_type or {}).items())
    software = ", ".join(f"{name} {version}" for name, version in summary.software.items())
    simulated = ", simulated" if summary.simulated else ""
    model = f", data model {summary.data_model_version}" if summary.data_model_version else ""
    lines = [
        ("layout", f"{summary.layout}, {summary.level}{simulated}{model}"),
        ("software", software),
        ("telescope", ", ".join(map(str, summary.telescope))),
        ("run", "" if summary.run is None else str(summary.run)),
        ("subrun", "" if summary.subrun is None else f"{summary.subrun:04d}"),
        ("size", f"{summary.size_bytes:,} bytes"),
        ("events", "" if summary.n_events is None else f"{summary.n_events:,}  ({counts})"),
    ]
    if summary.time_first and summary.time_last:
        lines.append(("time (UTC)", (f"{summary.time_first:%Y-%m-%d %H:%M:%S.%f} to "
                                    f"{summary.time_last:%Y-%m-%d %H:%M:%S.%f}")))  # fmt: skip
    if summary.duration_s is not None:
        lines.append(("duration", f"{summary.duration_s:.6f} s"))
    if summary.rate_hz is not None:
        lines.append(("rate", f"{summary.rate_hz:.1f} Hz  ({rates})"))
    return [(key, value or "not in the file") for key, value in lines]


def _tables(summary: DL1Summary) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("table", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rows", justify="right")
    table.add_column("columns", justify="right")
    for info in summary.tables:
        table.add_row(info.path, f"{info.rows:,}", str(len(info.columns)))
    return table


def _columns(summary: DL1Summary) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("table", "column", "type", "shape", "unit", box=box.SIMPLE_HEAD, pad_edge=False)
    for info in summary.tables:
        path = f"{info.path} ({info.rows:,} rows)"
        for column in info.columns:
            shape = "×".join(map(str, column.shape))
            table.add_row(path, column.name, column.dtype, shape, column.unit or "")
            path = ""
    return table
