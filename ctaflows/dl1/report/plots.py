"""Plots of a night, drawn with matplotlib: as SVG for the HTML page, as PNG or PDF for a talk.

Lines differ in marker and dashes as well as in colour (the palette of Okabe and Ito).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.report import plot_data as _plot_data
from ctaflows.dl1.report.plot_sheet import (
    BLUE,
    GREEN,
    GRID,
    PURPLE,
    TEXT,
    VERMILLION,
    Picture,
    save,
    suffix_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.dl1.report.plot_data import Point, Series

__all__ = ["Picture", "pictures_of", "save", "suffix_of"]

#: Colour, marker and line style of each type of events.
_STYLES: dict[str, tuple[str, str, str]] = {
    "cosmic": (BLUE, "o", "-"),
    "pedestal": (VERMILLION, "s", "--"),
    "flatfield": (GREEN, "^", ":"),
}
_OTHER_STYLES = ((PURPLE, "D", "-."), (TEXT, "x", "-"), (BLUE, "v", "--"), (GREEN, "P", "-"))
#: In a line of more points than this only isolated points have markers.
_MOST_MARKS = 400
#: Of more runs than this one spectrum of all is drawn.
_MOST_RUNS = 6


def pictures_of(inspections: Iterable[Inspection]) -> tuple[Picture, ...]:
    """Return the plots of a set of files.

    Parameters
    ----------
    inspections : iterable of Inspection
        Inspections of the files in any order, such as those of `inspect_dl1_files`.

    Returns
    -------
    tuple of Picture
        ``rates``, ``spectrum``, ``pointing``, ``counts`` and ``charges``, in this order, without
        those for which the files have no data.
    """
    points = _plot_data.points_of(inspections)
    made = (_rates(points), _spectrum(points), _pointing(points), _counts(points), _charges(points))
    return tuple(picture for picture in made if picture is not None)


# ---------------------------------------------------------------------------- the plots
def _rates(points: list[Point]) -> Picture | None:
    found = {kind: s for kind, s in _plot_data.rates(points).items() if s.finite}
    if not found:
        return None
    fast = {k: s for k, s in found.items() if k == "cosmic"}
    slow = {k: s for k, s in found.items() if k != "cosmic"}
    panels = [(part, "Hz") for part in (fast, slow) if part]

    def draw(figure: Any) -> None:
        for axes, (part, unit) in zip(_panels(figure, len(panels)), panels, strict=True):
            for kind, series in part.items():
                _line(axes, series, kind)
            axes.set_ylabel(", ".join(part) + f" / {unit}" if len(part) == 1 else f"rate / {unit}")
            axes.set_ylim(0, 1.08 * max(v for s in part.values() for v in s.finite) or 1)
            if part is slow or len(panels) == 1:
                _legend(axes)
        _time_axis(figure, points)

    words = "; ".join(f"{kind} {_range(s.finite, 'Hz')}" for kind, s in found.items())
    return Picture("rates", "Rates over time", _sentence(f"Rates over time. {words}"), draw)


def _spectrum(points: list[Point]) -> Picture | None:
    found = _plot_data.spectra(points)
    if not found:
        return None
    if len(found) > _MOST_RUNS:
        counts = [sum(column) for column in zip(*(c for c, _ in found.values()), strict=True)]
        shown = {f"{len(found)} runs": (counts, sum(s for _, s in found.values()))}
    else:
        shown = {f"run {run}" if run is not None else "a file": v for run, v in found.items()}

    def draw(figure: Any) -> None:
        import numpy as np

        from ctaflows.dl1.content.spectrum import edges

        (axes,) = _panels(figure, 1)
        bins = edges()
        styles = [*_STYLES.values(), *_OTHER_STYLES]
        for (label, (counts, seconds)), (colour, mark, dashes) in zip(
            shown.items(), styles, strict=False
        ):
            rate = np.array(counts) / seconds / np.diff(bins)
            is_set = rate > 0
            axes.plot(
                np.sqrt(bins[1:] * bins[:-1])[is_set], rate[is_set], color=colour, marker=mark,
                linestyle=dashes, markersize=2.2, linewidth=0.9, label=label,
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="intensity / p.e.")
        axes.set_ylabel("dR/dI / (Hz / p.e.)")
        # the range in which lstchain fits the power law, p.e.
        axes.axvspan(316, 562, color=GRID, alpha=0.5, linewidth=0)
        _plain_decades(axes)
        _legend(axes)

    indices = [
        spectrum.index
        for p in points
        if (q := p.summary.quantities) and (spectrum := q.spectrum) and spectrum.index is not None
    ]
    words = f"Differential intensity spectrum of cosmics, {', '.join(shown)}"
    if indices:
        words += f"; index between 316 and 562 p.e. {_range(indices, '')}"
    return Picture("spectrum", "Intensity spectrum of cosmics", _sentence(words), draw)


def _pointing(points: list[Point]) -> Picture | None:
    altitudes, azimuths = _plot_data.pointing(points)
    if not altitudes.finite and not azimuths.finite:
        return None
    panels = (("altitude / deg", altitudes, "altitude"), ("azimuth / deg", azimuths, "azimuth"))

    def draw(figure: Any) -> None:
        for axes, (label, series, kind) in zip(_panels(figure, 2), panels, strict=True):
            _line(axes, series, kind, (BLUE, "o", "-"))
            axes.set_ylabel(label)
            _widen(axes, series.finite, 1.0)
        _time_axis(figure, points)

    words = f"altitude {_range(altitudes.finite, '°')}; azimuth {_range(azimuths.finite, '°')}"
    return Picture(
        "pointing", "Pointing", _sentence(f"Mean pointing of each subrun. {words}"), draw
    )


def _counts(points: list[Point]) -> Picture | None:
    found = _plot_data.counts_by_type(points)
    if not any(found.values()):
        return None

    def draw(figure: Any) -> None:
        (axes,) = _panels(figure, 1)
        kinds = list(found)
        colours = [_style(kind)[0] for kind in kinds]
        bars = axes.barh(kinds, list(found.values()), color=colours, height=0.6)
        axes.bar_label(bars, [f"{n:,}" for n in found.values()], padding=3)
        axes.set(xscale="log", xlabel="events", xlim=(0.5, max(found.values()) * 30))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        _plain_decades(axes, is_y_too=False)

    words = "; ".join(f"{kind} {n:,}" for kind, n in found.items())
    return Picture("counts", "Events by type", _sentence(f"Events by type. {words}"), draw)


def _charges(points: list[Point]) -> Picture | None:
    panels = []
    for kind, name, check, label in (
        ("pedestal", "charge_std", "pedestal_charge_std", "pedestal std / p.e."),
        ("flatfield", "charge_mean", "flatfield_charge", "flatfield mean / p.e."),
    ):
        series = _plot_data.charges(points, kind, name)
        if series.finite:
            panels.append((kind, label, series, _plot_data.bounds(points, check)))
    if not panels:
        return None

    def draw(figure: Any) -> None:
        for axes, (kind, label, series, good) in zip(
            _panels(figure, len(panels)), panels, strict=True
        ):
            _line(axes, series, kind)
            axes.set_ylabel(label)
            if good:
                axes.axhspan(*good, color=GRID, alpha=0.35, linewidth=0)
            else:
                _widen(axes, series.finite, 0.2)
        _time_axis(figure, points)

    words = "; ".join(f"{label.partition(' /')[0]} {_range(s.finite, 'p.e.')}"
                      for _, label, s, _ in panels)  # fmt: skip
    title = "Charge stability" + (", shaded: good" if any(p[3] for p in panels) else "")
    return Picture("charges", title, _sentence(f"Charges of each subrun. {words}"), draw)


# ---------------------------------------------------------------------------- parts of plots
def _panels(figure: Any, n: int) -> Any:
    return figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]


def _style(kind: str) -> tuple[str, str, str]:
    if kind in _STYLES:
        return _STYLES[kind]
    return _OTHER_STYLES[sum(kind.encode("utf-8", "replace")) % len(_OTHER_STYLES)]


def _line(axes: Any, series: Series, kind: str, style: tuple[str, str, str] | None = None) -> None:
    colour, mark, dashes = style or _style(kind)
    moments = [_moment(s) for s in series.moments_s]
    few = len(moments) <= _MOST_MARKS
    axes.plot(
        moments, series.values, color=colour, marker=mark, label=kind, linewidth=0.9,
        markevery=None if few else _alone(series.values),
        linestyle="-" if not few and dashes == ":" else dashes,
    )  # fmt: skip


def _alone(values: Sequence[float]) -> list[int]:
    """Return the indices of values with NaN, or nothing, on both sides."""
    around = [math.nan, *values, math.nan]
    return [
        i
        for i, value in enumerate(values)
        if not math.isnan(value) and math.isnan(around[i]) and math.isnan(around[i + 2])
    ]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _legend(axes: Any) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0, handlelength=2.6)


def _time_axis(figure: Any, points: Sequence[Point]) -> None:
    """Label the time axis in UTC, and draw a line at the begin of each run."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    starts_s = _plot_data.starts(points)
    for axes in figure.axes:
        for start_s in starts_s.values():
            axes.axvline(_moment(start_s), color=GRID, linewidth=1.2, zorder=0.5)
    axes = figure.axes[-1]
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlabel("time (UTC)")
    top = figure.axes[0]
    if top.get_legend() is None:
        _name_runs(top, starts_s)


def _name_runs(axes: Any, starts_s: dict[int, float]) -> None:
    """Write the run numbers above the axes, without those that would overlap."""
    from matplotlib.dates import date2num

    low, high = axes.get_xlim()
    free_from = -math.inf
    for run, start_s in sorted(starts_s.items(), key=lambda one: one[1]):
        place = float(date2num(_moment(start_s)))  # type: ignore[no-untyped-call]
        if place >= free_from:
            axes.annotate(
                f"{run}", (place, 1), xycoords=("data", "axes fraction"), fontsize=6.5,
                xytext=(0, 2), textcoords="offset points",
            )  # fmt: skip
            free_from = place + (high - low) * 0.1


def _widen(axes: Any, values: Sequence[float], least: float) -> None:
    """Set the y range to at least 1.5 times ``least``, so that small fluctuations look small."""
    if not values:
        return
    low, high = min(values), max(values)
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least * 0.75, middle + least * 0.75)


def _plain_decades(axes: Any, *, is_y_too: bool = True) -> None:
    """Label powers of ten in Unicode: matplotlib's mathtext needs fonts that a page lacks."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

    def power(value: float, _: int) -> str:
        exponent = round(math.log10(value)) if value > 0 else 0
        return f"10{str(exponent).translate(raised)}" if value > 0 else ""

    for axis in (axes.xaxis, axes.yaxis) if is_y_too else (axes.xaxis,):
        axis.set_major_formatter(FuncFormatter(power))
        axis.set_minor_locator(NullLocator())


def _range(values: Sequence[float], unit: str) -> str:
    if not values:
        return "absent"
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    text = low if low == high else f"{low} to {high}"
    return f"{text} {unit}".strip().replace(" °", "°")


def _sentence(words: str) -> str:
    return words.rstrip(" .") + "."
