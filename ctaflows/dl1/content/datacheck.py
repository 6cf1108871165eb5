"""The quantities in lstchain's datacheck files, combined as in `lstchain_longterm_dl1_check`.

Each table has a row per subrun. Charges and times of pixels are averages over the subruns, weighted
with the number of events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.dl1.content.event_statistics import spread_of
from ctaflows.dl1.content.layout import DATACHECK_TABLES
from ctaflows.dl1.content.pointing import Directions
from ctaflows.dl1.content.quantities import Charges, Identities, Images, Quantities, Spectrum
from ctaflows.dl1.content.spectrum import spectrum_of
from ctaflows.dl1.content.statistics import Quantiles
from ctaflows.dl1.hdf5.files import guarded
from ctaflows.dl1.hdf5.tables import columns_there, is_number, number, read_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ctaflows.dl1.content.quantities import Pointing, Spread

_PIXELS = ("charge_mean", "charge_stddev", "time_mean", "relative_time_stddev")
_SCALARS = ("mean_alt_tel", "mean_az_tel")
_COUNTS = ("num_events", "num_ucts_jumps")
#: A pixel with a greater standard deviation of its pedestal charge is noisy
#: (lstchain_longterm_dl1_check), p.e.
_NOISY_PE = 2.5


class _TypeSums:
    """Sums over the rows of one table, which describes one type of events."""

    def __init__(self, fields: Any) -> None:
        self.pixels = [name for name in _PIXELS if is_number(fields, name, "f", n_axes=1)]
        self.has_histogram = is_number(fields, "hist_intensity", "iuf", n_axes=1)
        self.columns = [
            *columns_there(fields, _COUNTS, "iu"),
            *columns_there(fields, _SCALARS, "f"),
            *self.pixels,
            *(["hist_intensity"] if self.has_histogram else []),
        ]
        self.n = self.n_jumps = 0
        self.sums: dict[str, NDArray[Any]] = {}
        self.histogram: NDArray[Any] | None = None
        self.directions = Directions()
        self.has_directions = all(name in self.columns for name in _SCALARS)

    def take(self, block: NDArray[Any]) -> None:
        import numpy as np

        n = block["num_events"].astype("f8")
        self.n += int(block["num_events"].sum())
        if "num_ucts_jumps" in self.columns:
            self.n_jumps += int(block["num_ucts_jumps"].sum())
        for name in self.pixels:
            values = block[name].astype("f8")
            # variances are averaged, not standard deviations
            values = values**2 if name.endswith("stddev") else values
            self.sums[name] = self.sums.get(name, np.zeros(values.shape[1])) + n @ values
        if self.has_histogram:
            counts = block["hist_intensity"].sum(axis=0)
            self.histogram = counts if self.histogram is None else self.histogram + counts
        if self.has_directions:
            self.directions.take(block["mean_alt_tel"], block["mean_az_tel"])

    def charges(self, kind: str) -> Charges:
        import numpy as np

        means = {
            name: np.sqrt(total / self.n) if name.endswith("stddev") else total / self.n
            for name, total in self.sums.items()
        }
        std = means.get("charge_stddev")
        is_pedestal = kind == "pedestal"
        return Charges(
            self.n,
            _mean(means.get("charge_mean")),
            _mean(std),
            _pixels(means.get("charge_mean")),
            _pixels(std),
            int((std > _NOISY_PE).sum()) if std is not None and is_pedestal else None,
            _mean(means.get("time_mean")) if kind == "flatfield" else None,
            _mean(means.get("relative_time_stddev")) if kind == "flatfield" else None,
        )


def quantities_of_datacheck(
    tables: Mapping[str, Any], duration_s: float | None, where: str
) -> Quantities:
    """Return the quantities of a datacheck file.

    Parameters
    ----------
    tables : mapping of str to h5py.Dataset
        All tables of the file, by path.
    duration_s : float or None
        Sum of the subruns' elapsed times, in seconds.
    where : str
        Name of the file, for messages.

    Raises
    ------
    IntegrityError
        A table can't be read.
    """
    found: dict[str, _TypeSums] = {}
    for name, kind in DATACHECK_TABLES.items():
        table = tables.get(f"/dl1datacheck/{name}")
        if table is None or not is_number(table.dtype.fields, "num_events", "iu"):
            continue
        with guarded(f"the table {table.name}", where):
            sums = _TypeSums(table.dtype.fields)
            for block in read_blocks(table, sums.columns, where):
                sums.take(block)
        if sums.n > 0:
            found[kind] = sums
    if not found:
        return Quantities()
    cosmics = found.get("cosmic")
    pointing = cosmics.directions.result() if cosmics and cosmics.has_directions else None
    jumps = [s.n_jumps for s in found.values() if "num_ucts_jumps" in s.columns]
    with guarded("the quantities", where):
        return Quantities(
            identities=Identities(n_ucts_jumps=sum(jumps) if jumps else None),
            pointing=pointing,
            spectrum=_spectrum(cosmics, duration_s, pointing),
            images=_images(found),
        )


def _images(found: dict[str, _TypeSums]) -> Images | None:
    by_type = {kind: sums.charges(kind) for kind, sums in found.items() if sums.sums}
    if not by_type:
        return None
    n = sum(charges.n for charges in by_type.values())
    n_pixels = max(len(v) for sums in found.values() for v in sums.sums.values())
    return Images(n, n, n_pixels, by_type=by_type)


def _spectrum(
    cosmics: _TypeSums | None, duration_s: float | None, pointing: Pointing | None
) -> Spectrum | None:
    import numpy as np

    if cosmics is None or cosmics.histogram is None or len(cosmics.histogram) != 100:
        return None
    if not np.isfinite(cosmics.histogram).all() or (cosmics.histogram < 0).any():
        return None
    return spectrum_of(cosmics.histogram, duration_s, pointing.zenith_deg if pointing else None)


def _mean(values: NDArray[Any] | None) -> float | None:
    import numpy as np

    if values is None:
        return None
    finite = values[np.isfinite(values)]
    return number(finite.mean()) if len(finite) else None


def _pixels(values: NDArray[Any] | None) -> Spread | None:
    if values is None:
        return None
    found = Quantiles()
    found.take(values)
    return spread_of(found)
