"""Differential intensity spectrum of cosmics, as in lstchain's `lstchain_cherenkov_transparency`.

dR/dI = p (I / 422 p.e.) ** q is fitted by least squares to the five bins between 316 and 562 p.e.,
weighted with their Poisson errors; then p and q are corrected to a pointing at the zenith.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content.quantities import Spectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIRST_BIN, _END_BIN = 30, 35
_PIVOT_PE = 422.0  # sqrt(316 * 562), rounded as in lstchain
#: Fewest events in each bin for a fit.
_MIN_COUNTS = 5
# p and q as functions of the cosine of the zenith angle: constant, linear, quadratic term
# (lstchain 0.12, from runs 10800 to 12000 of good quality)
_P_OF_COS = (-0.44751321, 3.62502037, -1.43611437)
_Q_OF_COS = (-2.89253919, 0.99443581, -0.34013068)
#: Below this cosine of the zenith angle the formula's p is no longer positive.
_MIN_COS = 0.15


def edges() -> NDArray[Any]:
    """Return the edges of lstchain's bins of intensity in p.e., float64 of shape (101,)."""
    import numpy as np

    return np.logspace(1.0, 6.0, 101)


def spectrum_of(
    counts: NDArray[Any], duration_s: float | None, zenith_deg: float | None
) -> Spectrum:
    """Return the intensity spectrum, with the power law fitted where that is possible.

    Parameters
    ----------
    counts : ndarray of shape (100,)
        Numbers of cosmics in the bins of `edges`.
    duration_s : float or None
        Time between the first and the last event, in seconds; None: no fit.
    zenith_deg : float or None
        Mean zenith angle, in degrees; None: no correction to the zenith.

    Returns
    -------
    Spectrum
        With the counts alone where a bin of the fit has fewer than 5 events, or it does not
        converge.
    """
    plain = tuple(int(n) for n in counts)
    n = counts[_FIRST_BIN:_END_BIN].astype("f8")
    fitted = _fit(n, duration_s) if duration_s and n.min() >= _MIN_COUNTS else None
    if fitted is None:
        return Spectrum(plain)
    rate, index, error = fitted
    at_zenith = _at_zenith(rate, index, zenith_deg)
    return Spectrum(plain, rate, index, *at_zenith, index_error=error)


def _fit(n: NDArray[Any], duration_s: float) -> tuple[float, float, float] | None:
    """Fit p, q and the error of q by the Gauss-Newton method; None where it diverges.

    It starts from a straight line through the logarithms.

    Parameters
    ----------
    n : ndarray of shape (5,), float64
        Numbers of events in the bins of the fit.
    duration_s : float
        Time in which they were taken, in seconds.
    """
    import numpy as np

    bins = edges()[_FIRST_BIN : _END_BIN + 1]
    widths = np.diff(bins)
    x = np.log(np.sqrt(bins[1:] * bins[:-1]) / _PIVOT_PE)
    y = n / duration_s / widths
    weights = duration_s * widths / np.sqrt(n)
    q, log_p = np.polyfit(x, np.log(y), 1, w=np.sqrt(n))
    p = float(np.exp(log_p))
    q = float(q)
    for _ in range(50):
        model = p * np.exp(q * x)
        slopes = np.stack([model / p, model * x], axis=1) * weights[:, None]
        step, *_ = np.linalg.lstsq(slopes, (y - model) * weights, rcond=None)
        p, q = p + float(step[0]), q + float(step[1])
        if not (np.isfinite(p) and np.isfinite(q) and p > 0):
            return None
        if abs(step[0]) < 1e-14 * p and abs(step[1]) < 1e-14:
            break
    covariance = np.linalg.inv(slopes.T @ slopes)
    return p, q, float(np.sqrt(covariance[1, 1]))


def _at_zenith(
    rate: float, index: float, zenith_deg: float | None
) -> tuple[float | None, float | None]:
    """Return p and q at the zenith; None where the zenith angle is unknown or above 81 deg."""
    import math

    if zenith_deg is None:
        return None, None
    cos = math.cos(math.radians(zenith_deg))
    if cos < _MIN_COS:
        return None, None
    corrected = rate * _polynomial(_P_OF_COS, 1.0) / _polynomial(_P_OF_COS, cos)
    return corrected, index + _polynomial(_Q_OF_COS, 1.0) - _polynomial(_Q_OF_COS, cos)


def _polynomial(factors: tuple[float, float, float], x: float) -> float:
    return factors[0] + factors[1] * x + factors[2] * x * x
