"""The calibration that a file was made with, from lstchain's monitoring tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content.quantities import Calibration, Gain
from ctaflows.dl1.hdf5.files import guarded
from ctaflows.dl1.hdf5.tables import is_number, number, read_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_TABLES = "/dl1/event/telescope/monitoring/"
_GAINS = ("high", "low")


def calibration_of(tables: Mapping[str, Any], where: str) -> Calibration | None:
    """Return the calibration from the monitoring tables.

    Parameters
    ----------
    tables : mapping of str to h5py.Dataset
        All tables of the file, by path.
    where : str
        Name of the file, for messages.

    Returns
    -------
    Calibration or None
        None where the file has no monitoring tables.

    Raises
    ------
    IntegrityError
        A table can't be read.
    """
    found = {
        name: tables[_TABLES + name]
        for name in ("pedestal", "flatfield", "calibration")
        if _TABLES + name in tables
    }
    if not found:
        return None
    n_pedestal, pedestal = _events(found.get("pedestal"), where)
    n_flatfield, flatfield = _events(found.get("flatfield"), where)
    n_unusable, n_pixels = _unusable(found.get("calibration"), where)
    return Calibration(n_pedestal, n_flatfield, pedestal, flatfield, n_unusable, n_pixels)


def _events(table: Any, where: str) -> tuple[int | None, dict[str, Gain]]:
    """Return a table's last row: number of events, and medians over the pixels by gain channel."""
    if table is None or not table.shape[0]:
        return None, {}
    fields = table.dtype.fields
    columns = [
        name
        for name in ("charge_mean", "charge_std", "time_mean")
        if is_number(fields, name, "f", n_axes=2)
    ]
    wanted = ["n_events"] if is_number(fields, "n_events", "iu") else []
    if not wanted + columns:
        return None, {}
    n_rows = int(table.shape[0])
    row = None
    for block in read_blocks(table, wanted + columns, where, rows=range(n_rows - 1, n_rows)):
        row = block[-1]
    if row is None:
        return None, {}
    with guarded(f"the table {table.name}", where):
        medians = {name: _medians(row[name]) for name in columns}
    gains = {
        gain: Gain(
            medians.get("charge_mean", {}).get(i),
            medians.get("charge_std", {}).get(i),
            medians.get("time_mean", {}).get(i),
        )
        for i, gain in enumerate(_GAINS)
    }
    has_medians = any(medians.values())
    return (int(row["n_events"]) if wanted else None), (gains if has_medians else {})


def _medians(values: NDArray[Any]) -> dict[int, float | None]:
    """Return the median over the pixels by index of the gain channel.

    Parameters
    ----------
    values : ndarray of shape (n_gains, n_pixels)
        Anything but two gain channels gives an empty result.
    """
    import numpy as np

    if len(values) != len(_GAINS):
        return {}
    found = {}
    for i, pixels in enumerate(values):
        finite = pixels[np.isfinite(pixels)]
        found[i] = number(np.median(finite)) if len(finite) else None
    return found


def _unusable(table: Any, where: str) -> tuple[int | None, int | None]:
    """Return the number of pixels flagged in any row and gain channel, and of all pixels."""
    if table is None or not is_number(table.dtype.fields, "unusable_pixels", "iub", n_axes=2):
        return None, None
    flagged: Any = None
    for block in read_blocks(table, ["unusable_pixels"], where):
        in_block = block["unusable_pixels"].astype(bool).any(axis=(0, 1))
        flagged = in_block if flagged is None else flagged | in_block
    if flagged is None:
        return None, None
    return int(flagged.sum()), len(flagged)
