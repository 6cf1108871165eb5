"""What `inspect_file` tells about a DL1 file: frozen records, JSON both ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from ctaflows.dl1.content.quantities import Quantities
from ctaflows.dl1.hdf5.tables import TableInfo
from ctaflows.model import Record


@dataclass(frozen=True, slots=True)
class DL1Summary(Record):
    """What is in a DL1 file. What the file does not say is None, never a guess.

    Attributes
    ----------
    file : str
        Path of the file as it was given.
    size_bytes : int
        Size of the file.
    layout : str
        ``lstchain`` or ``ctapipe``.
    level : str
        lstchain: ``DL1a+DL1b`` (images and parameters), ``DL1a``, ``DL1b``, ``datacheck``;
        ctapipe: its own words, ``DL1_IMAGES,DL1_PARAMETERS``.
    simulated : bool
        Are the events simulated?
    telescope : tuple of int
        Numbers (`tel_id`) of the telescopes with data in it.
    run : int or None
        The events' `obs_id` where all have the same one, else the number in the file's name.
    subrun : int or None
        The number in the file's name, which is the only place that tells it.
    n_events : int or None
        Rows of the table of events: in lstchain's layout events of a telescope, in ctapipe's
        events of the array. Datacheck: the events that its tables describe (a kind with fewer
        than two events has none there).
    n_events_by_type : dict of str to int, or None
        Counts by the names in `ctaflows.dl1.content.layout.EVENT_TYPES`; None where no type is
        stored, or where only the table's ends were read.
    time_first, time_last : datetime or None
        Times of the first and the last row that has one; None in lstchain's simulations.
    duration_s : float or None
        `time_last` - `time_first`, lstchain's "elapsed time". Datacheck: sum over the subruns.
        None where a time is missing or the last one is before the first.
    rate_hz : float or None
        `n_events` / `duration_s`, as lstchain's datacheck defines it: dead time not corrected.
    rate_hz_by_type : dict of str to float, or None
        Likewise for each type.
    software : dict of str to str
        Versions by name: lstchain, ctapipe, ctapipe_io_lst.
    data_model_version : str or None
        ctapipe's ``CTA PRODUCT DATA MODEL VERSION``.
    tables : tuple of TableInfo
        All tables in the file.
    quantities : Quantities or None
        Numbers that tell how good the data are; None where only the table's ends were read.
    """

    file: str
    size_bytes: int
    layout: str
    level: str
    simulated: bool
    telescope: tuple[int, ...] = ()
    run: int | None = None
    subrun: int | None = None
    n_events: int | None = None
    n_events_by_type: dict[str, int] | None = None
    time_first: datetime | None = None
    time_last: datetime | None = None
    duration_s: float | None = None
    rate_hz: float | None = None
    rate_hz_by_type: dict[str, float] | None = None
    software: dict[str, str] = field(default_factory=dict)
    data_model_version: str | None = None
    tables: tuple[TableInfo, ...] = ()
    quantities: Quantities | None = None
