"""Inspection of DL1 files in lstchain's or ctapipe's layout.

Rates and elapsed time are those of lstchain's datacheck (`lstchain.datachecks.containers`): numbers
of events by type over the time between the first and the last event.
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
    """Return a summary of a DL1 file's contents.

    Parameters
    ----------
    path : path
        An HDF5 file: DL1 of lstchain or ctapipe, a datacheck or an interleaved file.
    ends_only : bool, optional
        Read only the first and the last event (default: False): a small part of a large file, but
        without numbers of events by type and without quantities; run and telescopes are those of
        these two events.
    images : int or None, optional
        Number of images to read of each of cosmics, pedestals and flat-field events, spread over
        the file (default: 1000); 0 reads none, None all. Unless ``ends_only``, the parameters of
        all events are read in any case.

    Returns
    -------
    DL1Summary
        The summary.

    Raises
    ------
    NotFound
        There is no such file.
    NotHDF5
        It is another kind of file: empty, an error page, FITS.
    Truncated
        The file's end is missing.
    IntegrityError
        It is damaged, or it is HDF5 without DL1 tables.
    UsageError
        It is a directory or a device.
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
    """Return a summary of a DL1 file that is read through a file object, for example remotely.

    Parameters
    ----------
    source : file object
        Binary, readable and seekable.
    file : str
        Name or path of the file, for run and subrun numbers and for messages.
    size_bytes : int
        Size of the whole file.
    ends_only : bool, optional
        As for `inspect_file` (default: True).
    images : int or None, optional
        As for `inspect_file` (default: 0).
    expect : Callable, optional
        Called before all events are read, with the byte ranges (begin, end) of their chunks, so
        that a remote file can prefetch them.

    Returns
    -------
    DL1Summary
        The summary.

    Raises
    ------
    NotHDF5, Truncated, IntegrityError
        As for `inspect_file`. Errors of `ctaflows.errors` that ``source`` raises pass unchanged.
    """
    with open_stream(source, size_bytes, file) as opened:
        return _summarize(opened, file, size_bytes, images, ends_only=ends_only, expect=expect)


def _summarize(file: h5py.File, name: str, *args: Any, **options: Any) -> DL1Summary:
    """Return the summary, without numpy's warnings."""
    import numpy as np

    # sums over the numbers of a damaged file may overflow: such results become None
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
    """Return a hint at what a file without DL1 tables might be."""
    if any(path.startswith("/dl2/") for path in tables):
        return "It has DL2 tables: only DL1 files are inspected."
    shown = ", ".join(list(tables)[:3]) or "no table at all"
    return f"It has {shown}: is it the right file?"


# -- quantities ------------------------------------------------------------------------------------


def quantities_of(
    tables: Mapping[str, Any],
    layout: Layout,
    scan: EventScan,
    where: str,
    *,
    images: int | None,
) -> Quantities:
    """Return the quantities of a file: those of the scanned events, and of the other tables.

    Parameters
    ----------
    tables : mapping of str to h5py.Dataset
        All tables of the file, by path.
    layout : Layout
        The file's layout.
    scan : EventScan
        Result of scanning all events.
    where : str
        Name of the file, for messages.
    images : int or None
        As for `inspect_file`.

    Raises
    ------
    IntegrityError
        A table can't be read.
    """
    if layout.level == "datacheck":
        return quantities_of_datacheck(tables, scan.duration_s, where)
    events, parameters = scan.events, scan.images
    types = events.types if events else TypeList()
    if layout.name == "ctapipe":
        parameters = scan_images(_telescope_tables(tables, "parameters"), types, where)
    pointing = parameters.pointing() if parameters else None
    pointing = pointing or pointing_of_tables(tables, layout.telescopes, where)
    n_telescopes = len(layout.telescopes or scan.telescopes)
    is_unique = len(scan.runs) == 1 and (layout.name == "ctapipe" or n_telescopes <= 1)
    with_times = events if scan.clock else None
    with guarded("the quantities", where):
        return Quantities(
            identities=events.identities(is_unique=is_unique) if events else None,
            times=with_times.times() if with_times else None,
            rates=with_times.rates(scan.duration_s) if with_times else None,
            pointing=pointing,
            intensity=parameters.intensity() if parameters else {},
            n_incomplete=parameters.n_incomplete if parameters else None,
            spectrum=_spectrum(parameters, scan, layout, n_telescopes, pointing),
            images=_images(tables, types, where, images),
            calibration=calibration_of(tables, where),
        )


def _telescope_tables(tables: Mapping[str, Any], *kinds: str) -> list[Any]:
    """Return the telescopes' tables of some kinds: ``parameters``, ``image`` or ``images``."""
    starts = tuple(f"/dl1/event/telescope/{kind}/" for kind in kinds)
    return [table for path, table in tables.items() if path.startswith(starts)]


def _spectrum(
    parameters: ImageStatistics | None,
    scan: EventScan,
    layout: Layout,
    n_telescopes: int,
    pointing: Any,
) -> Spectrum | None:
    """Return the cosmics' spectrum, if these are observed, and with one telescope; else None."""
    if parameters is None or parameters.counts is None or layout.simulated or n_telescopes > 1:
        return None
    zenith_deg = pointing.zenith_deg if pointing else None
    return spectrum_of(parameters.counts, scan.duration_s, zenith_deg)


def _images(
    tables: Mapping[str, Any], types: TypeList, where: str, most: int | None
) -> Images | None:
    """Return the statistics of the images; None unless the file has just one table of them."""
    found = _telescope_tables(tables, "image", "images")
    return images_of(found[0], types, where, most) if len(found) == 1 and most != 0 else None
