"""The data of a night's plots: one point per subrun, and series of values over time. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctaflows.dl1.names import parse_name
from ctaflows.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctaflows.dl1.content.quantities import Charges, Rates
    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.quality.checks import Check, Inspection

    _Key = tuple[int | None, int | None, str]

#: Types of events in the order in which they are shown; others follow in alphabetical order.
TYPES = ("cosmic", "pedestal", "flatfield")
#: With more bins of the rates than this in all files, each file's mean rate is drawn instead.
MOST_BINS = 3000
#: Number of bins of the cosmics' intensity, those of `ctaflows.dl1.content.spectrum.edges`.
N_INTENSITIES = 100


@dataclass(frozen=True, slots=True)
class Point:
    """The data of one subrun, or of a merged run.

    Attributes
    ----------
    run, subrun : int or None
        Numbers of run and subrun.
    summary : DL1Summary
        Summary of the DL1 file, or of the datacheck where there is no DL1 file.
    charges : dict of str to Charges
        Charges by type of events, from the images or, where the file has none, the datacheck.
    checks : tuple of Check
        Checks of the file, and of the datacheck where its charges are used.
    """

    run: int | None
    subrun: int | None
    summary: DL1Summary
    charges: dict[str, Charges]
    checks: tuple[Check, ...] = ()

    @property
    def moment_s(self) -> float | None:
        """The middle between first and last event, in UTC seconds since 1970; None if unknown."""
        first, last = self.summary.time_first, self.summary.time_last
        if first is None:
            return None
        return (first.timestamp() + (last or first).timestamp()) / 2


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time.

    Attributes
    ----------
    moments_s : list of float
        Times in UTC seconds since 1970.
    values : list of float
        A value for each time; NaN where the line is to be interrupted, such as between runs.
    """

    moments_s: list[float]
    values: list[float]

    @property
    def finite(self) -> list[float]:
        """The values without the NaN of interruptions."""
        return [v for v in self.values if math.isfinite(v)]


def points_of(inspections: Iterable[Inspection]) -> list[Point]:
    """Combine the files of each subrun, in the order of time.

    Events are counted once: a merged file is used only where there are no files of its subruns, a
    datacheck only where there is no DL1 file, and of several files of a subrun only the first.

    Parameters
    ----------
    inspections : iterable of Inspection
        Inspections in any order; files that could not be read are left out.

    Returns
    -------
    list of Point
        In the order of time; those without a time come last.
    """
    events: dict[_Key, Inspection] = {}
    datachecks: dict[_Key, Inspection] = {}
    for inspection in inspections:
        if inspection.summary is None:
            continue
        name = parse_name(inspection.file)
        if name is not None and name.kind not in ("dl1", "datacheck"):
            continue
        is_datacheck = inspection.summary.level == "datacheck"
        (datachecks if is_datacheck else events).setdefault(_key(inspection), inspection)
    chosen = _without_merged(events)
    runs = {key[0] for key in chosen}
    for key, inspection in _without_merged(datachecks).items():
        if key not in chosen and not (key[1] is None and key[0] in runs):
            chosen[key] = inspection
    points = [_point(key, inspection, datachecks.get(key)) for key, inspection in chosen.items()]
    return sorted(points, key=_order)


def _key(inspection: Inspection) -> _Key:
    """Return run, subrun and "", or the path as well where the run is unknown."""
    summary = inspection.summary
    run = summary.run if summary else None
    subrun = summary.subrun if summary else None
    return (run, subrun, "" if run is not None else inspection.file)


def _without_merged(files: dict[_Key, Inspection]) -> dict[_Key, Inspection]:
    """Leave out the merged files of runs that have files of subruns."""
    runs_in_subruns = {run for run, subrun, _ in files if subrun is not None}
    return {k: v for k, v in files.items() if k[1] is not None or k[0] not in runs_in_subruns}


def _point(key: _Key, inspection: Inspection, datacheck: Inspection | None) -> Point:
    assert inspection.summary is not None  # noqa: S101  points_of takes no other
    charges = _charges(inspection)
    checks = inspection.checks
    if not charges and datacheck is not None:
        charges, checks = _charges(datacheck), (*checks, *datacheck.checks)
    return Point(key[0], key[1], inspection.summary, charges, checks)


def _charges(inspection: Inspection) -> dict[str, Charges]:
    quantities = inspection.summary.quantities if inspection.summary else None
    return quantities.images.by_type if quantities and quantities.images else {}


def _order(point: Point) -> tuple[bool, float, int, int]:
    moment_s = point.moment_s
    return (moment_s is None, moment_s or 0.0, point.run or 0, point.subrun or 0)


def counts_by_type(points: Iterable[Point]) -> dict[str, int]:
    """Return the number of events of each type, in the order in which types are shown."""
    found: dict[str, int] = {}
    for point in points:
        for kind, n_events in (point.summary.n_events_by_type or {}).items():
            found[printable(kind)] = found.get(printable(kind), 0) + n_events
    return {kind: found[kind] for kind in _sorted(found)}


def rates(points: Sequence[Point]) -> dict[str, Series]:
    """Return the rate of each type of events over time, in Hz.

    In bins of time, unless these are more than `MOST_BINS` in all; then, and for files without
    such bins, the mean rate of each file.
    """
    n_bins = sum(r.n_bins for p in points if (r := _rates(p)))
    is_fine = 0 < n_bins <= MOST_BINS
    found: dict[str, Series] = {}
    for last, point in _with_last(points):
        if point.moment_s is None:
            continue
        is_break = last is not None and last.run != point.run
        for kind, pairs in _rates_of(point, is_fine=is_fine).items():
            series = found.setdefault(printable(kind), Series([], []))
            _extend(series, pairs, is_break=is_break)
    return {kind: found[kind] for kind in _sorted(found)}


def _rates(point: Point) -> Rates | None:
    quantities = point.summary.quantities
    return quantities.rates if quantities else None


def _rates_of(point: Point, *, is_fine: bool) -> dict[str, list[tuple[float, float]]]:
    rates, first = _rates(point), point.summary.time_first
    if is_fine and rates is not None and rates.n_bins and first is not None:
        start_s, bin_s = first.timestamp(), rates.bin_s
        return {
            kind: [(start_s + (i + 0.5) * bin_s, n / bin_s) for i, n in enumerate(rate.counts)]
            for kind, rate in rates.by_type.items()
            if kind != "all"
        }
    moment_s = point.moment_s or 0.0
    return {k: [(moment_s, rate)] for k, rate in (point.summary.rate_hz_by_type or {}).items()}


def pointing(points: Sequence[Point]) -> tuple[Series, Series]:
    """Return altitude and azimuth over time, in degrees.

    Both are interrupted between runs, the azimuth also where it passes north.
    """
    altitudes, azimuths = Series([], []), Series([], [])
    before: float | None = None
    for last, point in _with_last(points):
        quantities = point.summary.quantities
        stored = quantities.pointing if quantities else None
        if point.moment_s is None or stored is None:
            continue
        is_break = last is not None and last.run != point.run
        if stored.altitude_deg is not None:
            _extend(altitudes, [(point.moment_s, stored.altitude_deg)], is_break=is_break)
        if stored.azimuth_deg is not None:
            passes = before is not None and abs(stored.azimuth_deg - before) > 180
            _extend(azimuths, [(point.moment_s, stored.azimuth_deg)], is_break=is_break or passes)
            before = stored.azimuth_deg
    return altitudes, azimuths


def charges(points: Sequence[Point], kind: str, name: str) -> Series:
    """Return an attribute of `Charges` over time, for one type of events.

    Parameters
    ----------
    points : sequence of Point
        In the order of time.
    kind : str
        Type of events, such as ``pedestal``.
    name : str
        Name of the attribute, such as ``charge_std``.
    """
    series = Series([], [])
    for last, point in _with_last(points):
        value = getattr(point.charges.get(kind), name, None)
        if point.moment_s is not None and value is not None:
            is_break = last is not None and last.run != point.run
            _extend(series, [(point.moment_s, value)], is_break=is_break)
    return series


def bounds(points: Iterable[Point], check: str) -> tuple[float, float] | None:
    """Return a check's bounds (``warn``) in the files; None where it is not there with both."""
    for point in points:
        for one in point.checks:
            if one.name == check and None not in one.warn:
                return one.warn  # type: ignore[return-value]
    return None


def spectra(points: Iterable[Point]) -> dict[int | None, tuple[list[int], float]]:
    """Return the intensity spectrum of each run's cosmics.

    Returns
    -------
    dict of int or None to tuple of (list of int, float)
        By run number: the numbers of events in the `N_INTENSITIES` bins, and the time in seconds
        in which they were taken.
    """
    found: dict[int | None, tuple[list[int], float]] = {}
    for point in points:
        quantities = point.summary.quantities
        stored = quantities.spectrum if quantities else None
        duration_s = point.summary.duration_s
        if stored is None or not duration_s or len(stored.counts) != N_INTENSITIES:
            continue
        counts, seconds = found.get(point.run, ([0] * N_INTENSITIES, 0.0))
        added = [a + b for a, b in zip(counts, stored.counts, strict=True)]
        found[point.run] = (added, seconds + duration_s)
    return {run: one for run, one in found.items() if any(one[0])}


def starts(points: Iterable[Point]) -> dict[int, float]:
    """Return the time of each run's first event, in UTC seconds since 1970."""
    found: dict[int, float] = {}
    for point in points:
        first = point.summary.time_first
        if point.run is not None and first is not None:
            found[point.run] = min(found.get(point.run, math.inf), first.timestamp())
    return found


def _with_last(points: Sequence[Point]) -> Iterator[tuple[Point | None, Point]]:
    last: Point | None = None
    for point in points:
        yield last, point
        last = point


def _extend(series: Series, pairs: list[tuple[float, float]], *, is_break: bool) -> None:
    if is_break and series.values and pairs:
        series.moments_s.append(pairs[0][0])
        series.values.append(math.nan)
    for moment_s, value in pairs:
        if math.isfinite(value):
            series.moments_s.append(moment_s)
            series.values.append(value)


def _sorted(kinds: Iterable[str]) -> list[str]:
    kinds = list(kinds)
    known = [kind for kind in TYPES if kind in kinds]
    return [*known, *sorted(kind for kind in kinds if kind not in TYPES)]
