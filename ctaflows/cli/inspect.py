"""`ctaflows inspect`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ctaflows.cli import inspected, options, render

if TYPE_CHECKING:
    from rich.table import Table

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.quality.checks import Bounds, Inspection
    from ctaflows.errors import CtaflowsError


#: Before a path it means the door, as for fsspec.
_SCHEME = "cta://"


@click.command(
    "inspect",
    epilog="""\b
Examples:
  ctaflows inspect --tables dl1_LST-1.Run11111.0000.h5
  ctaflows inspect cta/DL1/20241114/v0.1/tailcut84/dl1_LST-1.Run11111.0000.h5
  ctaflows inspect --plot night.png --html night.html 20241114/v0.1/tailcut84/dl1_*.h5""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE-OR-REMOTE...")
@click.option("--tables", is_flag=True, help="Also each table's columns, with type and unit.")
@click.option(
    "--whole/--ends",
    default=None,
    help="Of a remote file read all events, for counts and rates by type, or the first and last "
    "alone [default: --ends above 4 MiB, but --whole with --plot or --html].",
)
@click.option("--plot", metavar="OUT.png", help="Also draw them: a .png, .pdf or .svg.")
@click.option(
    "--html",
    "page",
    metavar="OUT.html",
    help="Also write a page with pictures and checks that opens offline.",
)
@click.option(
    "--bounds", metavar="FILE", help="Bounds of the page's checks, TOML; those left out stay."
)
@options.as_json
@options.profile
@options.verbose
def command(
    files: tuple[str, ...],
    *,
    tables: bool,
    whole: bool | None,
    plot: str | None,
    page: str | None,
    bounds: str | None,
    as_json: bool,
    profile: str | None,
) -> None:
    """Tell what is in DL1 files: layout, run, events by type, times, rates, charges, tables.

    A file that is not here is looked for at the door, and read there: a large one is not fetched.
    cta://PATH always means the door, ./PATH always this machine. Reads lstchain's and ctapipe's
    layout. Rates are events over elapsed time, not corrected for dead time.
    """
    if plot:
        from ctaflows.dl1.report.plots import suffix_of

        suffix_of(plot)  # before much is read
    limits = None
    if bounds:
        from ctaflows.dl1.quality.checks import load_bounds

        limits = load_bounds(bounds)
    if whole is None and (plot or page):
        whole = True
    looked, errors = _look(files, whole, profile)
    summaries = [one.summary for one in looked if one.summary]
    if as_json:
        render.print_json([summary.to_dict() for summary in summaries])
    else:
        for summary in summaries:
            _print(summary, columns=tables)
    if plot or page:
        _draw(looked, plot, page, limits)
    for error in errors:
        click.secho(f"ctaflows: {error}", fg="red", err=True)
    if errors:
        # several files can fail in several ways: the first one's code stands for all
        raise click.exceptions.Exit(errors[0].exit_code)


def _look(
    files: tuple[str, ...], whole: bool | None, profile: str | None
) -> tuple[list[Inspection], list[CtaflowsError]]:
    """Inspect each file, several at once; the error of a single one is raised."""
    import threading

    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.dl1.reader_process import MOST_REMOTE
    from ctaflows.errors import CtaflowsError, Stopped, error_text
    from ctaflows.thread_pool import at_once

    def one(file: str) -> DL1Summary | CtaflowsError:
        try:
            return _inspect(file, whole, profile)
        except Stopped:
            raise
        except CtaflowsError as why:
            return why

    looked, errors = [], list[CtaflowsError]()
    for file, found in zip(files, at_once(one, files, MOST_REMOTE, threading.Event()), strict=True):
        if not isinstance(found, CtaflowsError):
            looked.append(Inspection(found.file, found))
            continue
        if len(files) == 1:
            raise found
        errors.append(found)
        looked.append(Inspection(file, error=error_text(found)))
    return looked, errors


def _inspect(file: str, whole: bool | None, profile: str | None) -> DL1Summary:
    """Inspect a file here, or else at the door."""
    from ctaflows.errors import LoginNeeded, NotFound, TokenExpired, TokenMissing
    from ctaflows.tasks import inspect_dl1
    from ctaflows.tasks.remote import inspect_remote_dl1

    path = file.removeprefix(_SCHEME)
    if file.startswith((_SCHEME, "https://", "http://")):
        return inspect_remote_dl1(path, whole=whole, profile=profile)
    # lexists: a broken link here is no reason to look elsewhere
    if os.path.lexists(file) or file.startswith(("./", "../")) or "\0" in file:
        return inspect_dl1(file)
    try:
        return inspect_remote_dl1(path, whole=whole, profile=profile)
    except NotFound as why:
        raise NotFound(
            "There is no such file, neither here nor at the door", where=file, said=why.where
        ) from why
    except (TokenMissing, TokenExpired, LoginNeeded) as why:
        raise NotFound(
            "There is no such file here, and the door was not asked",
            where=file,
            said=why.what,
            hint=why.hint,
        ) from why


def _draw(
    looked: list[Inspection], plot: str | None, page: str | None, limits: Bounds | None
) -> None:
    from dataclasses import replace

    from ctaflows.dl1.quality.checks import check, check_error, with_datacheck
    from ctaflows.tasks.pictures import plot_night, write_page

    checked = with_datacheck(
        (
            replace(
                one,
                checks=check(one.summary, limits) if one.summary else check_error(one.error or ""),
            )
            for one in looked
        ),
        limits,
    )
    for path, write in ((plot, plot_night), (page, write_page)):
        if path:
            write(checked, path)
            if options.verbosity >= 0:
                click.echo(f"ctaflows: {path} is written", err=True)


def _print(summary: DL1Summary, *, columns: bool) -> None:
    click.secho(summary.file, bold=True)
    quantities = inspected.lines(summary.quantities) if summary.quantities else []
    for key, value in [*_lines(summary), *quantities]:
        click.echo(f"  {key:<15} {value}")
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
        ("events", "" if summary.n_events is None else f"{summary.n_events:,}" + _aside(counts)),
    ]
    if summary.time_first and summary.time_last:
        lines.append(("time (UTC)", (f"{summary.time_first:%Y-%m-%d %H:%M:%S.%f} to "
                                    f"{summary.time_last:%Y-%m-%d %H:%M:%S.%f}")))  # fmt: skip
    if summary.duration_s is not None:
        lines.append(("duration", f"{summary.duration_s:.6f} s"))
    if summary.rate_hz is not None:
        lines.append(("rate", f"{summary.rate_hz:.1f} Hz" + _aside(rates)))
    return [(key, value or "not in the file") for key, value in lines]


def _aside(text: str) -> str:
    return f"  ({text})" if text else ""


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
