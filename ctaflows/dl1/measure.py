"""All quantities of a file put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content.calibration import calibration_of
from ctaflows.dl1.content.datacheck import quantities_of_datacheck
from ctaflows.dl1.content.event_statistics import ImageGauge, TypeList
from ctaflows.dl1.content.events import EventScan, scan_images
from ctaflows.dl1.content.images import images_of
from ctaflows.dl1.content.pointing import pointing_of_tables
from ctaflows.dl1.content.quantities import Quantities
from ctaflows.dl1.content.spectrum import spectrum_of
from ctaflows.dl1.hdf5.files import guarded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctaflows.dl1.content.layout import Layout
    from ctaflows.dl1.content.quantities import Images, Spectrum


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
    gauge: ImageGauge | None, scan: EventScan, layout: Layout, n_telescopes: int, pointing: Any
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
