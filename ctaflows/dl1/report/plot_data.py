"""What the pictures of a night show: one point a subrun, and the words that tell it. Pure."""

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

#: Types of events in the order in which they are shown; others follow.
TYPES = ("cosmic", "pedestal", "flatfield")
#: More bins of the rates than this are not drawn one by one: each file's mean is.
MOST_BINS = 3000
#: The bins of the cosmics' intensities, as `ctaflows.dl1.content.spectrum.edges` has them.
N_INTENSITIES = 100


@dataclass(frozen=True, slots=True)
class Point:
    """One subrun, or one file of a whole run.

    Attributes
    ----------
    run, subrun : int or None
        Their numbers.
    summary : DL1Summary
        Of its events; of the datacheck where there is no file of them.
    charges : dict of str to Charges
        By type, from the images or, where the file has none, from the datacheck.
    checks : tuple of Check
        What they say of these.
    """

    run: int | None
    subrun: int | None
    summary: DL1Summary
    charges: dict[str, Charges]
    checks: tuple[Check, ...] = ()

    @property
    def moment_s(self) -> float | None:
        """The middle of its time, in seconds since 1970."""
        first, last = self.summary.time_first, self.summary.time_last
        if first is None:
            return None
        return (first.timestamp() + (last or first).timestamp()) / 2


@dataclass(frozen=True, slots=True)
class Series:
    """Values in the course of time.

    Attributes
    ----------
    moments_s : list of float
        Seconds since 1970.
    values : list of float
        NaN where a line is to be broken: between runs, and where a value is absent.
    """

    moments_s: list[float]
    values: list[float]

    @property
    def finite(self) -> list[float]:
        """The values without the breaks."""
        return [v for v in self.values if math.isfinite(v)]


def points_of(inspections: Iterable[Inspection]) -> list[Point]:
    """Put the files of each subrun together, in the order of time.

    Events are counted once: a file of a whole run counts only where there is none of its subruns,
    a datacheck only where there are no events, and the first of files of the same subrun.
    """
    events: dict[_Key, Inspection] = {}
    datachecks: dict[_Key, Inspection] = {}
    for looked in inspections:
        if looked.summary is None:
            continue
        name = parse_name(looked.file)
        if name is not None and name.kind not in ("dl1", "datacheck"):
            continue
        is_datacheck = looked.summary.level == "datacheck"
        (datachecks if is_datacheck else events).setdefault(_key(looked), looked)
    chosen = _without_wholes(events)
    runs = {key[0] for key in chosen}
    for key, looked in _without_wholes(datachecks).items():
        if key not in chosen and not (key[1] is None and key[0] in runs):
            chosen[key] = looked
    points = [_point(key, looked, datachecks.get(key)) for key, looked in chosen.items()]
    return sorted(points, key=_order)


def _key(looked: Inspection) -> _Key:
    """Say which subrun it is; a file that does not tell its run is one of its own."""
    summary = looked.summary
    run = summary.run if summary else None
    subrun = summary.subrun if summary else None
    return (run, subrun, "" if run is not None else looked.file)


def _without_wholes(files: dict[_Key, Inspection]) -> dict[_Key, Inspection]:
    in_parts = {run for run, subrun, _ in files if subrun is not None}
    return {k: v for k, v in files.items() if k[1] is not None or k[0] not in in_parts}


def _point(key: _Key, looked: Inspection, datacheck: Inspection | None) -> Point:
    assert looked.summary is not None  # noqa: S101  points_of takes no other
    charges = _charges(looked)
    checks = looked.checks
    if not charges and datacheck is not None:
        charges, checks = _charges(datacheck), (*checks, *datacheck.checks)
    return Point(key[0], key[1], looked.summary, charges, checks)


def _charges(looked: Inspection) -> dict[str, Charges]:
    quantities = looked.summary.quantities if looked.summary else None
    return quantities.images.by_type if quantities and quantities.images else {}


def _order(point: Point) -> tuple[bool, float, int, int]:
    moment_s = point.moment_s
    return (moment_s is None, moment_s or 0.0, point.run or 0, point.subrun or 0)


def counts_by_type(points: Iterable[Point]) -> dict[str, int]:
    """Add up the events of each type."""
    found: dict[str, int] = {}
    for point in points:
        for kind, n_events in (point.summary.n_events_by_type or {}).items():
            found[printable(kind)] = found.get(printable(kind), 0) + n_events
    return {kind: found[kind] for kind in _sorted(found)}


def rates(points: Sequence[Point]) -> dict[str, Series]:
    """Give the rate of each type, in Hz: in bins of time where they are told and few enough."""
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
    told, first = _rates(point), point.summary.time_first
    if is_fine and told is not None and told.n_bins and first is not None:
        start_s, bin_s = first.timestamp(), told.bin_s
        return {
            kind: [(start_s + (i + 0.5) * bin_s, n / bin_s) for i, n in enumerate(rate.counts)]
            for kind, rate in told.by_type.items()
            if kind != "all"
        }
    moment_s = point.moment_s or 0.0
    return {k: [(moment_s, rate)] for k, rate in (point.summary.rate_hz_by_type or {}).items()}


def pointing(points: Sequence[Point]) -> tuple[Series, Series]:
    """Give altitude and azimuth in degrees, broken where the azimuth passes north."""
    altitudes, azimuths = Series([], []), Series([], [])
    before: float | None = None
    for last, point in _with_last(points):
        quantities = point.summary.quantities
        told = quantities.pointing if quantities else None
        if point.moment_s is None or told is None:
            continue
        is_break = last is not None and last.run != point.run
        if told.altitude_deg is not None:
            _extend(altitudes, [(point.moment_s, told.altitude_deg)], is_break=is_break)
        if told.azimuth_deg is not None:
            passes = before is not None and abs(told.azimuth_deg - before) > 180
            _extend(azimuths, [(point.moment_s, told.azimuth_deg)], is_break=is_break or passes)
            before = told.azimuth_deg
    return altitudes, azimuths


def charges(points: Sequence[Point], kind: str, name: str) -> Series:
    """Give a field of `Charges` for one type of events."""
    series = Series([], [])
    for last, point in _with_last(points):
        value = getattr(point.charges.get(kind), name, None)
        if point.moment_s is not None and value is not None:
            is_break = last is not None and last.run != point.run
            _extend(series, [(point.moment_s, value)], is_break=is_break)
    return series


def bounds(points: Iterable[Point], check: str) -> tuple[float, float] | None:
    """Give the bounds of what is good, as the checks have them."""
    for point in points:
        for one in point.checks:
            if one.name == check and None not in one.warn:
                return one.warn  # type: ignore[return-value]
    return None


def spectra(points: Iterable[Point]) -> dict[int | None, tuple[list[int], float]]:
    """Add up each run's cosmics by intensity, and the seconds in which they came."""
    found: dict[int | None, tuple[list[int], float]] = {}
    for point in points:
        quantities = point.summary.quantities
        told = quantities.spectrum if quantities else None
        duration_s = point.summary.duration_s
        if told is None or not duration_s or len(told.counts) != N_INTENSITIES:
            continue
        counts, seconds = found.get(point.run, ([0] * N_INTENSITIES, 0.0))
        added = [a + b for a, b in zip(counts, told.counts, strict=True)]
        found[point.run] = (added, seconds + duration_s)
    return {run: one for run, one in found.items() if any(one[0])}


def starts(points: Iterable[Point]) -> dict[int, float]:
    """Say when each run begins, in seconds since 1970."""
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
