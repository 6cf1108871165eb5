"""A sample night of DL1 files, of any size, in lstchain's layout for observed data.

The rows are those of the files in ``sample/`` (see its README: the values are not observations),
repeated as often as needed, with their own run numbers, event numbers and times.
"""

from __future__ import annotations

import datetime as dt
import os
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401 - registers blosc, filter 32001
import numpy as np

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


_PARAMETERS = "/dl1/event/telescope/parameters/LST_LSTCam"
_IMAGES = "/dl1/event/telescope/image/LST_LSTCam"
_MONITORING = "/dl1/event/telescope/monitoring/"
_FILENAMES = "/source_filenames/filenames"
_KINDS = {"pedestals": 2, "flatfield": 0, "cosmics": 32}  # datacheck table → event_type
_START = dt.time(21, 30, tzinfo=dt.UTC)
_WRITTEN = dt.time(8, 0, tzinfo=dt.UTC)  # on the next morning
_PAUSE_S = 60.0  # between runs
_BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class _Subrun:
    """A subrun: its numbers, the events before it in the run, its events, its start (epoch s)."""

    run: int
    subrun: int
    n_before: int
    n_events: int
    start_s: float

    @property
    def name(self) -> str:
        return f"LST-1.Run{self.run:05d}.{self.subrun:04d}.h5"


class _Template:
    """The opened sample files, and the times and types of their events."""

    def __init__(self, stack: ExitStack) -> None:
        folder = resources.files("ctaflows.sandbox") / "sample"
        paths = [
            stack.enter_context(resources.as_file(folder / name))
            for name in ("dl1.h5", "datacheck_dl1.h5")
        ]
        self.dl1, self.datacheck = (stack.enter_context(h5py.File(p, "r")) for p in paths)
        self.rows = {p: self.dl1[p][:] for p in (_PARAMETERS, _IMAGES)}
        events = self.rows[_PARAMETERS]
        self.n_events = len(events)
        self.types = events["event_type"]
        self.cleaned = np.isfinite(events["intensity"])
        self.delays_s = events["dragon_time"] - events["dragon_time"][0]
        self.period_s = float(self.delays_s[-1]) * self.n_events / (self.n_events - 1)

    def times_s(self, subrun: _Subrun, index: NDArray[Any]) -> NDArray[Any]:
        """Return the times of events, given by their indices in the subrun, in epoch seconds."""
        cycle, row = np.divmod(index, self.n_events)
        return np.asarray(subrun.start_s + cycle * self.period_s + self.delays_s[row])

    def span_s(self, n_events: int) -> float:
        """Return the duration of `n_events` events in seconds."""
        return n_events * self.period_s / self.n_events

    def indices(self, chosen: NDArray[np.bool_], n_events: int, step: int = 1) -> NDArray[Any]:
        """Return the indices, below `n_events`, of every `step`-th chosen event."""
        rows = np.flatnonzero(chosen)
        cycle, k = np.divmod(np.arange(0, self.count(chosen, n_events), step), max(1, len(rows)))
        return np.asarray(cycle * self.n_events + rows[k])

    def count(self, chosen: NDArray[np.bool_], n_events: int) -> int:
        """Return how many of the first `n_events` events are chosen."""
        cycles, rest = divmod(n_events, self.n_events)
        return int(cycles * chosen.sum() + chosen[:rest].sum())


def make_night(
    root: Path,
    date: dt.date,
    *,
    version: str = "v0.1",
    tailcut: str = "tailcut84",
    runs: Sequence[int] = (11111, 11113),
    subruns: Sequence[int] = (4, 3),
    datacheck: bool = True,
    merged: bool = False,
    events: int | None = None,
    images: bool | None = None,
) -> list[Path]:
    """Write a night below ``root/cta/DL1/<date>/<version>/<tailcut>``.

    The night starts at 21:30 UTC. A run's subruns follow each other without a pause, at 6.8 kHz as
    in the sample, and its event numbers continue from one to the next; between runs there is a
    pause of a minute. The same call writes the same bytes. The modification time of the files is
    8:00 UTC on the next morning.

    Parameters
    ----------
    root : Path
        Folder that stands for the storage's root; created if needed.
    date : datetime.date
        The evening's date.
    version, tailcut : str, optional
        Names of the folders, as lstosa creates them.
    runs : sequence of int, optional
        Run numbers.
    subruns : sequence of int, optional
        Number of subruns of each run.
    datacheck : bool, optional
        Whether to write the datacheck files too.
    merged : bool, optional
        Whether to write the merged file of each run too (parameters only), and its datacheck file.
    events : int, optional
        Events per subrun, by default the sample's 140. A real subrun has about 53,000.
    images : bool, optional
        Whether to include the table of images; the monitoring tables are always included. By
        default only if `events` is not given: an event takes some 400 bytes of images and 120 of
        parameters.

    Returns
    -------
    list of Path
        The files written, each run's subruns first; each DL1 file before its datacheck file.

    Raises
    ------
    UsageError
        `runs` and `subruns` do not match, or `events` is not positive.
    """
    if len(runs) != len(subruns) or min(subruns, default=1) < 1:
        raise UsageError(f"{len(runs)} runs need as many counts of subruns, not {subruns}")
    if events is not None and events < 1:
        raise UsageError(f"a subrun needs at least one event, not {events}")
    folder = root / "cta" / "DL1" / f"{date:%Y%m%d}" / version / tailcut
    (folder / "datacheck" if datacheck else folder).mkdir(parents=True, exist_ok=True)
    with_images = events is None if images is None else images
    written = []
    with ExitStack() as stack:
        template = _Template(stack)
        start_s = dt.datetime.combine(date, _START).timestamp()
        for run, n_subruns in zip(runs, subruns, strict=True):
            n_events = events or template.n_events
            step_s = template.span_s(n_events)
            parts = [
                _Subrun(run, i, i * n_events, n_events, start_s + i * step_s)
                for i in range(n_subruns)
            ]
            start_s += n_subruns * step_s + _PAUSE_S
            for name, some in _files(parts, merged=merged):
                path = folder / f"dl1_{name}"
                _write_dl1(path, template, some, images=with_images and name == some[0].name)
                written.append(path)
                if datacheck:
                    written.append(folder / "datacheck" / f"datacheck_dl1_{name}")
                    _write_datacheck(written[-1], template, some)
    morning_s = dt.datetime.combine(date, _WRITTEN).timestamp() + 86400
    for path in written:
        os.utime(path, (morning_s, morning_s))
    return written


def _files(parts: list[_Subrun], *, merged: bool) -> Iterator[tuple[str, list[_Subrun]]]:
    """Yield the name of each of a run's files and the subruns in it."""
    for part in parts:
        yield part.name, [part]
    if merged and parts:
        yield f"LST-1.Run{parts[0].run:05d}.h5", parts


def _tables(group: h5py.Group) -> Iterator[Any]:
    """Yield all datasets below a group."""
    for name in group:
        node = group[name]
        if isinstance(node, h5py.Group):
            yield from _tables(node)
        else:
            yield node


def _write_dl1(path: Path, template: _Template, parts: list[_Subrun], *, images: bool) -> None:
    """Write a subrun's DL1 file, or that of a whole run as lstchain merges it."""
    is_merged = not path.name.endswith(parts[0].name)
    with h5py.File(path, "w") as file:
        copy_attributes(template.dl1, file)
        for table in _tables(template.dl1):
            if table.name == _FILENAMES:
                names = [f"dl1_{part.name}".encode() for part in parts]
                write_array(table, file, np.array(names))
            elif table.name in template.rows:
                if table.name == _PARAMETERS or images:
                    write_table(table, file, _event_blocks(table, template, parts))
            elif not (is_merged and table.name.startswith(_MONITORING)):
                # lstchain's merged files contain geometry and layout once per subrun
                if len(parts) == 1:
                    copy_table(table, file)
                else:
                    write_table(table, file, [table[:]] * len(parts))


def _event_blocks(
    table: Any, template: _Template, parts: list[_Subrun]
) -> Iterator[NDArray[np.void]]:
    """Yield the rows of events, a few megabytes at a time."""
    rows = template.rows[table.name]
    chunk = table.chunks[0]
    step = max(1, _BLOCK_BYTES // (chunk * rows.dtype.itemsize)) * chunk
    for part in parts:
        for start in range(0, part.n_events, step):
            index = np.arange(start, min(start + step, part.n_events))
            block = rows[index % template.n_events]
            block["obs_id"] = part.run
            block["event_id"] = part.n_before + index + 1
            if "dragon_time" in rows.dtype.names:
                block["dragon_time"] = block["trigger_time"] = template.times_s(part, index)
            yield block


def _write_datacheck(path: Path, template: _Template, parts: list[_Subrun]) -> None:
    """Write a datacheck file with one row per subrun."""
    with h5py.File(path, "w") as file:
        copy_attributes(template.datacheck, file)
        for table in _tables(template.datacheck):
            kind = table.name.rpartition("/")[2]
            if kind not in _KINDS:
                copy_table(table, file)
                continue
            chosen = template.types == _KINDS[kind]
            # lstchain writes no table for fewer than two events
            some = [p for p in parts if template.count(chosen, p.n_events) > 1]
            if some:
                rows = [_datacheck_row(table[:], template, part, chosen) for part in some]
                write_table(table, file, rows)


def _datacheck_row(
    row: NDArray[Any], template: _Template, part: _Subrun, chosen: NDArray[np.bool_]
) -> NDArray[Any]:
    """Return a subrun's check quantities, made from the sample's for one event type."""
    n = template.count(chosen, part.n_events)
    scale = n / int(chosen.sum())
    for name in row.dtype.names or ():
        if name.startswith(("hist_", "num_pulses_", "cog_within_pixel")):
            row[name] = np.round(row[name] * scale)
    for name in ("trigger_type", "ucts_trigger_type"):
        row[name][:, 0, 1] = n
    ends = template.times_s(part, np.array([0, part.n_events - 1]))
    # lstchain samples at most 50 events and repeats the last
    sampled = template.indices(chosen, part.n_events, step=1 + n // 50)
    sampled = np.pad(sampled, (0, 50 - len(sampled)), mode="edge")
    row["subrun_index"] = part.subrun
    row["elapsed_time"] = ends[1] - ends[0]
    row["num_events"] = n
    row["num_cleaned_events"] = template.count(chosen & template.cleaned, part.n_events)
    row["sampled_event_ids"] = part.n_before + sampled + 1
    row["dragon_time"] = template.times_s(part, sampled)
    return row


# -- HDF5 files from a template --------------------------------------------------------------------
#
# Tables are copied with their types, filters and attributes, but with other rows.
#
# Low-level calls are needed because h5py's high-level interface converts PyTables' bools (bit
# fields) to integers and does not preserve its empty strings.

_BLOSC = 32001


def copy_attributes(source: Any, target: Any, *, n_rows: int | None = None) -> None:
    """Copy all attributes without converting them.

    Parameters
    ----------
    source, target : h5py.Group or h5py.Dataset
        Nodes to copy from and to.
    n_rows : int, optional
        Value for PyTables' attribute NROWS.
    """
    names: list[bytes] = []
    h5py.h5a.iterate(source.id, names.append)
    for name in names:
        old = h5py.h5a.open(source.id, name)
        space, kind = old.get_space(), old.get_type()
        new = h5py.h5a.create(target.id, name, kind, space)
        if space.get_simple_extent_type() == h5py.h5s.NULL:
            continue
        value = np.empty(old.shape, old.dtype)
        old.read(value, mtype=kind)
        if name == b"NROWS" and n_rows is not None:
            value[...] = n_rows
        new.write(value, mtype=kind)


def new_group(source: h5py.Group, target: h5py.File) -> None:
    """Create the group with the path of `source` in `target`, with its parents and attributes.

    Parameters
    ----------
    source : h5py.Group
        The template's group.
    target : h5py.File
        File to write.
    """
    missing = []
    while source.name not in target:
        missing.append(source)
        source = source.parent
    for group in reversed(missing):
        copy_attributes(group, target.create_group(group.name))


def write_table(source: Any, target: h5py.File, blocks: Iterable[NDArray[Any]]) -> None:
    """Write a table like `source` but with other rows, block by block.

    Parameters
    ----------
    source : h5py.Dataset
        The template's table.
    target : h5py.File
        File to write.
    blocks : iterable of ndarray of shape (n,), of the table's dtype
        The rows.
    """
    new_group(source.parent, target)
    properties = source.id.get_create_plist()
    properties.set_obj_track_times(False)  # so that the same rows give the same bytes
    _compress_fast(properties)
    fixed = source.maxshape[0] is not None
    rows = list(blocks) if fixed else blocks
    n_rows = sum(len(block) for block in rows) if fixed else 0
    space = h5py.h5s.create_simple((n_rows,), (n_rows if fixed else h5py.h5s.UNLIMITED,))
    name = source.name.encode()
    table = h5py.Dataset(
        h5py.h5d.create(target.id, name, source.id.get_type(), space, dcpl=properties)
    )
    start = 0
    for block in rows:
        if not fixed:
            table.resize((start + len(block),))
        table[start : start + len(block)] = block
        start += len(block)
    copy_attributes(source, table, n_rows=start)


def _compress_fast(properties: Any) -> None:
    """Set blosc's level to 1; at 9, as in lstchain's datacheck files, a file takes 0.5 s."""
    filters = [properties.get_filter(i)[:3] for i in range(properties.get_nfilters())]
    for code, _, _ in filters:
        properties.remove_filter(code)
    for code, flags, values in filters:
        # values of blosc: version (two numbers), type size, block size, level, shuffle, compressor
        is_blosc = code == _BLOSC
        properties.set_filter(code, flags, (*values[:4], 1, *values[5:]) if is_blosc else values)


def copy_table(source: Any, target: h5py.File) -> None:
    """Copy a table or an array unchanged, without decompressing it.

    Parameters
    ----------
    source : h5py.Dataset
        The template's table.
    target : h5py.File
        File to write.
    """
    new_group(source.parent, target)
    name = source.name.encode()
    h5py.h5o.copy(source.file.id, name, target.id, name)


def write_array(source: Any, target: h5py.File, values: NDArray[Any]) -> None:
    """Write an array like `source` but with other values, such as lstchain's list of file names.

    Parameters
    ----------
    source : h5py.Dataset
        The template's array.
    target : h5py.File
        File to write.
    values : ndarray
        The values; strings have the width of the longest.
    """
    new_group(source.parent, target)
    copy_attributes(source, target.create_dataset(source.name, data=values))
