"""Statistics of events, block by block: numbers, tags, times, rates, intensities, pointing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content import quantities, spectrum
from ctaflows.dl1.content.layout import EVENT_TYPES, OTHER_TYPE
from ctaflows.dl1.content.pointing import Directions
from ctaflows.dl1.content.statistics import Identities, Moments, Quantiles, Series
from ctaflows.dl1.hdf5.tables import columns_there, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Names of the types of events by index; the last one is for events without a stored type.
NAMES = (*EVENT_TYPES.values(), OTHER_TYPE, "all")
_CODES = tuple(EVENT_TYPES)
_OTHER, ALL = len(_CODES), len(_CODES) + 1
COSMIC, PEDESTAL, FLATFIELD = (NAMES.index(n) for n in ("cosmic", "pedestal", "flatfield"))
#: Of more events than this the types are not kept: 9 bytes each.
_MAX_LISTED = 4_000_000
_INTENSITY = ("intensity", "hillas_intensity", "camera_frame_hillas_intensity")
#: Hillas parameters that are finite wherever the intensity is.
_HILLAS = tuple(
    prefix + name
    for prefix, names in (
        ("", ("x", "y", "width", "length", "psi")),
        ("hillas_", ("fov_lon", "fov_lat", "width", "length", "psi")),
        ("camera_frame_hillas_", ("x", "y", "width", "length", "psi")),
    )
    for name in names
)


def types_of(codes: NDArray[Any]) -> NDArray[Any]:
    """Return the indices in `NAMES`, int8, of ctapipe's codes of event types."""
    import numpy as np

    types = np.full(len(codes), _OTHER, "i1")
    for i, code in enumerate(_CODES):
        types[codes == code] = i
    return types


class TypeList:
    """The types of events by event number, for rows of other tables."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[Any], NDArray[Any]]] | None = []
        self._n = 0
        self._sorted: tuple[NDArray[Any], NDArray[Any]] | None = None

    def take(self, numbers: NDArray[Any], types: NDArray[Any]) -> None:
        """Add events.

        Parameters
        ----------
        numbers : ndarray of shape (n,), int
            Event numbers (`event_id`).
        types : ndarray of shape (n,), int8
            Indices in `NAMES`.
        """
        self._n += len(numbers)
        if self._n > _MAX_LISTED:
            self._parts = None
        if self._parts is not None:
            self._parts.append((numbers.astype("i8"), types))

    def in_rows(self) -> NDArray[Any] | None:
        """Return the types in the order of the rows, int8; None for no or over 4 million events."""
        import numpy as np

        if not self._parts:
            return None
        return np.concatenate([types for _, types in self._parts])

    def find(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return the types, int8, of events with these numbers; `ALL` for unknown numbers."""
        import numpy as np

        if not self._parts:
            return np.full(len(numbers), ALL, "i1")
        if self._sorted is None:
            known = np.concatenate([part[0] for part in self._parts])
            order = np.argsort(known, kind="stable")
            self._sorted = known[order], self.in_rows()[order]  # type: ignore[index]
        known, types = self._sorted
        numbers = numbers.astype("i8")
        places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        return np.where(known[places] == numbers, types[places], ALL).astype("i1")


class EventStatistics:
    """Statistics of the event table: numbers, trigger tags, times, rates.

    Parameters
    ----------
    fields : mapping
        ``table.dtype.fields`` of the table.

    Attributes
    ----------
    columns : list of str
        The table's columns that `take` needs, besides those of types and times.
    types : TypeList
        The types of the events.
    """

    _TAGS = ("trigger_type", "ucts_trigger_type", "ucts_jump")

    def __init__(self, fields: Any) -> None:
        self._ids = columns_there(fields, ["event_id"], "iu")
        self._tags = columns_there(fields, self._TAGS, "iub")
        self.columns = self._ids + self._tags
        self.types = TypeList()
        self._identities = Identities()
        self._series = Series(NAMES)
        self._n_mismatches = self._n_jumps = 0
        self._n = self._n_times = self._n_backward = self._n_gaps = 0
        self._steps = Moments()
        self._longest: float | None = None
        self._last_s: float | None = None

    def take(self, block: NDArray[Any], types: NDArray[Any], moments_s: Any) -> None:
        """Add the rows of a block.

        Parameters
        ----------
        block : ndarray of shape (n,), structured
            Rows with the columns ``columns``.
        types : ndarray of shape (n,), int8
            Indices in `NAMES`.
        moments_s : ndarray of shape (n,), float64, or None
            Seconds after the first event, NaN where no time is set; None where the table has no
            times.
        """
        self._n += len(block)
        if self._ids:
            self._identities.take(block["event_id"])
            self.types.take(block["event_id"], types)
        if {"trigger_type", "ucts_trigger_type"} <= set(self._tags):
            differs = block["trigger_type"] != block["ucts_trigger_type"]
            self._n_mismatches += int(differs.sum())
        if "ucts_jump" in self._tags:
            self._n_jumps += int((block["ucts_jump"] != 0).sum())
        if moments_s is not None:
            self._take_times(types, moments_s)

    def _take_times(self, types: NDArray[Any], moments_s: NDArray[Any]) -> None:
        import numpy as np

        is_set = np.isfinite(moments_s)
        moments_s = moments_s[is_set]
        if not len(moments_s):
            return
        self._n_times += len(moments_s)
        self._series.take(moments_s, types[is_set])
        before = moments_s[:1] if self._last_s is None else [self._last_s]
        steps = np.diff(np.concatenate([before, moments_s]))
        if self._last_s is None:
            steps = steps[1:]
        self._last_s = float(moments_s[-1])
        if len(steps):
            gap_s = quantities.GAP_S
            self._n_backward += int((steps < 0).sum())
            self._n_gaps += int((steps > gap_s).sum())
            longest = float(steps.max())
            self._longest = longest if self._longest is None else max(self._longest, longest)
            self._steps.take(steps[(steps > 0) & (steps < gap_s)])

    def identities(self, *, is_unique: bool) -> quantities.Identities:
        """Return the statistics of event numbers and trigger tags.

        Parameters
        ----------
        is_unique : bool
            Whether event numbers are unique in the table: of one run, and of one telescope where
            it has a row per telescope. If not, duplicate and missing numbers are None.
        """
        known = self._identities if self._ids and is_unique else None
        return quantities.Identities(
            known.n_duplicate if known else None,
            known.n_missing if known else None,
            self._n_mismatches
            if {"trigger_type", "ucts_trigger_type"} <= set(self._tags)
            else None,
            self._n_jumps if "ucts_jump" in self._tags else None,
        )

    def times(self) -> quantities.Times:
        """Return the statistics of the times: order, gaps, dead time."""
        n, mean_s, dead_s = self._steps.n, self._steps.mean, self._steps.minimum
        live: float | None = None
        if n > 1 and mean_s > dead_s:
            live = 1 / (1 + dead_s / (mean_s - dead_s))
        return quantities.Times(
            self._n_times,
            self._n - self._n_times,
            self._n_backward,
            self._n_gaps,
            self._longest,
            dead_s if n else None,
            mean_s if n else None,
            live,
            live * n * mean_s if live is not None else None,
        )

    def rates(self, duration_s: float | None) -> quantities.Rates | None:
        """Return the rates in whole bins of time; None where there is no whole bin.

        Parameters
        ----------
        duration_s : float or None
            Time between the first and the last event, in seconds.
        """
        counts = self._series.whole(duration_s or 0.0)
        if not counts.shape[1]:
            return None
        bin_s = self._series.bin_s
        by_type = {
            name: _rate(row, bin_s)
            for name, row in zip(NAMES[:-1], counts, strict=False)
            if row.any()
        }
        by_type["all"] = _rate(counts.sum(axis=0), bin_s)
        return quantities.Rates(bin_s, counts.shape[1], by_type)


def _rate(counts: NDArray[Any], bin_s: float) -> quantities.Rate:
    mean, variance = float(counts.mean()), float(counts.var())
    excess = math.sqrt(max(0.0, variance - mean)) / mean if len(counts) > 1 and mean else None
    return quantities.Rate(
        mean / bin_s,
        math.sqrt(variance) / bin_s,
        int(counts.min()) / bin_s,
        int(counts.max()) / bin_s,
        excess,
        tuple(int(n) for n in counts),
    )


class ImageStatistics:
    """Statistics of tables of Hillas parameters: intensities, incomplete parameters, pointing.

    Parameters
    ----------
    fields : mapping
        ``table.dtype.fields`` of the (first) table.

    Attributes
    ----------
    columns : list of str
        The table's columns that `take` needs.
    """

    def __init__(self, fields: Any) -> None:
        import numpy as np

        self._intensity = columns_there(fields, _INTENSITY, "f")[:1]
        self._others = columns_there(fields, _HILLAS, "f")
        self._direction = columns_there(fields, ("alt_tel", "az_tel"), "f")
        self._has_direction = len(self._direction) == 2
        self.columns = [*self._intensity, *self._others, *self._direction]
        self._by_type: dict[int, Quantiles] = {}
        self._n_incomplete = 0
        self._counts = np.zeros(100, "i8")
        self._edges = spectrum.edges()
        self._directions = Directions()

    def take(self, block: NDArray[Any], types: NDArray[Any]) -> None:
        """Add the rows of a block.

        Parameters
        ----------
        block : ndarray of shape (n,), structured
            Rows with the columns ``columns``; intensities in p.e., directions in radians.
        types : ndarray of shape (n,), int8
            Indices in `NAMES`.
        """
        import numpy as np

        if self._has_direction:
            self._directions.take(block["alt_tel"], block["az_tel"])
        if not self._intensity:
            return
        values = block[self._intensity[0]]
        for kind in np.unique(types):
            of_kind = values[types == kind]
            finite = self._by_type.setdefault(int(kind), Quantiles()).take(of_kind)
            if kind == COSMIC:
                self._counts += np.histogram(finite, self._edges)[0]
        if self._others:
            is_bad = ~np.isfinite(block[self._others[0]])
            for name in self._others[1:]:
                is_bad |= ~np.isfinite(block[name])
            self._n_incomplete += int((np.isfinite(values) & is_bad).sum())

    def intensity(self) -> dict[str, quantities.Spread]:
        """Return the distributions of the intensity in p.e., by type of events."""
        return {NAMES[kind]: spread_of(found) for kind, found in sorted(self._by_type.items())}

    @property
    def n_incomplete(self) -> int | None:
        """Number of events with an intensity, but NaN in another parameter; None if unknown."""
        return self._n_incomplete if self._intensity and self._others else None

    @property
    def counts(self) -> NDArray[Any] | None:
        """Numbers of cosmics in lstchain's bins of intensity, int64 of shape (100,).

        None where there are no cosmics.
        """
        return self._counts if COSMIC in self._by_type else None

    def pointing(self) -> quantities.Pointing | None:
        """Return the pointing of the telescope; None where events have no directions."""
        return self._directions.result() if self._has_direction else None


def spread_of(found: Quantiles) -> quantities.Spread:
    """Return the distribution of values as a record."""
    if not found.n:
        return quantities.Spread(0, found.n_other)
    at = tuple(v for v in map(number, found.at(quantities.FRACTIONS)) if v is not None)
    return quantities.Spread(
        found.n,
        found.n_other,
        number(found.mean),
        number(found.std),
        found.minimum,
        found.maximum,
        at if len(at) == len(quantities.FRACTIONS) else None,
        found.is_exact,
    )
