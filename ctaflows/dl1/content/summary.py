"""The summary of a DL1 file that `inspect_file` returns: a frozen record, JSON both ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from ctaflows.dl1.content.quantities import Quantities
from ctaflows.dl1.hdf5.tables import TableInfo
from ctaflows.model import Record


@dataclass(frozen=True, slots=True)
class DL1Summary(Record):
    """The contents of a DL1 file. What the file does not state is None, never a guess.

    Attributes
    ----------
    file : str
        Path of the file, as given.
    size_bytes : int
        Size of the file.
    layout : str
        ``lstchain`` or ``ctapipe``.
    level : str
        Data level. lstchain: ``DL1a+DL1b`` (images and parameters), ``DL1a``, ``DL1b`` or
        ``datacheck``; ctapipe: the value of ``CTA PRODUCT DATA LEVELS``, such as
        ``DL1_IMAGES,DL1_PARAMETERS``.
    simulated : bool
        Whether the events are simulated.
    telescope : tuple of int
        Numbers (`tel_id`) of the telescopes whose data the file holds.
    run : int or None
        The `obs_id` of the events, None where they have several. Where they have none, the number
        in the file's name, or None.
    subrun : int or None
        The subrun number in the file's name; it is not stored in the file.
    n_events : int or None
        Number of rows of the event table: events of a telescope in lstchain's layout, of the array
        in ctapipe's. Datacheck: events that its tables describe (lstchain writes none for a type
        with fewer than two events).
    n_events_by_type : dict of str to int, or None
        Numbers of events by the names in `ctaflows.dl1.content.layout.EVENT_TYPES`; None where no
        types are stored, or where only the first and the last event were read.
    time_first, time_last : datetime or None
        UTC times of the first and the last row that has a time; None in lstchain's simulations.
    duration_s : float or None
        `time_last` - `time_first` in seconds, lstchain's "elapsed time". Datacheck: sum over the
        subruns. None where a time is missing or the last one is before the first.
    rate_hz : float or None
        `n_events` / `duration_s` in Hz, as in lstchain's datacheck: not corrected for dead time.
    rate_hz_by_type : dict of str to float, or None
        The rate of each type of events, likewise.
    software : dict of str to str
        Versions by program: lstchain, ctapipe, ctapipe_io_lst.
    data_model_version : str or None
        ctapipe's ``CTA PRODUCT DATA MODEL VERSION``.
    tables : tuple of TableInfo
        All tables in the file.
    quantities : Quantities or None
        Quantities from which the quality of the data is judged; None where only the first and the
        last event were read.
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
