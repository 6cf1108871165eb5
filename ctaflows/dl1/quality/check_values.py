"""The values that the checks compare with their bounds, each measured on a `DL1Summary`. Pure.

Values that fluctuate statistically come with a tolerance. Each function returns `NOT_MEASURED`
where the summary lacks the data.
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
#: Dead time per event in seconds (lstchain_longterm_dl1_check).
_DEAD_S = 7e-6
#: Rate of interleaved pedestals, and of flat-field events (lstchain_longterm_dl1_check).
_INTERLEAVED_HZ = 100.0
#: Below this expected number of interleaved events their rate is not judged.
_FEW_EXPECTED = 10
#: Of more events, the types of images are not known (`ctaflows.dl1.content.event_statistics`).
_MAX_LISTED = 4_000_000
_DATACHECK_TYPES = ("cosmic", "pedestal", "flatfield")
#: Tolerances in standard deviations.
SIGMAS = 3.0
#: Below this number of images or events standard deviations and gaps are not judged.
FEW = 20


@dataclass(frozen=True)
class Measurement:
    """A measured value.

    Attributes
    ----------
    value : float or None
        The value, in the unit of its `Rule`; None where it can't be measured.
    tolerance : float
        Three standard deviations of the statistical fluctuations, in the same unit (default: 0).
    said : str or None
        Details for people, such as names of tables.
    """

    value: float | None = None
    tolerance: float = 0.0
    said: str | None = None


#: The file lacks what would be measured.
NOT_MEASURED = Measurement()


def quantities_of(summary: DL1Summary) -> Quantities:
    """Return the summary's quantities, or empty ones."""
    return summary.quantities or Quantities()


# ---------------------------------------------------------------------------- tables
def expected(summary: DL1Summary) -> list[str]:
    """Return the paths of the tables that a file of this kind should have."""
    if summary.level == "datacheck":
        return [f"/dl1datacheck/{name}" for name in ("cosmics", "pedestals", "flatfield")]
    if summary.layout == "ctapipe":
        return ["/dl1/event/subarray/trigger", "/dl1/event/telescope/trigger"]
    expected = ["/configuration/instrument/subarray/layout"]
    if not summary.simulated and "DL1a" in summary.level:
        # a merged run has neither images nor monitoring
        expected += [_MONITORING + name for name in ("calibration", "flatfield", "pedestal")]
    return expected


def tables_missing(summary: DL1Summary) -> Measurement:
    """Return the number of expected tables that the file lacks."""
    present = {table.path for table in summary.tables}
    missing = [path for path in expected(summary) if path not in present]
    return Measurement(len(missing), said=", ".join(missing) or None)


def tables_empty(summary: DL1Summary) -> Measurement:
    """Return the number of tables below ``/dl1`` without rows."""
    empty = [t.path for t in summary.tables if not t.rows and t.path.startswith("/dl1")]
    return Measurement(len(empty), said=", ".join(empty[:5]) or None)


def events(summary: DL1Summary) -> Measurement:
    """Return the number of events."""
    return Measurement(summary.n_events)


def rows_disagree(summary: DL1Summary) -> Measurement:
    """Return the largest difference of a telescope's numbers of images and of parameters."""
    rows: dict[str, dict[str, int]] = {}
    for table in summary.tables:
        above, _, name = table.path.rpartition("/")
        kind = above.removeprefix("/dl1/event/telescope/").rstrip("s")
        if kind in ("image", "parameter"):
            rows.setdefault(name, {})[kind] = table.rows
    pairs = {name: found for name, found in rows.items() if len(found) == 2}
    if not pairs:
        return NOT_MEASURED
    worst = max(pairs, key=lambda name: abs(pairs[name]["image"] - pairs[name]["parameter"]))
    found = pairs[worst]
    difference = abs(found["image"] - found["parameter"])
    said = f"{worst}: {found['image']} images, {found['parameter']} parameters"
    return Measurement(difference, said=said if difference else None)


def unpaired(_: DL1Summary) -> Measurement:
    """Return `NOT_MEASURED`: for checks that need the file's datacheck as well."""
    return NOT_MEASURED


def datacheck_events(summary: DL1Summary, datacheck: DL1Summary) -> Measurement:
    """Return the difference of the numbers of events in a file and in its datacheck's tables.

    lstchain's datacheck derives the types of events anew from images and tags, but assigns each
    event to one of its three types. A type with fewer than two events has no table, hence a
    tolerance of one event for each missing table.
    """
    if summary.n_events is None or not datacheck.n_events:
        return NOT_MEASURED
    n_without_table = sum(
        kind not in (datacheck.n_events_by_type or {}) for kind in _DATACHECK_TYPES
    )
    difference = abs(summary.n_events - datacheck.n_events)
    said = f"{summary.n_events} events, {datacheck.n_events} in the datacheck"
    return Measurement(difference, float(n_without_table), said if difference else None)


def unmatched(summary: DL1Summary) -> Measurement:
    """Return the number of images whose event number is not in the event table."""
    images = quantities_of(summary).images
    if images is None or not summary.n_events_by_type or (summary.n_events or 0) > _MAX_LISTED:
        return NOT_MEASURED
    found = images.by_type.get("all")
    return Measurement(found.n if found else 0, said=f"of {images.n_read} images that were read")


# ---------------------------------------------------------------------------- events and times
def duplicate_ids(summary: DL1Summary) -> Measurement:
    """Return the number of duplicate event numbers."""
    found = quantities_of(summary).identities
    return Measurement(found.n_duplicate) if found else NOT_MEASURED


def missing_ids(summary: DL1Summary) -> Measurement:
    """Return the fraction of event numbers that are missing."""
    found = quantities_of(summary).identities
    # in a file of calibration events alone the cosmics' numbers are missing on purpose
    if not found or found.n_missing is None or not (summary.n_events_by_type or {}).get("cosmic"):
        return NOT_MEASURED
    return Measurement(found.n_missing / ((summary.n_events or 0) + found.n_missing))


def tags(summary: DL1Summary) -> Measurement:
    """Return the fraction of events whose two trigger tags differ."""
    found = quantities_of(summary).identities
    if not found or found.n_trigger_mismatches is None or not summary.n_events:
        return NOT_MEASURED
    return Measurement(found.n_trigger_mismatches / summary.n_events)


def ucts_jumps(summary: DL1Summary) -> Measurement:
    """Return the number of jumps in the UCTS time stamps."""
    found = quantities_of(summary).identities
    return Measurement(found.n_ucts_jumps) if found else NOT_MEASURED


def unknown_types(summary: DL1Summary) -> Measurement:
    """Return the fraction of events of unknown type."""
    counts = summary.n_events_by_type
    if counts is None or not summary.n_events:
        return NOT_MEASURED
    return Measurement((counts.get("unknown", 0) + counts.get("other", 0)) / summary.n_events)


def backward(summary: DL1Summary) -> Measurement:
    """Return the number of events that are earlier than the one before."""
    times = quantities_of(summary).times
    return Measurement(times.n_backward) if times and times.n > 1 else NOT_MEASURED


def unset_times(summary: DL1Summary) -> Measurement:
    """Return the fraction of events without a valid time."""
    times = quantities_of(summary).times
    n = times.n + times.n_unset if times else 0
    return Measurement(times.n_unset / n) if times and n else NOT_MEASURED


def gap(summary: DL1Summary) -> Measurement:
    """Return the ratio of the longest time between two events to that of a Poisson process."""
    times = quantities_of(summary).times
    if not times or times.max_step_s is None or not times.mean_step_s or times.n < FEW:
        return NOT_MEASURED
    # mean of the longest of n time differences in a Poisson process
    expected_s = times.mean_step_s * math.log(times.n)
    return Measurement(times.max_step_s / expected_s, said=f"{times.max_step_s:.4g} s")


def live_fraction(summary: DL1Summary) -> Measurement:
    """Return the live time as a fraction; not measured for fewer than 1000 events."""
    times = quantities_of(summary).times
    return Measurement(times.live_fraction) if times and times.n >= 1000 else NOT_MEASURED


# ---------------------------------------------------------------------------- rates
def rate_cosmic(summary: DL1Summary) -> Measurement:
    """Return the ratio of the rate of cosmics to that expected at this zenith angle.

    (3065.6 + 3403.2 cos(zenith angle)) Hz are expected (lstchain_longterm_dl1_check).
    """
    zenith_deg = _zenith_deg(summary)
    rate_hz = (summary.rate_hz_by_type or {}).get("cosmic")
    n = (summary.n_events_by_type or {}).get("cosmic")
    if zenith_deg is None or rate_hz is None or not n or zenith_deg > 90:
        return NOT_MEASURED
    expected_hz = 3065.6 + 3403.2 * math.cos(math.radians(zenith_deg))
    ratio = rate_hz / expected_hz
    said = f"{rate_hz:.0f} Hz, {expected_hz:.0f} Hz expected at {zenith_deg:.1f}° from the zenith"
    return Measurement(ratio, SIGMAS * ratio / math.sqrt(n), said)


def interleaved(kind: str) -> Callable[[DL1Summary], Measurement]:
    """Return a measure of the ratio of a calibration event type's rate to the expected one.

    100 Hz times the fraction of live time, 1 - rate * 7 us, are expected
    (lstchain_longterm_dl1_check).

    Parameters
    ----------
    kind : str
        ``pedestal`` or ``flatfield``.
    """

    def measure(summary: DL1Summary) -> Measurement:
        counts, rate_hz, duration_s = (
            summary.n_events_by_type,
            summary.rate_hz,
            summary.duration_s,
        )
        if counts is None or rate_hz is None or not duration_s:
            return NOT_MEASURED
        expected_hz = _INTERLEAVED_HZ * max(0.0, 1 - rate_hz * _DEAD_S)
        n_expected = expected_hz * duration_s
        if n_expected < _FEW_EXPECTED:
            return NOT_MEASURED
        rate = counts.get(kind, 0) / duration_s
        said = f"{rate:.1f} Hz, {expected_hz:.1f} Hz expected"
        return Measurement(rate / expected_hz, SIGMAS / math.sqrt(n_expected), said)

    return measure


def rate_excess(summary: DL1Summary) -> Measurement:
    """Return the relative spread of the rate in excess of Poisson fluctuations."""
    rates = quantities_of(summary).rates
    if not rates or rates.n_bins < 5 or "all" not in rates.by_type:
        return NOT_MEASURED
    return Measurement(rates.by_type["all"].excess)


def _zenith_deg(summary: DL1Summary) -> float | None:
    pointing = quantities_of(summary).pointing
    return pointing.zenith_deg if pointing else None


# ---------------------------------------------------------------------------- intensities
def cleaned(kind: str) -> Callable[[DL1Summary], Measurement]:
    """Return a measure of the fraction of a type's images that survive the cleaning.

    Parameters
    ----------
    kind : str
        Type of events, such as ``cosmic``.
    """

    def measure(summary: DL1Summary) -> Measurement:
        found = _intensity(summary, kind)
        if found is None or not found.n + found.n_nan:
            return NOT_MEASURED
        n = found.n + found.n_nan
        fraction = found.n / n
        # binomial; at least one event
        spread = max(math.sqrt(fraction * (1 - fraction) / n), 1 / n)
        return Measurement(fraction, SIGMAS * spread)

    return measure


def _intensity(summary: DL1Summary, kind: str) -> Spread | None:
    return quantities_of(summary).intensity.get(kind)


def incomplete(summary: DL1Summary) -> Measurement:
    """Return the fraction of images with NaN in a Hillas parameter, of those with an intensity."""
    found = summary.quantities
    if found is None or found.n_incomplete is None:
        return NOT_MEASURED
    n = sum(spread.n for spread in found.intensity.values())
    return Measurement(found.n_incomplete / n) if n else NOT_MEASURED


def spectrum_index(summary: DL1Summary) -> Measurement:
    """Return the index of the intensity spectrum, corrected to the zenith."""
    found = quantities_of(summary).spectrum
    if not found or found.index_zenith is None:
        return NOT_MEASURED
    return Measurement(found.index_zenith, SIGMAS * (found.index_error or 0.0))


def spectrum_rate(summary: DL1Summary) -> Measurement:
    """Return the rate at 422 p.e., corrected to the zenith, in Hz / p.e."""
    found = quantities_of(summary).spectrum
    if not found or found.rate_at_422_zenith is None:
        return NOT_MEASURED
    n = sum(found.counts[30:35])
    return Measurement(found.rate_at_422_zenith, SIGMAS * found.rate_at_422_zenith / math.sqrt(n))


# ---------------------------------------------------------------------------- charges and pixels
def charges(kind: str, name: str, least: int = 2) -> Callable[[DL1Summary], Measurement]:
    """Return a measure that takes an attribute of a type's `Charges`.

    Parameters
    ----------
    kind : str
        Type of events, such as ``pedestal``.
    name : str
        Name of the attribute.
    least : int, optional
        Smallest number of images to measure (default: 2).
    """

    def measure(summary: DL1Summary) -> Measurement:
        images = quantities_of(summary).images
        found: Charges | None = images.by_type.get(kind) if images else None
        if found is None or found.n < least:
            return NOT_MEASURED
        return Measurement(getattr(found, name))

    return measure


def noisy(summary: DL1Summary) -> Measurement:
    """Return the fraction of pixels that are noisy in pedestals."""
    images = quantities_of(summary).images
    found = images.by_type.get("pedestal") if images else None
    if not images or not found or found.n_noisy is None or found.n < FEW:
        return NOT_MEASURED
    return Measurement(found.n_noisy / images.n_pixels, said=f"{found.n_noisy} pixels")


def dead_pixels(summary: DL1Summary) -> Measurement:
    """Return the number of dead pixels."""
    images = quantities_of(summary).images
    return Measurement(images.n_dead_pixels) if images else NOT_MEASURED


def nan_charges(summary: DL1Summary) -> Measurement:
    """Return the fraction of charges that are NaN or infinite, in the images read."""
    images = quantities_of(summary).images
    if images is None or images.n_nan is None or not images.n_read:
        return NOT_MEASURED
    return Measurement(images.n_nan / (images.n_read * images.n_pixels))


def unusable(summary: DL1Summary) -> Measurement:
    """Return the number of pixels that the calibration flags as unusable."""
    found = quantities_of(summary).calibration
    return Measurement(found.n_unusable_pixels) if found else NOT_MEASURED


# ---------------------------------------------------------------------------- pointing
def pointing_step(summary: DL1Summary) -> Measurement:
    """Return the greatest angle between consecutive directions, in degrees."""
    pointing = quantities_of(summary).pointing
    return Measurement(pointing.max_step_deg) if pointing else NOT_MEASURED


def pointing_nan(summary: DL1Summary) -> Measurement:
    """Return the fraction of directions that are NaN."""
    pointing = quantities_of(summary).pointing
    return Measurement(pointing.n_nan / pointing.n) if pointing and pointing.n else NOT_MEASURED
