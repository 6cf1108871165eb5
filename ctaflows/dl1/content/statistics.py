"""Running statistics of columns that are read block by block, in bounded memory.

The results are those of numpy for the whole column: counts are exact, means and standard deviations
agree to float precision (Chan, Golub, LeVeque 1983). Quantiles are numpy's own for up to
`EXACT_VALUES` values; of more, they come from a histogram with bins of equal relative width, and
have a relative error of up to `RELATIVE_ERROR`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Largest number of values with exact quantiles: 2 MB. A subrun has 53,000 events.
EXACT_VALUES = 2**18
#: Largest relative error of the quantiles of more values.
RELATIVE_ERROR = 1e-3
#: In the histogram, values of a smaller size count as zero.
_SMALLEST = 1e-6
_GROWTH = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
_MAX_BINS = 2**16


class Moments:
    """Number, mean, standard deviation and extremes of the finite values of a column.

    Attributes
    ----------
    n : int
        Number of finite values.
    n_other : int
        Number of values that are NaN or infinite.
    mean : float
        Mean of the finite values; 0 without any.
    minimum, maximum : float
        Extremes of the finite values; infinity and minus infinity without any.
    """

    def __init__(self) -> None:
        self.n = self.n_other = 0
        self.mean = self._m2 = 0.0
        self.minimum, self.maximum = math.inf, -math.inf

    def take(self, values: NDArray[Any]) -> NDArray[Any]:
        """Add values, of shape (n,), and return the finite ones as float64."""
        import numpy as np

        values = values.astype("f8", copy=False)
        is_finite = np.isfinite(values)
        finite = values if is_finite.all() else values[is_finite]
        self.n_other += len(values) - len(finite)
        if len(finite):
            mean = float(finite.mean())
            m2 = float(((finite - mean) ** 2).sum())
            n, delta = self.n + len(finite), mean - self.mean
            self._m2 += m2 + delta * delta * self.n * len(finite) / n
            self.mean += delta * len(finite) / n
            self.n = n
            self.minimum = min(self.minimum, float(finite.min()))
            self.maximum = max(self.maximum, float(finite.max()))
        return finite

    @property
    def std(self) -> float:
        """Population standard deviation, as ``numpy.std``; NaN without values."""
        return math.sqrt(self._m2 / self.n) if self.n else math.nan


class Quantiles(Moments):
    """Moments and quantiles of the finite values of a column."""

    def __init__(self) -> None:
        super().__init__()
        self._values: list[NDArray[Any]] | None = []
        self._bins: dict[int, int] = {}

    @property
    def is_exact(self) -> bool:
        """Whether the quantiles are exact."""
        return self._values is not None

    def take(self, values: NDArray[Any]) -> NDArray[Any]:
        """Add values, of shape (n,), and return the finite ones as float64."""
        finite = super().take(values)
        if self._values is None:
            self._add_to_bins(finite)
        elif len(finite):
            self._values.append(finite.copy())
            if self.n > EXACT_VALUES:
                for part in self._values:
                    self._add_to_bins(part)
                self._values = None
        return finite

    def _add_to_bins(self, finite: NDArray[Any]) -> None:
        """Count values in bins: number 0 is zero, other numbers have the sign of the values."""
        import numpy as np

        sizes = np.abs(finite)
        numbers = np.zeros(len(finite), "i8")
        is_set = sizes >= _SMALLEST
        numbers[is_set] = np.ceil(np.log(sizes[is_set] / _SMALLEST) / _GROWTH).astype("i8") + 1
        numbers = np.where(finite < 0, -numbers, numbers)
        for number, n in zip(*np.unique(numbers, return_counts=True), strict=True):
            self._bins[int(number)] = self._bins.get(int(number), 0) + int(n)

    def at(self, fractions: Sequence[float]) -> list[float]:
        """Return quantiles.

        Parameters
        ----------
        fractions : sequence of float
            Fractions of the values that lie below each quantile, between 0 and 1.

        Returns
        -------
        list of float
            A quantile for each fraction; NaN without values.
        """
        import numpy as np

        if not self.n:
            return [math.nan] * len(fractions)
        if self._values is not None:
            values = np.concatenate(self._values)
            self._values = [values]
            return [float(v) for v in np.quantile(values, list(fractions))]
        numbers = sorted(self._bins)
        ends = np.cumsum([self._bins[i] for i in numbers])
        found = []
        for fraction in fractions:
            k = int(np.searchsorted(ends, fraction * (self.n - 1), side="right"))
            value = _bin_value(numbers[min(k, len(numbers) - 1)])
            found.append(min(max(value, self.minimum), self.maximum))
        return found


def _bin_value(number: int) -> float:
    """Return the value with the smallest relative distance to all values of a bin."""
    if number == 0:
        return 0.0
    upper = _SMALLEST * math.exp((abs(number) - 1) * _GROWTH)
    return math.copysign(2 * upper / (1 + math.exp(_GROWTH)), number)


class PixelMoments:
    """Number, mean and standard deviation of the values of each pixel over many images.

    Parameters
    ----------
    n_pixels : int
        Number of pixels in an image.

    Attributes
    ----------
    n : ndarray of shape (n_pixels,), float64
        Number of finite values of each pixel.
    """

    def __init__(self, n_pixels: int) -> None:
        import numpy as np

        self.n = np.zeros(n_pixels)
        self._mean = np.zeros(n_pixels)
        self._m2 = np.zeros(n_pixels)

    def take(self, images: NDArray[Any]) -> None:
        """Add images.

        Parameters
        ----------
        images : ndarray of shape (n, n_pixels)
            A value for each pixel; NaN and infinity are left out.
        """
        import numpy as np

        if not len(images):
            return
        values = images.astype("f8")
        is_other = ~np.isfinite(values)
        values[is_other] = 0.0
        n_new = len(values) - is_other.sum(axis=0)
        mean = values.sum(axis=0) / np.maximum(n_new, 1)
        values -= mean
        values[is_other] = 0.0
        m2 = np.einsum("ij,ij->j", values, values)
        n_all = np.maximum(self.n + n_new, 1)
        delta = mean - self._mean
        self._m2 += m2 + delta**2 * self.n * n_new / n_all
        self._mean += delta * n_new / n_all
        self.n += n_new

    @property
    def mean(self) -> NDArray[Any]:
        """Mean of each pixel, of shape (n_pixels,); NaN where it has no value."""
        import numpy as np

        return np.where(self.n > 0, self._mean, np.nan)

    @property
    def std(self) -> NDArray[Any]:
        """Population standard deviation of each pixel, of shape (n_pixels,); NaN without values."""
        import numpy as np

        return np.where(self.n > 0, np.sqrt(self._m2 / np.maximum(self.n, 1)), np.nan)


class Identities:
    """Counts of duplicate and missing event numbers.

    Consecutive numbers are kept as ranges, so that memory grows with the gaps only.

    Attributes
    ----------
    n : int
        Number of event numbers added.
    """

    #: With more ranges than this the numbers are not consecutive but random, and not evaluated.
    MOST_RANGES = 200_000

    def __init__(self) -> None:
        import numpy as np

        self.n = 0
        self._ranges = np.empty((0, 2), "i8")  # first, last
        self._is_unknown = False

    def take(self, numbers: NDArray[Any]) -> None:
        """Add event numbers, integers of shape (n,) in any order."""
        import numpy as np

        self.n += len(numbers)
        if self._is_unknown or not len(numbers):
            return
        if numbers.dtype.kind == "u" and int(numbers.max()) >= 2**63:
            self._is_unknown = True
            return
        values = np.unique(numbers.astype("i8"))
        # unsigned, since the difference of two int64 may not fit into an int64
        steps = values[1:].view("u8") - values[:-1].view("u8")
        cuts = np.flatnonzero(steps != 1)
        first = values[np.concatenate([[0], cuts + 1])]
        last = values[np.concatenate([cuts, [len(values) - 1]])]
        self._ranges = _merged(np.concatenate([self._ranges, np.stack([first, last], axis=1)]))
        self._is_unknown = len(self._ranges) > self.MOST_RANGES

    @property
    def n_duplicate(self) -> int | None:
        """Number of repetitions of earlier numbers; None where it is unknown."""
        return None if self._is_unknown else self.n - self._n_distinct()

    @property
    def n_missing(self) -> int | None:
        """Count of the numbers missing between the lowest and the highest; None where unknown."""
        if self._is_unknown:
            return None
        if not self.n:
            return 0
        span = int(self._ranges[-1, 1]) - int(self._ranges[0, 0]) + 1
        return span - self._n_distinct()

    def _n_distinct(self) -> int:
        return sum(int(b) - int(a) + 1 for a, b in self._ranges)


def _merged(ranges: NDArray[Any]) -> NDArray[Any]:
    """Sort ranges (first, last), of shape (n, 2), and join those that overlap or touch."""
    import numpy as np

    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    first = ranges[1:, 0]
    # both conditions, since first - 1 overflows for the lowest int64
    begins = np.concatenate([[True], (first > reach[:-1]) & (first - 1 > reach[:-1])])
    starts = np.flatnonzero(begins)
    ends = np.concatenate([starts[1:] - 1, [len(ranges) - 1]])
    return np.stack([ranges[starts, 0], reach[ends]], axis=1)


class Series:
    """Counts of events by type in bins of time.

    Parameters
    ----------
    names : sequence of str
        Names of the types of events, by their indices in `take`.
    bin_s : float
        Initial width of a bin, in seconds; it doubles whenever more than `MOST_BINS` bins would
        be needed (default: 1).

    Attributes
    ----------
    bin_s : float
        The present width of a bin, in seconds.
    """

    #: A night of ten hours ends with bins of 64 s.
    MOST_BINS = 1024

    def __init__(self, names: Sequence[str], bin_s: float = 1.0) -> None:
        import numpy as np

        self.names = tuple(names)
        self.bin_s = bin_s
        self._counts = np.zeros((len(self.names), self.MOST_BINS), "i8")

    def take(self, moments_s: NDArray[Any], types: NDArray[Any]) -> None:
        """Add events.

        Parameters
        ----------
        moments_s : ndarray of shape (n,), float
            Seconds since the first bin's begin; events before it are left out.
        types : ndarray of shape (n,), int
            Index of each event's type.
        """
        import numpy as np

        is_after = moments_s >= 0
        moments_s, types = moments_s[is_after], types[is_after]
        if not len(moments_s):
            return
        while moments_s.max() >= self.bin_s * self.MOST_BINS:
            self.bin_s *= 2
            half = self._counts.reshape(len(self.names), -1, 2).sum(axis=2)
            self._counts[:] = 0
            self._counts[:, : half.shape[1]] = half
        places = types.astype("i8") * self.MOST_BINS + (moments_s // self.bin_s).astype("i8")
        counts = np.bincount(places, minlength=self._counts.size)
        self._counts += counts.reshape(self._counts.shape)

    def whole(self, duration_s: float) -> NDArray[Any]:
        """Return the counts of the bins that lie entirely within the given duration.

        Parameters
        ----------
        duration_s : float
            Time from the begin of the first bin to the last event, in seconds.

        Returns
        -------
        ndarray of shape (n_types, n_bins), int64
            Types in the order of ``names``.
        """
        n_bins = min(int(duration_s // self.bin_s), self.MOST_BINS)
        counts: NDArray[Any] = self._counts[:, :n_bins]
        return counts
