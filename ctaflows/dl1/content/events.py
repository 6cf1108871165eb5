"""Scan of a file's events: their numbers by type, times, runs and telescopes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content import times
from ctaflows.dl1.content.event_statistics import (
    ALL,
    NAMES,
    EventStatistics,
    ImageStatistics,
    TypeList,
    types_of,
)
from ctaflows.dl1.content.layout import DATACHECK_TABLES, Layout
from ctaflows.dl1.hdf5.files import guarded
from ctaflows.dl1.hdf5.tables import columns_there, read_blocks, text_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

_MAX_TELESCOPES = 1000
_MAX_RUN = 10**12  # larger numbers are fill values
# attributes to read: versions of programs, scale and format of times
_ENDINGS = ("_VERSION", "_TIME_SCALE", "_TIME_FORMAT")
_TIME_COLUMN = {"unix": "dragon_time", "tai": "time", "mjd": "time"}


@dataclass(slots=True)
class EventScan:
    """The result of scanning the rows of the event table, block by block.

    Attributes
    ----------
    clock : str or None
        How times are stored: ``unix`` (s, UTC), ``tai`` (s and quarter-ns) or ``mjd`` (days, TAI);
        None where there are no usable ones.
    n_events : int or None
        Number of rows of the table, also of those not read.
    counts : dict of str to int, or None
        Numbers of events by type; None where no types are stored, or not all rows were read.
    runs, telescopes : set of int
        Numbers (`obs_id`, `tel_id`) found; of more than two runs, not all.
    first, last : tuple of (int, float), or None
        Times of the first and the last row that has one: whole seconds since 1970 and fraction,
        UTC for ``unix``, TAI for ``tai`` and ``mjd``.
    duration_s : float or None
        Time between both in seconds; None if negative.
    events : EventStatistics or None
        None where only the first and the last row were read.
    images : ImageStatistics or None
        Likewise; also None where Hillas parameters are not in the event table (ctapipe).
    """

    clock: str | None = None
    n_events: int | None = None
    counts: dict[str, int] | None = None
    runs: set[int] = field(default_factory=set)
    telescopes: set[int] = field(default_factory=set)
    first: tuple[int, float] | None = None
    last: tuple[int, float] | None = None
    duration_s: float | None = None
    events: EventStatistics | None = None
    images: ImageStatistics | None = None

    def take(self, block: NDArray[Any]) -> None:
        """Add the rows of a block, with the columns that `scan_events` reads."""
        import numpy as np

        names = block.dtype.names or ()
        types = np.full(len(block), ALL, "i1")
        if "event_type" in names and self.counts is not None:
            types = types_of(block["event_type"])
            _count(types, self.counts)
        if "obs_id" in names:
            ends = int(block["obs_id"].min()), int(block["obs_id"].max())
            self.runs.update(run for run in ends if 0 <= run < _MAX_RUN)
        if "tel_id" in names and len(self.telescopes) < _MAX_TELESCOPES:
            self.telescopes.update(_distinct(block["tel_id"]))
        moments_s = self._take_times(block[_TIME_COLUMN[self.clock]]) if self.clock else None
        if self.events is not None:
            self.events.take(block, types, moments_s)
        if self.images is not None:
            self.images.take(block, types)

    def _take_times(self, values: NDArray[Any]) -> NDArray[Any]:
        """Add times as stored; return the seconds after the first event, NaN where none is set."""
        import numpy as np

        whole, fraction, is_set = _seconds(values, self.clock)
        places = np.flatnonzero(is_set)
        if len(places):
            first, last = places[0], places[-1]
            if self.first is None:
                self.first = int(whole[first]), float(fraction[first])
            self.last = int(whole[last]), float(fraction[last])
            elapsed_s = (self.last[0] - self.first[0]) + (self.last[1] - self.first[1])
            self.duration_s = elapsed_s if elapsed_s >= 0 else None
        start = self.first or (0, 0.0)
        return np.where(is_set, (whole - start[0]) + (fraction - start[1]), np.nan)

    def utc(self, moment: tuple[int, float] | None) -> datetime | None:
        """Return `first` or `last` as an aware UTC datetime."""
        if moment is None:
            return None
        if self.clock == "unix":
            return times.utc_of_unix(moment[0]) + timedelta(seconds=moment[1])
        return times.utc_of_tai(*moment)


def _distinct(values: NDArray[Any]) -> set[int]:
    import numpy as np

    return {int(v) for v in np.unique(values)[:_MAX_TELESCOPES]}


def _count(types: NDArray[Any], counts: dict[str, int]) -> None:
    """Add the numbers of events of each type to `counts`."""
    import numpy as np

    for name, n in zip(NAMES, np.bincount(types, minlength=len(NAMES)), strict=True):
        if n:
            counts[name] = counts.get(name, 0) + int(n)


def _seconds(
    values: NDArray[Any], clock: str | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Split times into whole seconds and fractions.

    Parameters
    ----------
    values : ndarray of shape (n,) float64, or (n, 2) uint32
        Times as stored.
    clock : str
        ``unix`` (s, UTC), ``tai`` (s and quarter-ns), or ``mjd`` (days, TAI).

    Returns
    -------
    ndarray of shape (n,), int64
        Whole seconds since 1970, on the scale of ``clock``.
    ndarray of shape (n,), float64
        Fractions of a second.
    ndarray of shape (n,), bool
        Whether the time is set: between 1972 and 2100.
    """
    import numpy as np

    if clock == "tai":
        whole, fraction = values[:, 0].astype("i8"), values[:, 1] / 4e9
    else:
        seconds = (values - times.MJD_EPOCH) * 86400.0 if clock == "mjd" else values
        seconds = np.where(np.isfinite(seconds), seconds, 0.0)
        seconds = np.clip(seconds, 0.0, times.LATEST_S)
        whole = np.floor(seconds).astype("i8")
        fraction = seconds - whole
    is_set = (whole >= times.EARLIEST_S) & (whole < times.LATEST_S)
    return whole, fraction, is_set


def scan_events(
    tables: Mapping[str, Any], layout: Layout, where: str, *, ends_only: bool
) -> tuple[EventScan, dict[str, str]]:
    """Read a file's event table, or lstchain's datacheck tables.

    Parameters
    ----------
    tables : mapping of str to h5py.Dataset
        All tables of the file, by path.
    layout : Layout
        The file's layout.
    where : str
        Name of the file, for messages.
    ends_only : bool
        Read only the first and the last row of the event table.

    Returns
    -------
    EventScan
        The result.
    dict of str to str
        Attributes of the table: versions of programs, scale and format of times.

    Raises
    ------
    IntegrityError
        A table can't be read.
    """
    if layout.level == "datacheck":
        return _scan_datacheck(tables, where)
    if layout.events is None:
        return EventScan(), {}
    table = tables[layout.events]
    with guarded(f"the table {layout.events}", where):
        texts = text_attributes(table, *_ENDINGS)
        wanted = _columns_wanted(table)
        scan = EventScan(clock=_clock(table, texts, layout), n_events=int(table.shape[0]))
        if not ends_only:
            fields = table.dtype.fields
            scan.events = EventStatistics(fields)
            scan.images = ImageStatistics(fields) if layout.name == "lstchain" else None
            wanted += scan.events.columns + (scan.images.columns if scan.images else [])
    if scan.clock:
        wanted.append(_TIME_COLUMN[scan.clock])
    if "event_type" in wanted and not ends_only:
        scan.counts = {}
    if wanted:
        for block in read_blocks(table, list(dict.fromkeys(wanted)), where, ends_only=ends_only):
            with guarded(f"the table {layout.events}", where):
                scan.take(block)
    return scan, texts


def scan_images(found: Sequence[Any], types: TypeList, where: str) -> ImageStatistics | None:
    """Read ctapipe's tables of Hillas parameters, one per telescope.

    Parameters
    ----------
    found : sequence of h5py.Dataset
        The tables; those without the first one's columns are skipped.
    types : TypeList
        The types of the array's events.
    where : str
        Name of the file, for messages.

    Returns
    -------
    ImageStatistics or None
        Statistics over all telescopes; None without tables.

    Raises
    ------
    IntegrityError
        A table can't be read.
    """
    import numpy as np

    statistics: ImageStatistics | None = None
    for table in found:
        with guarded(f"the table {table.name}", where):
            fields = table.dtype.fields
            statistics = statistics or ImageStatistics(fields)
            ids = columns_there(fields, ["event_id"], "iu")
        if (
            not statistics.columns
            or columns_there(fields, statistics.columns, "f") != statistics.columns
        ):
            continue
        for block in read_blocks(table, statistics.columns + ids, where):
            with guarded(f"the table {table.name}", where):
                kinds = types.find(block["event_id"]) if ids else np.full(len(block), ALL, "i1")
                statistics.take(block, kinds)
    return statistics


def _columns_wanted(table: Any) -> list[str]:
    """Return the integer columns among run, telescope and event type that the table has."""
    fields = table.dtype.fields
    return [
        name
        for name in ("obs_id", "tel_id", "event_type")
        if name in fields and fields[name][0].kind in "iu"
    ]


def _clock(table: Any, texts: Mapping[str, str], layout: Layout) -> str | None:
    """Return how the table's times are stored; None where it has none that are usable.

    Simulated events in lstchain's layout have only the time at which they were simulated.
    """
    names = table.dtype.names
    if layout.name == "lstchain":
        usable = "dragon_time" in names and not layout.simulated
        return "unix" if usable and table.dtype["dragon_time"].kind == "f" else None
    if "time" not in names:
        return None
    i, kind = names.index("time"), table.dtype["time"]
    if texts.get(f"CTAFIELD_{i}_TIME_SCALE", "tai") != "tai":
        return None
    stored = texts.get(f"CTAFIELD_{i}_TIME_FORMAT")
    if kind.shape == (2,) and kind.base.kind == "u" and stored in {None, "ctao_high_res"}:
        return "tai"
    return "mjd" if kind.kind == "f" and stored == "mjd" else None


def _scan_datacheck(tables: Mapping[str, Any], where: str) -> tuple[EventScan, dict[str, str]]:
    """Return the sums over lstchain's datacheck tables, which have a row per subrun."""
    scan, texts = EventScan(n_events=0, counts={}), dict[str, str]()
    elapsed_s: dict[int, float] = {}
    for name, kind in DATACHECK_TABLES.items():
        table = tables.get(f"/dl1datacheck/{name}")
        if table is None:
            continue
        columns = ["subrun_index", "num_events", "elapsed_time"]
        with guarded(f"the table {table.name}", where):
            texts = texts or text_attributes(table, *_ENDINGS)
            for block in read_blocks(table, columns, where):
                n = int(block["num_events"].sum())
                scan.n_events = (scan.n_events or 0) + n
                scan.counts = {**(scan.counts or {}), kind: (scan.counts or {}).get(kind, 0) + n}
                pairs = zip(block["subrun_index"], block["elapsed_time"], strict=True)
                elapsed_s.update((int(subrun), float(s)) for subrun, s in pairs)
    total_s = sum(elapsed_s.values())
    scan.duration_s = total_s if elapsed_s and 0 <= total_s < times.LATEST_S else None
    return scan, texts
