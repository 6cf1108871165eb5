"""Statistics of charges and peak times in images, as in `lstchain.datachecks`.

Images make up most of a file. By default only some of them are read: of each type of events up to
a given number, evenly spread over the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content.event_statistics import ALL, COSMIC, FLATFIELD, NAMES, PEDESTAL, spread_of
from ctaflows.dl1.content.quantities import Charges, Images
from ctaflows.dl1.content.statistics import PixelMoments, Quantiles
from ctaflows.dl1.hdf5.tables import is_number, number, read_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ctaflows.dl1.content.event_statistics import TypeList

#: Number of images of each type of events that are read by default. A subrun has some 800
#: pedestals and as many flat-field events, which are thus all read.
DEFAULT_IMAGES = 1000
_KINDS = (COSMIC, PEDESTAL, FLATFIELD)
#: A pixel with a greater standard deviation of its pedestal charge is noisy
#: (lstchain_longterm_dl1_check), p.e.
_NOISY_PE = 2.5
#: Peak times of smaller charges are not used (lstchain.datachecks.containers), p.e.
_TIMED_PE = 1.0
_MAX_PIXELS = 100_000
#: Images that are added to the sums together: numpy's overhead for each call outweighs the work on
#: fewer.
_AT_ONCE = 64


class _TypeSums:
    """Sums over the images of one type of events."""

    def __init__(self, n_pixels: int) -> None:
        import numpy as np

        self.n = self._n_waiting = 0
        self._waiting: list[NDArray[Any]] = []
        self.charges = PixelMoments(n_pixels)
        self.times = PixelMoments(n_pixels)
        self.relative = PixelMoments(n_pixels)
        self.has_charge = np.zeros(n_pixels, bool)

    def take(self, rows: NDArray[Any], *, timed: bool) -> None:
        """Add rows of the table of images; ``timed``: their peak times too."""
        self._waiting.append(rows)
        self._n_waiting += len(rows)
        if self._n_waiting >= _AT_ONCE:
            self.sum_up(timed=timed)

    def sum_up(self, *, timed: bool) -> None:
        """Add the waiting images to the sums."""
        import numpy as np

        if self._waiting:
            rows = np.concatenate(self._waiting)
            self._waiting, self._n_waiting = [], 0
            self._add(rows["image"], rows["peak_time"] if timed else None)

    def _add(self, charge: NDArray[Any], time: NDArray[Any] | None) -> None:
        import numpy as np

        self.n += len(charge)
        self.charges.take(charge)
        self.has_charge |= (charge != 0).any(axis=0)
        if time is None:
            return
        times = np.where(charge > _TIMED_PE, time, np.nan).astype("f8")
        self.times.take(times)
        is_set = np.isfinite(times)
        n_set = is_set.sum(axis=1)[:, None]
        total = np.where(is_set, times, 0.0).sum(axis=1)[:, None]
        self.relative.take(times - (total - times) / np.where(n_set > 1, n_set - 1, np.nan))

    def result(self, kind: int) -> Charges:
        mean, std = self.charges.mean, self.charges.std
        is_timed = bool(self.times.n.any())
        return Charges(
            self.n,
            _mean(mean),
            _mean(std),
            _pixels(mean),
            _pixels(std),
            int((std > _NOISY_PE).sum()) if kind == PEDESTAL and self.n > 1 else None,
            _mean(self.times.mean) if is_timed else None,
            _mean(self.relative.std) if is_timed else None,
        )


def images_of(table: Any, types: TypeList, where: str, most: int | None) -> Images | None:
    """Return the statistics of a table of images.

    Parameters
    ----------
    table : h5py.Dataset
        The table, with charges in p.e. in a column ``image`` and times in ns in ``peak_time``.
    types : TypeList
        The types of the events.
    where : str
        Name of the file, for messages.
    most : int or None
        Number of images to read of each type of events, about; None reads all.

    Returns
    -------
    Images or None
        None where the table has no images, or ``most`` is 0.

    Raises
    ------
    IntegrityError
        The table can't be read.
    """
    fields = table.dtype.fields
    if not is_number(fields, "image", "f", n_axes=1):
        return None
    n_rows, n_pixels = int(table.shape[0]), int(fields["image"][0].shape[0])
    if not 0 < n_pixels <= _MAX_PIXELS or most == 0:
        return None
    columns = ["image"]
    has_id, has_time = is_number(fields, "event_id", "iu"), _has_times(fields, n_pixels)
    columns += (["event_id"] if has_id else []) + (["peak_time"] if has_time else [])
    sums: dict[int, _TypeSums] = {}
    for block, is_wanted in _blocks(table, columns, types, where, most):
        rows = block[is_wanted]
        kinds = types.find(rows["event_id"]) if has_id else None
        for kind in {int(k) for k in kinds} if kinds is not None else {ALL}:
            of_kind = rows if kinds is None else rows[kinds == kind]
            found = sums.setdefault(kind, _TypeSums(n_pixels))
            found.take(of_kind, timed=has_time and kind == FLATFIELD)
    for kind, found in sums.items():
        found.sum_up(timed=has_time and kind == FLATFIELD)
    by_type = {NAMES[kind]: found.result(kind) for kind, found in sorted(sums.items())}
    n_read = sum(found.n for found in sums.values())
    n_nan = n_read * n_pixels - sum(int(found.charges.n.sum()) for found in sums.values())
    return Images(n_rows, n_read, n_pixels, _n_dead(sums), by_type, n_nan)


def _has_times(fields: Any, n_pixels: int) -> bool:
    if not is_number(fields, "peak_time", "f", n_axes=1):
        return False
    return bool(fields["peak_time"][0].shape[0] == n_pixels)


def _blocks(
    table: Any, columns: list[str], types: TypeList, where: str, most: int | None
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield blocks of rows, each with a bool array of the rows that are wanted."""
    import numpy as np

    chunk = int(table.chunks[0]) if table.chunks else 1
    n_rows = int(table.shape[0])
    wanted = None if most is None else choose(types.in_rows(), n_rows, most, chunk)
    if wanted is None:
        for block in read_blocks(table, columns, where):
            yield block, np.ones(len(block), bool)
        return
    for span in _spans(wanted, chunk):
        start = span.start
        for block in read_blocks(table, columns, where, rows=span):
            inside = wanted[(wanted >= start) & (wanted < start + len(block))] - start
            is_wanted = np.zeros(len(block), bool)
            is_wanted[inside] = True
            start += len(block)
            yield block, is_wanted


def choose(
    types: NDArray[Any] | None, n_rows: int, most: int, chunk: int = 1
) -> NDArray[Any] | None:
    """Return the rows of the images to read.

    Parameters
    ----------
    types : ndarray of shape (n,), int8, or None
        Types of the events in the order of the rows. Without them, or where ``n`` is not
        ``n_rows``, rows are chosen regardless of type.
    n_rows : int
        Number of rows of the table.
    most : int
        Number of rows to choose of each type, at most.
    chunk : int, optional
        Rows per chunk (default: 1). Cosmics, of which there are many, are taken from as few chunks
        as possible.

    Returns
    -------
    ndarray of int64, or None
        Rows in ascending order; None for all of them.
    """
    import numpy as np

    if n_rows <= most:
        return None
    if types is None or len(types) != n_rows:
        return _in_chunks(np.arange(n_rows), most * len(_KINDS), chunk)
    parts = [_evenly_spread(np.flatnonzero(types == kind), most) for kind in (PEDESTAL, FLATFIELD)]
    parts.append(_in_chunks(np.flatnonzero(types == COSMIC), most, chunk))
    return np.sort(np.concatenate(parts))


def _in_chunks(rows: NDArray[Any], most: int, chunk: int) -> NDArray[Any]:
    """Return at most ``most`` of the rows, from evenly spread whole chunks."""
    import numpy as np

    if len(rows) <= most:
        return rows
    chunks = np.unique(rows // chunk)
    some = _evenly_spread(chunks, max(1, most // chunk))
    return np.asarray(rows[np.isin(rows // chunk, some)][:most])


def _evenly_spread(rows: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most ``most`` of the rows, evenly spread."""
    import numpy as np

    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.arange(most) * len(rows) // most])


def _spans(rows: NDArray[Any], chunk: int) -> Iterator[range]:
    """Yield ranges that cover the rows, joined where they are in the same or adjacent chunks."""
    import numpy as np

    if not len(rows):
        return
    cuts = np.flatnonzero(np.diff(rows // chunk) > 1) + 1
    for part in np.split(rows, cuts):
        yield range(int(part[0]), int(part[-1]) + 1)


def _n_dead(sums: dict[int, _TypeSums]) -> int | None:
    """Return the number of pixels without any charge, in calibration events where there are any.

    In cosmics, data volume reduction removes the charges of pixels on purpose.
    """
    import numpy as np

    calibration = [found for kind, found in sums.items() if kind in (PEDESTAL, FLATFIELD)]
    calibration = calibration or list(sums.values())
    if not calibration:
        return None
    return int((~np.logical_or.reduce([found.has_charge for found in calibration])).sum())


def _mean(pixels: NDArray[Any]) -> float | None:
    import numpy as np

    finite = pixels[np.isfinite(pixels)]
    return number(finite.mean()) if len(finite) else None


def _pixels(values: NDArray[Any]) -> Any:
    found = Quantiles()
    found.take(values)
    return spread_of(found)
