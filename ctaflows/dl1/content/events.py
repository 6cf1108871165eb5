"""What the rows of a file tell: how many events of which type, when, of which run and telescope."""

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
_MAX_RUN = 10**12  # above are fill values
# of attributes: versions of programs, scale and format of times
_ENDINGS = ("_VERSION", "_TIME_SCALE", "_TIME_FORMAT")
_TIME_COLUMN = {"unix": "dragon_time", "tai": "time", "mjd": "time"}


@dataclass(slots=True)
class EventScan:
    """What the events' rows tell, gathered block by block.

    `first` and `last` are (whole seconds, fraction) on the scale of `clock`. The gauges are None
    where only the table's ends were read.
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
        """Add the rows of a block, columns as in `_columns_wanted`."""
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
        """Give the seconds after the first event, NaN where no time is set."""
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
        """Give `first` or `last` as an aware time."""
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
    """Split times into whole seconds (int64) and fractions (float64), and say which are set.

    Parameters
    ----------
    values : ndarray of shape (n,) float64, or (n, 2) uint32
        As stored.
    clock : str
        ``unix`` s UTC, ``tai`` s and quarter-ns, or ``mjd`` days TAI.
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
    """Read the events, or lstchain's datacheck of them."""
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
    """Read ctapipe's tables of Hillas parameters, one a telescope.

    Parameters
    ----------
    found : sequence of h5py.Dataset
        The tables; those that do not have the first one's columns are passed over.
    types : TypeList
        The types of the array's events.
    where : str
        The file's name for messages.
    """
    import numpy as np

    gauge: ImageStatistics | None = None
    for table in found:
        with guarded(f"the table {table.name}", where):
            fields = table.dtype.fields
            gauge = gauge or ImageStatistics(fields)
            ids = columns_there(fields, ["event_id"], "iu")
        if not gauge.columns or columns_there(fields, gauge.columns, "f") != gauge.columns:
            continue
        for block in read_blocks(table, gauge.columns + ids, where):
            with guarded(f"the table {table.name}", where):
                kinds = types.find(block["event_id"]) if ids else np.full(len(block), ALL, "i1")
                gauge.take(block, kinds)
    return gauge


def _columns_wanted(table: Any) -> list[str]:
    """Choose the whole numbers to read that the table has."""
    there = table.dtype.fields
    return [
        name
        for name in ("obs_id", "tel_id", "event_type")
        if name in there and there[name][0].kind in "iu"
    ]


def _clock(table: Any, texts: Mapping[str, str], layout: Layout) -> str | None:
    """Find how the table's times are stored; None where they mean nothing or are not there.

    Simulated events in lstchain's layout carry the time of the simulation only.
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
    """Add up lstchain's datacheck: one row a subrun in each table."""
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
