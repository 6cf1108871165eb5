"""The checks of a DL1 file: their bounds, and the sources of bounds and formulas. Pure.

The values are measured by the functions of `check_values`. Sources are named by lstchain's files
(version 0.12); "ours" where lstchain plots a quantity but sets no bounds, or has neither. Where
lstchain has one pair of bounds it is ``warn``, and ``bad`` is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctaflows.dl1.quality import check_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.quality.check_values import Measurement

_LONGTERM = "lstchain_longterm_dl1_check.py"
_QUALITY = "data_quality.ipynb of lstchain"
_OURS = "ours"


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
    """One check: how its value is measured, and its bounds.

    Attributes
    ----------
    measure : Callable
        Returns the value, given the file's summary.
    unit : str or None
        Unit of value and bounds.
    warn : tuple of two floats or None
        Lowest and highest value with the verdict ``ok``; None is unbounded.
    bad : tuple of two floats or None
        Lowest and highest value with the verdict ``warn`` or ``ok``, likewise.
    source : str
        Source of formula and bounds.
    applies : Callable
        Returns whether the check is meaningful for a file, given its summary.
    compare : Callable or None
        Returns the value, given the file's summary and that of its datacheck; used in place of
        ``measure`` where both are available.
    """

    measure: Callable[[DL1Summary], Measurement]
    unit: str | None
    warn: tuple[float | None, float | None]
    bad: tuple[float | None, float | None]
    source: str
    applies: Callable[[DL1Summary], bool] = _always
    compare: Callable[[DL1Summary, DL1Summary], Measurement] | None = None


_seen, _sky, _events_only = _is_observed_events, _is_observed, _has_events
_INTERLEAVED_SOURCE = f"{_LONGTERM}: 100 Hz (1 - dead time) ± 5 %; bad: ours"
#: The checks by name, in the order in which they are shown.
RULES: Mapping[str, Rule] = {
    "tables_missing": Rule(check_values.tables_missing, None, (0, 0), (0, None), _OURS),
    "tables_empty": Rule(check_values.tables_empty, None, (0, 0), (0, None), _OURS),
    "events": Rule(check_values.events, None, (2, None), (1, None), _OURS),
    "rows_disagree": Rule(check_values.rows_disagree, None, (0, 0), (0, 0), _OURS, _events_only),
    "datacheck_events": Rule(
        check_values.unpaired,
        None,
        (0, 0),
        (0, 0),
        "ours, after lstchain.datachecks.dl1_checker: each event is in one of its tables",
        _is_lstchain_seen,
        check_values.datacheck_events,
    ),
    "images_unmatched": Rule(check_values.unmatched, None, (0, 0), (0, 0), _OURS, _events_only),
    "ids_duplicate": Rule(check_values.duplicate_ids, None, (0, 0), (0, 0), _OURS, _events_only),
    "ids_missing": Rule(check_values.missing_ids, None, (0, 0.01), (0, 0.2), _OURS, _seen),
    "tags_differ": Rule(
        check_values.tags,
        None,
        (0, 0.001),
        (0, 0.05),
        f"quantity: {_LONGTERM}; bounds: ours",
        _seen,
    ),
    "ucts_jumps": Rule(
        check_values.ucts_jumps, None, (0, 0), (0, 10), f"quantity: {_LONGTERM}; bounds: ours", _sky
    ),
    "types_unknown": Rule(check_values.unknown_types, None, (0, 0.01), (0, 0.2), _OURS, _seen),
    "time_backward": Rule(check_values.backward, None, (0, 0), (0, 0), _OURS, _seen),
    "time_unset": Rule(check_values.unset_times, None, (0, 0), (0, 0.01), _OURS, _seen),
    "time_gap": Rule(
        check_values.gap,
        None,
        (0, 5),
        (0, 500),
        "after lstchain_cherenkov_transparency.py: a hiccup is 5 times an ordinary gap; bad: ours",
        _seen,
    ),
    "live_fraction": Rule(
        check_values.live_fraction,
        None,
        (0.85, 1),
        (0.5, 1),
        "quantity: lstchain.reco.utils.get_effective_time; bounds: ours",
        _seen,
    ),
    "rate_cosmic": Rule(
        check_values.rate_cosmic,
        None,
        (0.7, 1.3),
        (0.3, 2),
        f"{_LONGTERM}: (3065.6 + 3403.2 cos(zenith)) Hz ± 30 %; bad: ours",
        _seen,
    ),
    "rate_pedestal": Rule(
        check_values.interleaved("pedestal"),
        None,
        (0.95, 1.05),
        (0.5, 1.5),
        _INTERLEAVED_SOURCE,
        _seen,
    ),
    "rate_flatfield": Rule(
        check_values.interleaved("flatfield"),
        None,
        (0.95, 1.05),
        (0.5, 1.5),
        _INTERLEAVED_SOURCE,
        _seen,
    ),
    "rate_excess": Rule(check_values.rate_excess, None, (0, 0.1), (0, 0.5), _OURS, _seen),
    "cleaned_cosmic": Rule(
        check_values.cleaned("cosmic"),
        None,
        (0.4, 1),
        (0.1, 1),
        "quantity: lstchain.datachecks.containers; bounds: ours",
        _seen,
    ),
    "cleaned_pedestal": Rule(
        check_values.cleaned("pedestal"),
        None,
        (0, 0.05),
        (0, 0.2),
        f"{_LONGTERM}: 5 %; bad: ours",
        _seen,
    ),
    "incomplete": Rule(check_values.incomplete, None, (0, 0.0005), (0, 0.05), _OURS, _events_only),
    "spectrum_index": Rule(
        check_values.spectrum_index,
        None,
        (-2.35, -2.1),
        (-2.7, -1.8),
        f"formula: lstchain_cherenkov_transparency.py; bounds: {_QUALITY}; bad: ours",
        _sky,
    ),
    "spectrum_rate": Rule(
        check_values.spectrum_rate,
        "Hz / p.e.",
        (1.5, None),
        (0.75, None),
        f"formula: lstchain_cherenkov_transparency.py; bound: {_QUALITY}; bad: ours",
        _sky,
    ),
    "pedestal_charge_std": Rule(
        check_values.charges("pedestal", "charge_std", check_values.FEW),
        "p.e.",
        (0.5, 2.3),
        (0.1, 5),
        f"{_QUALITY}: 2.3 in dark nights; the others: ours",
        _sky,
    ),
    "pedestal_noisy": Rule(
        check_values.noisy,
        None,
        (0, 0.1),
        (0, 0.5),
        f"noisy, 2.5 p.e.: {_LONGTERM}; bounds: ours",
        _sky,
    ),
    "flatfield_charge": Rule(
        check_values.charges("flatfield", "charge_mean"),
        "p.e.",
        (62.1, 75.9),
        (34.5, 103.5),
        f"{_LONGTERM}: 69 p.e. ± 10 %; bad: ours",
        _sky,
    ),
    "flatfield_charge_std": Rule(
        check_values.charges("flatfield", "charge_std", check_values.FEW),
        "p.e.",
        (0, 11),
        (0, 20),
        f"{_LONGTERM}: 11 p.e.; bad: ours",
        _sky,
    ),
    "flatfield_time": Rule(
        check_values.charges("flatfield", "time_mean_ns"),
        "ns",
        (12, 23),
        (2, 35),
        f"{_LONGTERM}: 12 to 23 ns; bad: ours",
        _sky,
    ),
    "flatfield_time_std": Rule(
        check_values.charges("flatfield", "relative_time_std_ns", check_values.FEW),
        "ns",
        (0, 0.5),
        (0, 1.5),
        f"{_LONGTERM}: 0.5 ns; bad: ours",
        _sky,
    ),
    "pixels_unusable": Rule(
        check_values.unusable,
        None,
        (0, 70),
        (0, 185),
        "lstchain_dl1ab.py: 70; bad, 10 %: ours",
        _seen,
    ),
    "charges_nan": Rule(check_values.nan_charges, None, (0, 0), (0, 0.01), _OURS, _events_only),
    "pixels_dead": Rule(check_values.dead_pixels, None, (0, 10), (0, 70), _OURS, _seen),
    "pointing_step": Rule(check_values.pointing_step, "deg", (0, 0.02), (0, 0.2), _OURS, _seen),
    "pointing_nan": Rule(check_values.pointing_nan, None, (0, 0), (0, 0.1), _OURS, _seen),
}
