"""What is in a DL1 file, of lstchain's or ctapipe's layout.

Rates and the elapsed time are those of lstchain's datacheck (`lstchain.datachecks.containers`):
events by type over the time between the first and the last event.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ctaflows.dl1.content.calibration import calibration_of
from ctaflows.dl1.content.datacheck import quantities_of_datacheck
from ctaflows.dl1.content.event_statistics import ImageStatistics, TypeList
from ctaflows.dl1.content.events import EventScan, scan_events, scan_images
from ctaflows.dl1.content.images import DEFAULT_IMAGES, images_of
from ctaflows.dl1.content.layout import layout_of
from ctaflows.dl1.content.pointing import pointing_of_tables
from ctaflows.dl1.content.quantities import Quantities
from ctaflows.dl1.content.spectrum import spectrum_of
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.hdf5.files import guarded, open_file, open_stream
from ctaflows.dl1.hdf5.partial_copy import spans_of
from ctaflows.dl1.hdf5.tables import TableInfo, columns_of, tables_of, text_attributes, versions_of
from ctaflows.dl1.names import parse_name
from ctaflows.errors import IntegrityError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import h5py

    from ctaflows.dl1.content.layout import Layout
    from ctaflows.dl1.content.quantities import Images, Spectrum
    from ctaflows.dl1.hdf5.partial_copy import Spans


def inspect_file(
    path: str | os.PathLike[str],
    *,
    ends_only: bool = False,
    images: int | None = DEFAULT_IMAGES,
) -> DL1Summary:
    """Tell what is in a DL1 file.

    Parameters
    ----------
    path : path
        An HDF5 file: DL1 of lstchain or ctapipe, a datacheck or an interleaved file.
    ends_only : bool, optional
        Read only the first and the last event: a small part of a large file, but no counts by
        type and no quantities, and run and telescopes are those of these two events.
    images : int or None, optional
        Images to read of each of cosmics, pedestals and flat-field events, spread over the file;
        0 reads none, None all. The parameters of all events are read in any case.

    Returns
    -------
    DL1Summary
        What the file says.

    Raises
    ------
    NotFound
        No such file.
    NotHDF5
        Other bytes: an empty file, an error page, a FITS file.
    Truncated
        The file's end is missing.
    IntegrityError
        It is damaged, or it is HDF5 without DL1 tables.
    UsageError
        It is a directory.
    """
    path = Path(path)
    with open_file(path) as (file, size_bytes):
        return _summarize(file, str(path), size_bytes, images, ends_only=ends_only)


def inspect_stream(
    source: IO[bytes],
    *,
    file: str,
    size_bytes: int,
    ends_only: bool = True,
    images: int | None = 0,
    expect: Callable[[Spans], object] | None = None,
) -> DL1Summary:
    """Tell what is in a DL1 file that is read through a seekable object.

    Parameters
    ----------
    source : file object
        Opened for reading bytes.
    file : str
        Name or path of the file, for run and subrun and for messages.
    size_bytes : int
        Size of the whole file.
    ends_only, images
        As for `inspect_file`, with other defaults.
    expect : Callable, optional
        Told before all events are read where their chunks lie, begin and end of each in bytes.

    Returns
    -------
    DL1Summary
        What the file says.

    Raises
    ------
    NotHDF5, Truncated, IntegrityError
        As for `inspect_file`; what `source` raises from our error tree passes.
    """
    with open_stream(source, size_bytes, file) as opened:
        return _summarize(opened, file, size_bytes, images, ends_only=ends_only, expect=expect)


def _summarize(file: h5py.File, name: str, *args: Any, **options: Any) -> DL1Summary:
    """Put everything together."""
    import numpy as np

    # sums over hostile numbers may overflow: they end as None
    with np.errstate(all="ignore"):
        return _summary(file, name, *args, **options)


def _summary(
    file: h5py.File,
    name: str,
    size_bytes: int,
    images: int | None,
    *,
    ends_only: bool,
    expect: Callable[[Spans], object] | None = None,
) -> DL1Summary:
    tables = tables_of(file, name)
    with guarded("the head", name):
        root = text_attributes(file)
        infos = tuple(TableInfo(p, int(t.shape[0]), columns_of(t)) for p, t in tables.items())
    layout = layout_of(list(tables), root)
    if layout is None:
        raise IntegrityError("the HDF5 file has no DL1 tables", where=name, hint=_hint(tables))
    if expect and layout.events and not ends_only:
        expect(spans_of(tables[layout.events], layout.events, name, size_bytes))
    scan, texts = scan_events(tables, layout, name, ends_only=ends_only)
    found = None if ends_only else quantities_of(tables, layout, scan, name, images=images)
    named = parse_name(name)
    duration_s = scan.duration_s
    run = next(iter(scan.runs)) if len(scan.runs) == 1 else None
    telescopes = layout.telescopes or tuple(sorted(scan.telescopes))
    if named is not None:
        run = run if scan.runs else named.run
        telescopes = telescopes or (named.telescope,)
    return DL1Summary(
        file=name,
        size_bytes=size_bytes,
        layout=layout.name,
        level=layout.level,
        simulated=layout.simulated,
        telescope=telescopes,
        run=run,
        subrun=named.subrun if named else None,
        n_events=scan.n_events,
        n_events_by_type=scan.counts,
        time_first=scan.utc(scan.first),
        time_last=scan.utc(scan.last),
        duration_s=duration_s,
        rate_hz=scan.n_events / duration_s if scan.n_events is not None and duration_s else None,
        rate_hz_by_type=(
            {k: n / duration_s for k, n in scan.counts.items()}
            if scan.counts is not None and duration_s
            else None
        ),
        software=versions_of(root, texts),
        data_model_version=root.get("CTA PRODUCT DATA MODEL VERSION"),
        tables=infos,
        quantities=found,
    )


def _hint(tables: Mapping[str, Any]) -> str:
    """Say what a file without DL1 tables might be."""
    if any(path.startswith("/dl2/") for path in tables):
        return "It has DL2 tables: only DL1 files are inspected."
    shown = ", ".join(list(tables)[:3]) or "no table at all"
    return f"It has {shown}: is it the right file?"


# -- quantities ------------------------------------------------------------------------------------
#
# All quantities of a file put together.


def quantities_of(
    tables: Mapping[str, Any],
    layout: Layout,
    scan: EventScan,
    where: str,
    *,
    images: int | None,
) -> Quantities:
    """Read what the events' rows did not tell yet, and put all quantities together.

    Parameters
    ----------
    tables : mapping of str to h5py.Dataset
        All tables by path.
    layout : Layout
        Where things are.
    scan : EventScan
        What the events' rows told.
    where : str
        The file's name for messages.
    images : int or None
        As for `inspect_file`.
    """
    if layout.level == "datacheck":
        return quantities_of_datacheck(tables, scan.duration_s, where)
    events, gauge = scan.events, scan.images
    types = events.types if events else TypeList()
    if layout.name == "ctapipe":
        gauge = scan_images(_below(tables, "parameters"), types, where)
    pointing = gauge.pointing() if gauge else None
    pointing = pointing or pointing_of_tables(tables, layout.telescopes, where)
    n_telescopes = len(layout.telescopes or scan.telescopes)
    is_unique = len(scan.runs) == 1 and (layout.name == "ctapipe" or n_telescopes <= 1)
    timed = events if scan.clock else None
    with guarded("the quantities", where):
        return Quantities(
            identities=events.identities(is_unique=is_unique) if events else None,
            times=timed.times() if timed else None,
            rates=timed.rates(scan.duration_s) if timed else None,
            pointing=pointing,
            intensity=gauge.intensity() if gauge else {},
            n_incomplete=gauge.n_incomplete if gauge else None,
            spectrum=_spectrum(gauge, scan, layout, n_telescopes, pointing),
            images=_images(tables, types, where, images),
            calibration=calibration_of(tables, where),
        )


def _below(tables: Mapping[str, Any], *kinds: str) -> list[Any]:
    """Give the tables of telescopes of some kind."""
    starts = tuple(f"/dl1/event/telescope/{kind}/" for kind in kinds)
    return [table for path, table in tables.items() if path.startswith(starts)]


def _spectrum(
    gauge: ImageStatistics | None, scan: EventScan, layout: Layout, n_telescopes: int, pointing: Any
) -> Spectrum | None:
    """Fit the cosmics' spectrum, where it is that of one telescope on the sky."""
    if gauge is None or gauge.counts is None or layout.simulated or n_telescopes > 1:
        return None
    zenith_deg = pointing.zenith_deg if pointing else None
    return spectrum_of(gauge.counts, scan.duration_s, zenith_deg)


def _images(
    tables: Mapping[str, Any], types: TypeList, where: str, most: int | None
) -> Images | None:
    """Read the images, where all are of the same kind of camera."""
    found = _below(tables, "image", "images")
    return images_of(found[0], types, where, most) if len(found) == 1 and most != 0 else None
