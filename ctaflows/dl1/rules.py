"""The checks of a DL1 file: what is measured, the bounds, and where both come from. Pure.

Sources are named by lstchain's files (0.12); "ours" where lstchain draws a quantity but sets no
bound, or has neither. Where lstchain has one pair of bounds it is ``warn``, and ``bad`` is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctaflows.dl1.quantities import Quantities

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ctaflows.dl1.quantities import Charges, Spread
    from ctaflows.dl1.summary import DL1Summary

_LONGTERM = "lstchain_longterm_dl1_check.py"
_QUALITY = "data_quality.ipynb of lstchain"
_OURS = "ours"
_MONITORING = "/dl1/event/telescope/monitoring/"
#: Dead time of an event in seconds (lstchain_longterm_dl1_check).
_DEAD_S = 7e-6
#: Rate of interleaved pedestals, and of flat-field events.
_INTERLEAVED_HZ = 100.0
_SIGMAS = 3.0
#: Fewer images or events make no statement on deviations.
_FEW = 20
#: Nor does the number of events where fewer are expected.
_FEW_EXPECTED = 10
#: Of more events the types of images can't be told (`ctaflows.dl1.gauge`).
_MAX_LISTED = 4_000_000
_DATACHECK_TYPES = ("cosmic", "pedestal", "flatfield")


@dataclass(frozen=True)
class Finding:
    """A value, how much chance may change it, and what is behind it."""

    value: float | None = None
    tolerance: float = 0.0
    said: str | None = None


_NOTHING = Finding()


def _all(summary: DL1Summary) -> Quantities:
    return summary.quantities or Quantities()


def _always(_: DL1Summary) -> bool:
    return True


def _has_events(summary: DL1Summary) -> bool:
    return summary.level != "datacheck"


def _is_observed(summary: DL1Summary) -> bool:
    return not summary.simulated


def _is_observed_events(summary: DL1Summary) -> bool:
    return _has_events(summary) and not summary.simulated


def _is_lstchain_seen(summary: DL1Summary) -> bool:
    return _is_observed_events(summary) and summary.layout == "lstchain"


@dataclass(frozen=True)
class Rule:
    """One check.

    Attributes
    ----------
    measure : Callable
        Finds the value in a summary.
    unit : str or None
        Its unit.
    warn, bad : tuple of two floats or None
        Lowest and highest value that is good, and that is not bad.
    source : str
        Where formula and bounds come from.
    applies : Callable
        Has it a meaning for such a file?
    compare : Callable or None
        Finds the value in the file's summary and that of its datacheck, where both are there.
    """

    measure: Callable[[DL1Summary], Finding]
    unit: str | None
    warn: tuple[float | None, float | None]
    bad: tuple[float | None, float | None]
    source: str
    applies: Callable[[DL1Summary], bool] = _always
    compare: Callable[[DL1Summary, DL1Summary], Finding] | None = None


# ---------------------------------------------------------------------------- tables
def _expected(summary: DL1Summary) -> list[str]:
    """Name the tables that a file of this kind has."""
    if summary.level == "datacheck":
        return [f"/dl1datacheck/{name}" for name in ("cosmics", "pedestals", "flatfield")]
    if summary.layout == "ctapipe":
        return ["/dl1/event/subarray/trigger", "/dl1/event/telescope/trigger"]
    expected = ["/configuration/instrument/subarray/layout"]
    if not summary.simulated and "DL1a" in summary.level:
        # a merged run has neither images nor monitoring
        expected += [_MONITORING + name for name in ("calibration", "flatfield", "pedestal")]
    return expected


def _tables_missing(summary: DL1Summary) -> Finding:
    there = {table.path for table in summary.tables}
    missing = [path for path in _expected(summary) if path not in there]
    return Finding(len(missing), said=", ".join(missing) or None)


def _tables_empty(summary: DL1Summary) -> Finding:
    empty = [t.path for t in summary.tables if not t.rows and t.path.startswith("/dl1")]
    return Finding(len(empty), said=", ".join(empty[:5]) or None)


def _events(summary: DL1Summary) -> Finding:
    return Finding(summary.n_events)


def _rows_disagree(summary: DL1Summary) -> Finding:
    """Compare each telescope's images with its parameters."""
    rows: dict[str, dict[str, int]] = {}
    for table in summary.tables:
        above, _, name = table.path.rpartition("/")
        kind = above.removeprefix("/dl1/event/telescope/").rstrip("s")
        if kind in ("image", "parameter"):
            rows.setdefault(name, {})[kind] = table.rows
    pairs = {name: found for name, found in rows.items() if len(found) == 2}
    if not pairs:
        return _NOTHING
    worst = max(pairs, key=lambda name: abs(pairs[name]["image"] - pairs[name]["parameter"]))
    found = pairs[worst]
    difference = abs(found["image"] - found["parameter"])
    said = f"{worst}: {found['image']} images, {found['parameter']} parameters"
    return Finding(difference, said=said if difference else None)


def _alone(_: DL1Summary) -> Finding:
    return _NOTHING


def _datacheck_events(summary: DL1Summary, datacheck: DL1Summary) -> Finding:
    """Compare the number of events with the sum over the datacheck's tables.

    Its types are lstchain's own guess from images and tags, but each event is of one of them; a
    type of fewer than two events has no table.
    """
    if summary.n_events is None or not datacheck.n_events:
        return _NOTHING
    n_untold = sum(kind not in (datacheck.n_events_by_type or {}) for kind in _DATACHECK_TYPES)
    difference = abs(summary.n_events - datacheck.n_events)
    said = f"{summary.n_events} events, {datacheck.n_events} in the datacheck"
    return Finding(difference, float(n_untold), said if difference else None)


def _unmatched(summary: DL1Summary) -> Finding:
    """Count images of events that are not among the events."""
    images = _all(summary).images
    if images is None or not summary.n_events_by_type or (summary.n_events or 0) > _MAX_LISTED:
        return _NOTHING
    found = images.by_type.get("all")
    return Finding(found.n if found else 0, said=f"of {images.n_read} images that were read")


# ---------------------------------------------------------------------------- events and times
def _duplicate_ids(summary: DL1Summary) -> Finding:
    found = _all(summary).identities
    return Finding(found.n_duplicate) if found else _NOTHING


def _missing_ids(summary: DL1Summary) -> Finding:
    found = _all(summary).identities
    # a file of calibration events alone leaves out the cosmics' numbers
    if not found or found.n_missing is None or not (summary.n_events_by_type or {}).get("cosmic"):
        return _NOTHING
    return Finding(found.n_missing / ((summary.n_events or 0) + found.n_missing))


def _tags(summary: DL1Summary) -> Finding:
    found = _all(summary).identities
    if not found or found.n_trigger_mismatches is None or not summary.n_events:
        return _NOTHING
    return Finding(found.n_trigger_mismatches / summary.n_events)


def _ucts_jumps(summary: DL1Summary) -> Finding:
    found = _all(summary).identities
    return Finding(found.n_ucts_jumps) if found else _NOTHING


def _unknown_types(summary: DL1Summary) -> Finding:
    counts = summary.n_events_by_type
    if counts is None or not summary.n_events:
        return _NOTHING
    return Finding((counts.get("unknown", 0) + counts.get("other", 0)) / summary.n_events)


def _backward(summary: DL1Summary) -> Finding:
    times = _all(summary).times
    return Finding(times.n_backward) if times and times.n > 1 else _NOTHING


def _unset_times(summary: DL1Summary) -> Finding:
    times = _all(summary).times
    n = times.n + times.n_unset if times else 0
    return Finding(times.n_unset / n) if times and n else _NOTHING


def _gap(summary: DL1Summary) -> Finding:
    times = _all(summary).times
    if not times or times.max_step_s is None or not times.mean_step_s or times.n < _FEW:
        return _NOTHING
    # the longest of n steps of a Poisson process, on average
    ordinary_s = times.mean_step_s * math.log(times.n)
    return Finding(times.max_step_s / ordinary_s, said=f"{times.max_step_s:.4g} s")


def _live_fraction(summary: DL1Summary) -> Finding:
    times = _all(summary).times
    return Finding(times.live_fraction) if times and times.n >= 1000 else _NOTHING


# ---------------------------------------------------------------------------- rates
def _rate_cosmic(summary: DL1Summary) -> Finding:
    zenith_deg = _zenith_deg(summary)
    rate_hz = (summary.rate_hz_by_type or {}).get("cosmic")
    n = (summary.n_events_by_type or {}).get("cosmic")
    if zenith_deg is None or rate_hz is None or not n or zenith_deg > 90:
        return _NOTHING
    expected_hz = 3065.6 + 3403.2 * math.cos(math.radians(zenith_deg))
    ratio = rate_hz / expected_hz
    said = f"{rate_hz:.0f} Hz, {expected_hz:.0f} Hz expected at {zenith_deg:.1f}° from the zenith"
    return Finding(ratio, _SIGMAS * ratio / math.sqrt(n), said)


def _interleaved(kind: str) -> Callable[[DL1Summary], Finding]:
    def measure(summary: DL1Summary) -> Finding:
        counts, rate_hz, duration_s = (
            summary.n_events_by_type,
            summary.rate_hz,
            summary.duration_s,
        )
        if counts is None or rate_hz is None or not duration_s:
            return _NOTHING
        expected_hz = _INTERLEAVED_HZ * max(0.0, 1 - rate_hz * _DEAD_S)
        n_expected = expected_hz * duration_s
        if n_expected < _FEW_EXPECTED:
            return _NOTHING
        rate = counts.get(kind, 0) / duration_s
        said = f"{rate:.1f} Hz, {expected_hz:.1f} Hz expected"
        return Finding(rate / expected_hz, _SIGMAS / math.sqrt(n_expected), said)

    return measure


def _rate_excess(summary: DL1Summary) -> Finding:
    rates = _all(summary).rates
    if not rates or rates.n_bins < 5 or "all" not in rates.by_type:
        return _NOTHING
    return Finding(rates.by_type["all"].excess)


def _zenith_deg(summary: DL1Summary) -> float | None:
    pointing = _all(summary).pointing
    return pointing.zenith_deg if pointing else None


# ---------------------------------------------------------------------------- intensities
def _cleaned(kind: str) -> Callable[[DL1Summary], Finding]:
    def measure(summary: DL1Summary) -> Finding:
        found = _intensity(summary, kind)
        if found is None or not found.n + found.n_nan:
            return _NOTHING
        n = found.n + found.n_nan
        fraction = found.n / n
        # at least one event more or less
        spread = max(math.sqrt(fraction * (1 - fraction) / n), 1 / n)
        return Finding(fraction, _SIGMAS * spread)

    return measure


def _intensity(summary: DL1Summary, kind: str) -> Spread | None:
    return _all(summary).intensity.get(kind)


def _incomplete(summary: DL1Summary) -> Finding:
    found = summary.quantities
    if found is None or found.n_incomplete is None:
        return _NOTHING
    n = sum(spread.n for spread in found.intensity.values())
    return Finding(found.n_incomplete / n) if n else _NOTHING


def _spectrum_index(summary: DL1Summary) -> Finding:
    found = _all(summary).spectrum
    if not found or found.index_zenith is None:
        return _NOTHING
    return Finding(found.index_zenith, _SIGMAS * (found.index_error or 0.0))


def _spectrum_rate(summary: DL1Summary) -> Finding:
    found = _all(summary).spectrum
    if not found or found.rate_at_422_zenith is None:
        return _NOTHING
    n = sum(found.counts[30:35])
    return Finding(found.rate_at_422_zenith, _SIGMAS * found.rate_at_422_zenith / math.sqrt(n))


# ---------------------------------------------------------------------------- charges and pixels
def _charges(kind: str, name: str, least: int = 2) -> Callable[[DL1Summary], Finding]:
    def measure(summary: DL1Summary) -> Finding:
        images = _all(summary).images
        found: Charges | None = images.by_type.get(kind) if images else None
        if found is None or found.n < least:
            return _NOTHING
        return Finding(getattr(found, name))

    return measure


def _noisy(summary: DL1Summary) -> Finding:
    images = _all(summary).images
    found = images.by_type.get("pedestal") if images else None
    if not images or not found or found.n_noisy is None or found.n < _FEW:
        return _NOTHING
    return Finding(found.n_noisy / images.n_pixels, said=f"{found.n_noisy} pixels")


def _dead_pixels(summary: DL1Summary) -> Finding:
    images = _all(summary).images
    return Finding(images.n_dead_pixels) if images else _NOTHING


def _nan_charges(summary: DL1Summary) -> Finding:
    images = _all(summary).images
    if images is None or images.n_nan is None or not images.n_read:
        return _NOTHING
    return Finding(images.n_nan / (images.n_read * images.n_pixels))


def _unusable(summary: DL1Summary) -> Finding:
    found = _all(summary).calibration
    return Finding(found.n_unusable_pixels) if found else _NOTHING


# ---------------------------------------------------------------------------- pointing
def _pointing_step(summary: DL1Summary) -> Finding:
    pointing = _all(summary).pointing
    return Finding(pointing.max_step_deg) if pointing else _NOTHING


def _pointing_nan(summary: DL1Summary) -> Finding:
    pointing = _all(summary).pointing
    return Finding(pointing.n_nan / pointing.n) if pointing and pointing.n else _NOTHING


_seen, _sky, _events_only = _is_observed_events, _is_observed, _has_events
_INTERLEAVED_SOURCE = f"{_LONGTERM}: 100 Hz (1 - dead time) ± 5 %; bad: ours"
#: The checks by name, in the order in which they are shown.
RULES: Mapping[str, Rule] = {
    "tables_missing": Rule(_tables_missing, None, (0, 0), (0, None), _OURS),
    "tables_empty": Rule(_tables_empty, None, (0, 0), (0, None), _OURS),
    "events": Rule(_events, None, (2, None), (1, None), _OURS),
    "rows_disagree": Rule(_rows_disagree, None, (0, 0), (0, 0), _OURS, _events_only),
    "datacheck_events": Rule(
        _alone,
        None,
        (0, 0),
        (0, 0),
        "ours, after lstchain.datachecks.dl1_checker: each event is in one of its tables",
        _is_lstchain_seen,
        _datacheck_events,
    ),
    "images_unmatched": Rule(_unmatched, None, (0, 0), (0, 0), _OURS, _events_only),
    "ids_duplicate": Rule(_duplicate_ids, None, (0, 0), (0, 0), _OURS, _events_only),
    "ids_missing": Rule(_missing_ids, None, (0, 0.01), (0, 0.2), _OURS, _seen),
    "tags_differ": Rule(
        _tags, None, (0, 0.001), (0, 0.05), f"quantity: {_LONGTERM}; bounds: ours", _seen
    ),
    "ucts_jumps": Rule(
        _ucts_jumps, None, (0, 0), (0, 10), f"quantity: {_LONGTERM}; bounds: ours", _sky
    ),
    "types_unknown": Rule(_unknown_types, None, (0, 0.01), (0, 0.2), _OURS, _seen),
    "time_backward": Rule(_backward, None, (0, 0), (0, 0), _OURS, _seen),
    "time_unset": Rule(_unset_times, None, (0, 0), (0, 0.01), _OURS, _seen),
    "time_gap": Rule(
        _gap,
        None,
        (0, 5),
        (0, 500),
        "after lstchain_cherenkov_transparency.py: a hiccup is 5 times an ordinary gap; bad: ours",
        _seen,
    ),
    "live_fraction": Rule(
        _live_fraction,
        None,
        (0.85, 1),
        (0.5, 1),
        "quantity: lstchain.reco.utils.get_effective_time; bounds: ours",
        _seen,
    ),
    "rate_cosmic": Rule(
        _rate_cosmic,
        None,
        (0.7, 1.3),
        (0.3, 2),
        f"{_LONGTERM}: (3065.6 + 3403.2 cos(zenith)) Hz ± 30 %; bad: ours",
        _seen,
    ),
    "rate_pedestal": Rule(
        _interleaved("pedestal"), None, (0.95, 1.05), (0.5, 1.5), _INTERLEAVED_SOURCE, _seen
    ),
    "rate_flatfield": Rule(
        _interleaved("flatfield"), None, (0.95, 1.05), (0.5, 1.5), _INTERLEAVED_SOURCE, _seen
    ),
    "rate_excess": Rule(_rate_excess, None, (0, 0.1), (0, 0.5), _OURS, _seen),
    "cleaned_cosmic": Rule(
        _cleaned("cosmic"),
        None,
        (0.4, 1),
        (0.1, 1),
        "quantity: lstchain.datachecks.containers; bounds: ours",
        _seen,
    ),
    "cleaned_pedestal": Rule(
        _cleaned("pedestal"), None, (0, 0.05), (0, 0.2), f"{_LONGTERM}: 5 %; bad: ours", _seen
    ),
    "incomplete": Rule(_incomplete, None, (0, 0.0005), (0, 0.05), _OURS, _events_only),
    "spectrum_index": Rule(
        _spectrum_index,
        None,
        (-2.35, -2.1),
        (-2.7, -1.8),
        f"formula: lstchain_cherenkov_transparency.py; bounds: {_QUALITY}; bad: ours",
        _sky,
    ),
    "spectrum_rate": Rule(
        _spectrum_rate,
        "Hz / p.e.",
        (1.5, None),
        (0.75, None),
        f"formula: lstchain_cherenkov_transparency.py; bound: {_QUALITY}; bad: ours",
        _sky,
    ),
    "pedestal_charge_std": Rule(
        _charges("pedestal", "charge_std", _FEW),
        "p.e.",
        (0.5, 2.3),
        (0.1, 5),
        f"{_QUALITY}: 2.3 in dark nights; the others: ours",
        _sky,
    ),
    "pedestal_noisy": Rule(
        _noisy, None, (0, 0.1), (0, 0.5), f"noisy, 2.5 p.e.: {_LONGTERM}; bounds: ours", _sky
    ),
    "flatfield_charge": Rule(
        _charges("flatfield", "charge_mean"),
        "p.e.",
        (62.1, 75.9),
        (34.5, 103.5),
        f"{_LONGTERM}: 69 p.e. ± 10 %; bad: ours",
        _sky,
    ),
    "flatfield_charge_std": Rule(
        _charges("flatfield", "charge_std", _FEW),
        "p.e.",
        (0, 11),
        (0, 20),
        f"{_LONGTERM}: 11 p.e.; bad: ours",
        _sky,
    ),
    "flatfield_time": Rule(
        _charges("flatfield", "time_mean_ns"),
        "ns",
        (12, 23),
        (2, 35),
        f"{_LONGTERM}: 12 to 23 ns; bad: ours",
        _sky,
    ),
    "flatfield_time_std": Rule(
        _charges("flatfield", "relative_time_std_ns", _FEW),
        "ns",
        (0, 0.5),
        (0, 1.5),
        f"{_LONGTERM}: 0.5 ns; bad: ours",
        _sky,
    ),
    "pixels_unusable": Rule(
        _unusable, None, (0, 70), (0, 185), "lstchain_dl1ab.py: 70; bad, 10 %: ours", _seen
    ),
    "charges_nan": Rule(_nan_charges, None, (0, 0), (0, 0.01), _OURS, _events_only),
    "pixels_dead": Rule(_dead_pixels, None, (0, 10), (0, 70), _OURS, _seen),
    "pointing_step": Rule(_pointing_step, "deg", (0, 0.02), (0, 0.2), _OURS, _seen),
    "pointing_nan": Rule(_pointing_nan, None, (0, 0), (0, 0.1), _OURS, _seen),
}
