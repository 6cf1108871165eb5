"""What the checks measure of intensities, charges, pixels and pointing. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ctaflows.dl1.quality.check_values import FEW, NOTHING, SIGMAS, Finding, quantities_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.dl1.content.quantities import Charges, Spread
    from ctaflows.dl1.content.summary import DL1Summary


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
