"""The pointing of a telescope, from the directions that a file holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content.quantities import Pointing
from ctaflows.dl1.content.statistics import Moments
from ctaflows.dl1.hdf5.files import guarded
from ctaflows.dl1.hdf5.tables import columns_there, read_blocks, text_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: ctapipe's tables of directions, by telescope number, with their columns for altitude and azimuth:
#: monitoring data of DL1 and DL0 files (observed), configuration (simulated).
_TABLES = (
    ("/dl1/monitoring/telescope/pointing/tel_{:03d}", "altitude", "azimuth"),
    ("/dl0/monitoring/telescope/pointing/tel_{:03d}", "altitude", "azimuth"),
    (
        "/configuration/telescope/pointing/tel_{:03d}",
        "telescope_pointing_altitude",
        "telescope_pointing_azimuth",
    ),
)
_TO_RADIANS = {"rad": 1.0, "deg": math.pi / 180}


class Directions:
    """Running mean, span and steps of the directions of one telescope, added block by block."""

    def __init__(self) -> None:
        self._altitudes = Moments()
        self._n = 0
        self._sum_east = self._sum_north = 0.0
        self._span = self._step = 0.0  # as chords on the unit sphere
        self._first: NDArray[Any] | None = None
        self._last: NDArray[Any] | None = None

    def take(self, altitude: NDArray[Any], azimuth: NDArray[Any]) -> None:
        """Add directions.

        Parameters
        ----------
        altitude, azimuth : ndarray of shape (n,), float
            In radians and in the order of time; where one of both is not finite, the direction
            counts as NaN.
        """
        import numpy as np

        self._n += len(altitude)
        altitude, azimuth = altitude.astype("f8"), azimuth.astype("f8")
        is_set = np.isfinite(altitude) & np.isfinite(azimuth)
        altitude, azimuth = altitude[is_set], azimuth[is_set]
        if not len(altitude):
            return
        self._altitudes.take(altitude)
        self._sum_east += float(np.sin(azimuth).sum())
        self._sum_north += float(np.cos(azimuth).sum())
        horizontal = np.cos(altitude)
        vectors = np.stack(
            [horizontal * np.cos(azimuth), horizontal * np.sin(azimuth), np.sin(altitude)], axis=1
        )
        self._first = vectors[0] if self._first is None else self._first
        before = vectors[:1] if self._last is None else self._last[None]
        steps = np.diff(np.concatenate([before, vectors]), axis=0)
        self._step = max(self._step, float(np.sqrt((steps**2).sum(axis=1)).max()))
        distances = np.sqrt(((vectors - self._first) ** 2).sum(axis=1))
        self._span = max(self._span, float(distances.max()))
        self._last = vectors[-1]

    def result(self) -> Pointing:
        """Return the pointing of all directions so far, in degrees."""
        n = self._altitudes.n
        if not n:
            return Pointing(self._n, self._n)
        altitude = math.degrees(self._altitudes.mean)
        azimuth = math.degrees(math.atan2(self._sum_east, self._sum_north)) % 360
        return Pointing(
            self._n,
            self._n - n,
            altitude,
            azimuth,
            90 - altitude,
            _angle_deg(self._span),
            _angle_deg(self._step),
        )


def _angle_deg(chord: float) -> float:
    return math.degrees(2 * math.asin(min(1.0, chord / 2)))


def pointing_of_tables(
    tables: Mapping[str, Any], telescopes: tuple[int, ...], where: str
) -> Pointing | None:
    """Return the pointing from ctapipe's tables.

    Parameters
    ----------
    tables : mapping of str to h5py.Dataset
        All tables of the file, by path.
    telescopes : tuple of int
        Numbers of the telescopes; the first one that has a usable table is taken.
    where : str
        Name of the file, for messages.

    Returns
    -------
    Pointing or None
        None where no telescope has a table with altitude and azimuth in rad or deg.

    Raises
    ------
    IntegrityError
        A table can't be read.
    """
    for telescope in telescopes:
        for pattern, altitude, azimuth in _TABLES:
            path = pattern.format(telescope)
            if path not in tables:
                continue
            table = tables[path]
            if columns_there(table.dtype.fields, (altitude, azimuth), "f") != [altitude, azimuth]:
                continue
            with guarded(f"the table {path}", where):
                factors = [_to_radians(table, name) for name in (altitude, azimuth)]
            if None in factors:
                continue
            directions = Directions()
            for block in read_blocks(table, [altitude, azimuth], where):
                directions.take(block[altitude] * factors[0], block[azimuth] * factors[1])
            return directions.result()
    return None


def _to_radians(table: Any, column: str) -> float | None:
    """Return the factor from a column's unit to radians, None for other units."""
    name = f"CTAFIELD_{table.dtype.names.index(column)}_UNIT"
    return _TO_RADIANS.get(text_attributes(table, name).get(name, ""))
