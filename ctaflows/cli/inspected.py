"""What `ctaflows inspect` says of a file's quantities, each in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctaflows.dl1.content.quantities import Charges, Quantities, Spread


def lines(found: Quantities) -> list[tuple[str, str]]:
    """Name and words of each quantity that the file has."""
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
