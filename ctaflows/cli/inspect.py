"""`ctaflows inspect`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ctaflows.cli import console, options, output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from ctaflows.dl1.content.quantities import Charges, Quantities, Spread
    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.quality.checks import Bounds, Inspection
    from ctaflows.errors import CtaflowsError


#: Prefix of remote paths, as in fsspec.
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
@click.option("--tables", is_flag=True, help="Show the columns of each table, with type and unit.")
@click.option(
    "--whole/--ends",
    default=None,
    help="Read all events of a remote file, for counts and rates by type; or only the first and "
    "the last [default: --ends above 4 MiB, but --whole with --plot or --html].",
)
@click.option("--plot", metavar="OUT.png", help="Write plots to this .png, .pdf or .svg file.")
@click.option(
    "--html",
    "page",
    metavar="OUT.html",
    help="Write an HTML page with plots and quality checks, readable offline.",
)
@click.option(
    "--bounds", metavar="FILE", help="TOML file with your own bounds for the checks on the page."
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
    """Show what is in DL1 files: layout, run, events by type, times, rates, charges, tables.

    A path that does not exist locally is a remote one; remote files are read without fetching them.
    cta://PATH is always remote, ./PATH always local. Files may have lstchain's or ctapipe's layout.
    Rates are events over elapsed time, not corrected for dead time.
    """
    from ctaflows.tasks.dl1 import read_bounds

    if plot:
        from ctaflows.dl1.report.plots import suffix_of

        suffix_of(plot)  # raises before any file is read
    limits = read_bounds(bounds) if bounds else None
    if whole is None and (plot or page):
        whole = True
    looked, errors = _look(files, whole, profile)
    summaries = [one.summary for one in looked if one.summary]
    if as_json:
        output.print_json([summary.to_dict() for summary in summaries])
    else:
        for summary in summaries:
            _print(summary, columns=tables)
    if plot or page:
        _draw(looked, plot, page, limits)
    for error in errors:
        click.secho(f"ctaflows: {error}", fg="red", err=True)
    if errors:
        # of several errors the first one's exit code
        raise click.exceptions.Exit(errors[0].exit_code)


def _look(
    files: tuple[str, ...], whole: bool | None, profile: str | None
) -> tuple[list[Inspection], list[CtaflowsError]]:
    """Inspect the files, several at a time; the error of a single file is raised."""
    import threading

    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.dl1.reader_process import MOST_REMOTE
    from ctaflows.errors import CtaflowsError, Stopped, error_text
    from ctaflows.thread_pool import run_concurrently

    def one(file: str) -> DL1Summary | CtaflowsError:
        try:
            return _inspect(file, whole, profile)
        except Stopped:
            raise
        except CtaflowsError as why:
            return why

    looked, errors = [], list[CtaflowsError]()
    for file, found in zip(
        files, run_concurrently(one, files, MOST_REMOTE, threading.Event()), strict=True
    ):
        if not isinstance(found, CtaflowsError):
            looked.append(Inspection(found.file, found))
            continue
        if len(files) == 1:
            raise found
        errors.append(found)
        looked.append(Inspection(file, error=error_text(found)))
    return looked, errors


def _inspect(file: str, whole: bool | None, profile: str | None) -> DL1Summary:
    """Return the summary of a local file, or else of a remote one."""
    from ctaflows.errors import LoginNeeded, NotFound, TokenExpired, TokenMissing
    from ctaflows.tasks import inspect_dl1
    from ctaflows.tasks.remote import inspect_remote_dl1

    path = file.removeprefix(_SCHEME)
    if file.startswith((_SCHEME, "https://", "http://")):
        return inspect_remote_dl1(path, whole=whole, profile=profile)
    # lexists, since a broken link is a local path too
    if os.path.lexists(file) or file.startswith(("./", "../")) or "\0" in file:
        return inspect_dl1(file)
    try:
        return inspect_remote_dl1(path, whole=whole, profile=profile)
    except NotFound as why:
        raise NotFound(
            "There is no such file, neither local nor remote", where=file, said=why.where
        ) from why
    except (TokenMissing, TokenExpired, LoginNeeded) as why:
        raise NotFound(
            "There is no such local file, and the storage was not asked",
            where=file,
            said=why.what,
            hint=why.hint,
        ) from why


def _draw(
    looked: list[Inspection], plot: str | None, page: str | None, limits: Bounds | None
) -> None:
    from ctaflows.tasks import plot_night, write_page
    from ctaflows.tasks.dl1 import checked

    inspections = checked(looked, limits)
    for path, write in ((plot, plot_night), (page, write_page)):
        if path:
            write(inspections, path)
            if console.verbosity >= 0:
                click.echo(f"ctaflows: {path} is written", err=True)


def _print(summary: DL1Summary, *, columns: bool) -> None:
    click.secho(summary.file, bold=True)
    quantities = lines(summary.quantities) if summary.quantities else []
    for key, value in [*_lines(summary), *quantities]:
        click.echo(f"  {key:<15} {value}")
    output.print_rich(_columns(summary) if columns else _tables(summary))


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


# -- lines of quantities ---------------------------------------------------------------------------
#
# The lines of `ctaflows inspect` about a file's quantities.


def lines(found: Quantities) -> list[tuple[str, str]]:
    """Return the name and the text of each quantity that the file has."""
    named = [
        ("live time", _live(found)),
        ("rate spread", _rates(found)),
        ("pointing", _pointing(found)),
        *((f"{k} p.e.", _intensity(s)) for k, s in found.intensity.items()),
        ("spectrum", _spectrum(found)),
        *_images(found),
        ("pixels", _pixels(found)),
    ]
    return [(name, words) for name, words in named if words]


def _live(found: Quantities) -> str:
    times = found.times
    if times is None or times.live_time_s is None or times.live_fraction is None:
        return ""
    gaps = f", {times.n_gaps} gaps" if times.n_gaps else ""
    return f"{times.live_time_s:.6f} s, dead {100 * (1 - times.live_fraction):.2f} %{gaps}"


def _rates(found: Quantities) -> str:
    rates = found.rates
    if rates is None:
        return ""
    spreads = (f"{r.mean_hz:.1f} ± {r.std_hz:.1f} Hz {k}" for k, r in rates.by_type.items())
    return f"{', '.join(spreads)}, in {rates.n_bins} bins of {rates.bin_s:g} s"


def _pointing(found: Quantities) -> str:
    at = found.pointing
    if at is None or at.altitude_deg is None or at.azimuth_deg is None:
        return ""
    parts = [f"altitude {at.altitude_deg:.4f}°, azimuth {at.azimuth_deg:.4f}°"]
    if at.span_deg is not None:
        parts.append(f"within {at.span_deg:.2g}°")
    if at.n_nan:
        parts.append(f"{at.n_nan} of {at.n} unknown")
    return ", ".join(parts)


def _intensity(spread: Spread) -> str:
    n_all = spread.n + spread.n_nan
    if spread.quantiles is None:
        return f"none of {n_all:,} survives the cleaning"
    _, low, *_, high, _ = spread.quantiles
    return (
        f"median {spread.median:.4g}, 5 to 95 % {low:.4g} to {high:.4g} "
        f"({spread.n:,} of {n_all:,} survive the cleaning)"
    )


def _spectrum(found: Quantities) -> str:
    spectrum = found.spectrum
    if spectrum is None or spectrum.index is None:
        return ""
    at = spectrum.rate_at_422
    rate = f", {at:.3g} Hz / p.e. at 422 p.e." if at is not None else ""
    return f"index {spectrum.index:.3f}{rate}"


def _images(found: Quantities) -> Iterable[tuple[str, str]]:
    if found.images is not None:
        for kind, charges in found.images.by_type.items():
            yield f"{kind} pixel", _charges(charges)


def _charges(charges: Charges) -> str:
    if charges.charge_mean is None:
        return ""
    parts = [f"charge {charges.charge_mean:.4g} p.e."]
    if charges.charge_std is not None and charges.n > 1:
        parts.append(f"deviation {charges.charge_std:.4g} p.e.")
    if charges.time_mean_ns is not None:
        parts.append(f"time {charges.time_mean_ns:.4g} ns")
    return f"{', '.join(parts)} ({charges.n:,} images)"


def _pixels(found: Quantities) -> str:
    parts = []
    if found.calibration is not None and found.calibration.n_unusable_pixels is not None:
        parts.append(
            f"{found.calibration.n_unusable_pixels} of {found.calibration.n_pixels} unusable"
        )
    if found.images is not None and found.images.n_dead_pixels is not None:
        parts.append(f"{found.images.n_dead_pixels} without any charge")
    return ", ".join(parts)
