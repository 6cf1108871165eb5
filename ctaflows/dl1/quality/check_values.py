"""What the checks measure of tables, events, times and rates. Pure.

A number that chance may change comes with how much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctaflows.dl1.content.quantities import Quantities

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.dl1.content.quantities import Charges, Spread
    from ctaflows.dl1.content.summary import DL1Summary

_MONITORING = "/dl1/event/telescope/monitoring/"
#: Dead time of an event in seconds (lstchain_longterm_dl1_check).
_DEAD_S = 7e-6
#: Rate of interleaved pedestals, and of flat-field events.
_INTERLEAVED_HZ = 100.0
#: Nor does the number of events where fewer are expected.
_FEW_EXPECTED = 10
#: Of more events the types of images can't be told (`ctaflows.dl1.content.event_statistics`).
_MAX_LISTED = 4_000_000
_DATACHECK_TYPES = ("cosmic", "pedestal", "flatfield")
SIGMAS = 3.0
#: Fewer images or events make no statement on deviations.
FEW = 20


@dataclass(frozen=True)
class Finding:
    """A value, how much chance may change it, and what is behind it."""

    value: float | None = None
    tolerance: float = 0.0
    said: str | None = None


#: There is nothing to measure.
NOTHING = Finding()


def quantities_of(summary: DL1Summary) -> Quantities:
    """Give what was measured, or as much as nothing."""
    return summary.quantities or Quantities()


# ---------------------------------------------------------------------------- tables
def expected(summary: DL1Summary) -> list[str]:
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


def tables_missing(summary: DL1Summary) -> Finding:
    """Count the expected tables that are not there."""
    there = {table.path for table in summary.tables}
    missing = [path for path in expected(summary) if path not in there]
    return Finding(len(missing), said=", ".join(missing) or None)


def tables_empty(summary: DL1Summary) -> Finding:
    """Count the tables without rows."""
    empty = [t.path for t in summary.tables if not t.rows and t.path.startswith("/dl1")]
    return Finding(len(empty), said=", ".join(empty[:5]) or None)


def events(summary: DL1Summary) -> Finding:
    """Count the events."""
    return Finding(summary.n_events)


def rows_disagree(summary: DL1Summary) -> Finding:
    """Compare each telescope's images with its parameters."""
    rows: dict[str, dict[str, int]] = {}
    for table in summary.tables:
        above, _, name = table.path.rpartition("/")
        kind = above.removeprefix("/dl1/event/telescope/").rstrip("s")
        if kind in ("image", "parameter"):
            rows.setdefault(name, {})[kind] = table.rows
    pairs = {name: found for name, found in rows.items() if len(found) == 2}
    if not pairs:
        return NOTHING
    worst = max(pairs, key=lambda name: abs(pairs[name]["image"] - pairs[name]["parameter"]))
    found = pairs[worst]
    difference = abs(found["image"] - found["parameter"])
    said = f"{worst}: {found['image']} images, {found['parameter']} parameters"
    return Finding(difference, said=said if difference else None)


def alone(_: DL1Summary) -> Finding:
    """Find nothing in a file alone."""
    return NOTHING


def datacheck_events(summary: DL1Summary, datacheck: DL1Summary) -> Finding:
    """Compare the number of events with the sum over the datacheck's tables.

    Its types are lstchain's own guess from images and tags, but each event is of one of them; a
    type of fewer than two events has no table.
    """
    if summary.n_events is None or not datacheck.n_events:
        return NOTHING
    n_untold = sum(kind not in (datacheck.n_events_by_type or {}) for kind in _DATACHECK_TYPES)
    difference = abs(summary.n_events - datacheck.n_events)
    said = f"{summary.n_events} events, {datacheck.n_events} in the datacheck"
    return Finding(difference, float(n_untold), said if difference else None)


def unmatched(summary: DL1Summary) -> Finding:
    """Count images of events that are not among the events."""
    images = quantities_of(summary).images
    if images is None or not summary.n_events_by_type or (summary.n_events or 0) > _MAX_LISTED:
        return NOTHING
    found = images.by_type.get("all")
    return Finding(found.n if found else 0, said=f"of {images.n_read} images that were read")


# ---------------------------------------------------------------------------- events and times
def duplicate_ids(summary: DL1Summary) -> Finding:
    """Count event numbers that come twice."""
    found = quantities_of(summary).identities
    return Finding(found.n_duplicate) if found else NOTHING


def missing_ids(summary: DL1Summary) -> Finding:
    """Give the share of event numbers that are left out."""
    found = quantities_of(summary).identities
    # a file of calibration events alone leaves out the cosmics' numbers
    if not found or found.n_missing is None or not (summary.n_events_by_type or {}).get("cosmic"):
        return NOTHING
    return Finding(found.n_missing / ((summary.n_events or 0) + found.n_missing))


def tags(summary: DL1Summary) -> Finding:
    """Give the share of events whose two trigger tags differ."""
    found = quantities_of(summary).identities
    if not found or found.n_trigger_mismatches is None or not summary.n_events:
        return NOTHING
    return Finding(found.n_trigger_mismatches / summary.n_events)


def ucts_jumps(summary: DL1Summary) -> Finding:
    """Count the jumps of the UCTS's time."""
    found = quantities_of(summary).identities
    return Finding(found.n_ucts_jumps) if found else NOTHING


def unknown_types(summary: DL1Summary) -> Finding:
    """Give the share of events of no known type."""
    counts = summary.n_events_by_type
    if counts is None or not summary.n_events:
        return NOTHING
    return Finding((counts.get("unknown", 0) + counts.get("other", 0)) / summary.n_events)


def backward(summary: DL1Summary) -> Finding:
    """Count the steps back in time."""
    times = quantities_of(summary).times
    return Finding(times.n_backward) if times and times.n > 1 else NOTHING


def unset_times(summary: DL1Summary) -> Finding:
    """Give the share of events without a time."""
    times = quantities_of(summary).times
    n = times.n + times.n_unset if times else 0
    return Finding(times.n_unset / n) if times and n else NOTHING


def gap(summary: DL1Summary) -> Finding:
    """Compare the longest gap with that of a Poisson process."""
    times = quantities_of(summary).times
    if not times or times.max_step_s is None or not times.mean_step_s or times.n < FEW:
        return NOTHING
    # the longest of n steps of a Poisson process, on average
    ordinary_s = times.mean_step_s * math.log(times.n)
    return Finding(times.max_step_s / ordinary_s, said=f"{times.max_step_s:.4g} s")


def live_fraction(summary: DL1Summary) -> Finding:
    """Give the share of time in which events could be taken."""
    times = quantities_of(summary).times
    return Finding(times.live_fraction) if times and times.n >= 1000 else NOTHING


# ---------------------------------------------------------------------------- rates
def rate_cosmic(summary: DL1Summary) -> Finding:
    """Compare the rate of cosmics with that expected at its zenith distance."""
    zenith_deg = _zenith_deg(summary)
    rate_hz = (summary.rate_hz_by_type or {}).get("cosmic")
    n = (summary.n_events_by_type or {}).get("cosmic")
    if zenith_deg is None or rate_hz is None or not n or zenith_deg > 90:
        return NOTHING
    expected_hz = 3065.6 + 3403.2 * math.cos(math.radians(zenith_deg))
    ratio = rate_hz / expected_hz
    said = f"{rate_hz:.0f} Hz, {expected_hz:.0f} Hz expected at {zenith_deg:.1f}° from the zenith"
    return Finding(ratio, SIGMAS * ratio / math.sqrt(n), said)


def interleaved(kind: str) -> Callable[[DL1Summary], Finding]:
    """Compare the rate of calibration events of a kind with the expected one."""

    def measure(summary: DL1Summary) -> Finding:
        counts, rate_hz, duration_s = (
            summary.n_events_by_type,
            summary.rate_hz,
            summary.duration_s,
        )
        if counts is None or rate_hz is None or not duration_s:
            return NOTHING
        expected_hz = _INTERLEAVED_HZ * max(0.0, 1 - rate_hz * _DEAD_S)
        n_expected = expected_hz * duration_s
        if n_expected < _FEW_EXPECTED:
            return NOTHING
        rate = counts.get(kind, 0) / duration_s
        said = f"{rate:.1f} Hz, {expected_hz:.1f} Hz expected"
        return Finding(rate / expected_hz, SIGMAS / math.sqrt(n_expected), said)

    return measure


def rate_excess(summary: DL1Summary) -> Finding:
    """Give the spread of rates beyond that of chance."""
    rates = quantities_of(summary).rates
    if not rates or rates.n_bins < 5 or "all" not in rates.by_type:
        return NOTHING
    return Finding(rates.by_type["all"].excess)


def _zenith_deg(summary: DL1Summary) -> float | None:
    pointing = quantities_of(summary).pointing
    return pointing.zenith_deg if pointing else None


# -- imagemeasures ---------------------------------------------------------------------------------
#
# What the checks measure of intensities, charges, pixels and pointing. Pure.


# ---------------------------------------------------------------------------- intensities
def cleaned(kind: str) -> Callable[[DL1Summary], Finding]:
    """Give the share of events of a kind of which something is left after cleaning."""

    def measure(summary: DL1Summary) -> Finding:
        found = _intensity(summary, kind)
        if found is None or not found.n + found.n_nan:
            return NOTHING
        n = found.n + found.n_nan
        fraction = found.n / n
        # at least one event more or less
        spread = max(math.sqrt(fraction * (1 - fraction) / n), 1 / n)
        return Finding(fraction, SIGMAS * spread)

    return measure


def _intensity(summary: DL1Summary, kind: str) -> Spread | None:
    return quantities_of(summary).intensity.get(kind)


def incomplete(summary: DL1Summary) -> Finding:
    """Give the share of events with incomplete parameters."""
    found = summary.quantities
    if found is None or found.n_incomplete is None:
        return NOTHING
    n = sum(spread.n for spread in found.intensity.values())
    return Finding(found.n_incomplete / n) if n else NOTHING


def spectrum_index(summary: DL1Summary) -> Finding:
    """Give the index of the intensity spectrum, at zenith."""
    found = quantities_of(summary).spectrum
    if not found or found.index_zenith is None:
        return NOTHING
    return Finding(found.index_zenith, SIGMAS * (found.index_error or 0.0))


def spectrum_rate(summary: DL1Summary) -> Finding:
    """Give the rate at 422 p.e., at zenith."""
    found = quantities_of(summary).spectrum
    if not found or found.rate_at_422_zenith is None:
        return NOTHING
    n = sum(found.counts[30:35])
    return Finding(found.rate_at_422_zenith, SIGMAS * found.rate_at_422_zenith / math.sqrt(n))


# ---------------------------------------------------------------------------- charges and pixels
def charges(kind: str, name: str, least: int = 2) -> Callable[[DL1Summary], Finding]:
    """Give a figure of the images of a kind, where there are enough."""

    def measure(summary: DL1Summary) -> Finding:
        images = quantities_of(summary).images
        found: Charges | None = images.by_type.get(kind) if images else None
        if found is None or found.n < least:
            return NOTHING
        return Finding(getattr(found, name))

    return measure


def noisy(summary: DL1Summary) -> Finding:
    """Give the share of noisy pixels."""
    images = quantities_of(summary).images
    found = images.by_type.get("pedestal") if images else None
    if not images or not found or found.n_noisy is None or found.n < FEW:
        return NOTHING
    return Finding(found.n_noisy / images.n_pixels, said=f"{found.n_noisy} pixels")


def dead_pixels(summary: DL1Summary) -> Finding:
    """Count the dead pixels."""
    images = quantities_of(summary).images
    return Finding(images.n_dead_pixels) if images else NOTHING


def nan_charges(summary: DL1Summary) -> Finding:
    """Give the share of charges that are no number."""
    images = quantities_of(summary).images
    if images is None or images.n_nan is None or not images.n_read:
        return NOTHING
    return Finding(images.n_nan / (images.n_read * images.n_pixels))


def unusable(summary: DL1Summary) -> Finding:
    """Count the pixels that the calibration calls unusable."""
    found = quantities_of(summary).calibration
    return Finding(found.n_unusable_pixels) if found else NOTHING


# ---------------------------------------------------------------------------- pointing
def pointing_step(summary: DL1Summary) -> Finding:
    """Give the largest step of the pointing."""
    pointing = quantities_of(summary).pointing
    return Finding(pointing.max_step_deg) if pointing else NOTHING


def pointing_nan(summary: DL1Summary) -> Finding:
    """Give the share of pointings that are no number."""
    pointing = quantities_of(summary).pointing
    return Finding(pointing.n_nan / pointing.n) if pointing and pointing.n else NOTHING
