"""File names of DL1 data and related files, and the dates, runs and subruns that users ask for.

The names are those that lstchain, lstosa and ctapipe write::

    dl1_LST-1.Run11111.0000.h5              one subrun
    dl1_LST-1.Run11111.h5                   the merged run, no subrun
    datacheck_dl1_LST-1.Run11111.0000.h5    quantities of a subrun for checks, also .pdf
    muons_LST-1.Run11111.0000.fits          muon rings
    interleaved_LST-1.Run11111.0000.h5      calibration events between the cosmics
    dl1_LST-1.1.Run01971.0023.fits.h5       before 2021, with the number of the stream
    ctapipe_LST-1.Run18000.0000.dl1.h5      ctapipe-process
    LST-1.1.Run02008.0000.fits.fz           raw data
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Self

from ctaflows.errors import UsageError

# lstchain's DL1_RE takes the merged run 18000 for run 180, subrun 0. Hence at least 5 digits for a
# run and 4 for a subrun, as lstchain writes them (padded with zeros).
_NAME = re.compile(
    r"(?:(?P<prefix>dl1|dl2|datacheck_dl1|muons|interleaved|ctapipe)_)?"
    r"LST-(?P<telescope>[0-9]{1,3})(?:\.(?P<stream>[0-9]{1,3}))?"
    r"\.Run(?P<run>[0-9]{5,9})(?:\.(?P<subrun>[0-9]{4,9}))?"
    r"(?:[._-][A-Za-z][^/]*?)?"
    r"\.(?P<extension>h5|hdf5|hdf|fits\.fz|fits\.gz|fits|pdf)"
)
_KIND_OF_PREFIX = {None: "raw", "datacheck_dl1": "datacheck", "ctapipe": "dl1"}
_PREFIX_OF_KIND = {"raw": "", "datacheck": "datacheck_dl1_"}
_DATE = re.compile(r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})")
_RANGE = re.compile(r"([0-9]{1,18})(?:\s*-\s*([0-9]{1,18}))?")
#: Time zone of the telescopes, on La Palma.
_SITE = "Atlantic/Canary"
#: Accepted in place of a date, for deployments on a schedule.
LAST_NIGHT = "last-night"


@dataclass(frozen=True, slots=True)
class DL1Name:
    """The parts of a file name.

    Attributes
    ----------
    kind : str
        ``dl1``, ``dl2``, ``datacheck``, ``muons``, ``interleaved``, or ``raw`` for names without a
        prefix.
    telescope : int
        Number of the telescope, such as 1 for LST-1.
    stream : int or None
        Number of the camera server's stream, in raw data and in names before 2021.
    run : int
        Number of the run.
    subrun : int or None
        Number of the subrun; None for a file of a whole run.
    extension : str
        Extension without the leading dot, such as ``h5``, ``fits``, ``fits.fz`` or ``pdf``.
    """

    kind: str
    telescope: int
    stream: int | None
    run: int
    subrun: int | None
    extension: str

    def __str__(self) -> str:
        prefix = _PREFIX_OF_KIND.get(self.kind, f"{self.kind}_")
        stream = "" if self.stream is None else f".{self.stream}"
        subrun = "" if self.subrun is None else f".{self.subrun:04d}"
        return f"{prefix}LST-{self.telescope}{stream}.Run{self.run:05d}{subrun}.{self.extension}"


def parse_name(name_or_path: str) -> DL1Name | None:
    """Return the parts of a file's name.

    Parameters
    ----------
    name_or_path : str
        A name, or a path with ``/``, of which the last component is taken.

    Returns
    -------
    DL1Name or None
        None where the name has none of the known forms.
    """
    match = _NAME.fullmatch(name_or_path.rpartition("/")[2])
    if match is None:
        return None
    stream, subrun, prefix = match["stream"], match["subrun"], match["prefix"]
    return DL1Name(
        kind=_KIND_OF_PREFIX.get(prefix, prefix),
        telescope=int(match["telescope"]),
        stream=None if stream is None else int(stream),
        run=int(match["run"]),
        subrun=None if subrun is None else int(subrun),
        extension=match["extension"],
    )


def parse_date(text: str) -> dt.date:
    """Return the date of a night: that of its evening.

    Parameters
    ----------
    text : str
        ``20241114`` or ``2024-11-14``.

    Returns
    -------
    datetime.date
        The date.

    Raises
    ------
    UsageError
        The text is not a date.
    """
    hint = "Write the date of the evening as 20241114 or 2024-11-14."
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no date", hint=hint)
    try:
        return dt.date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError as error:
        raise UsageError(f"{text!r} is no date", said=str(error), hint=hint) from None


def last_night(now: dt.datetime) -> dt.date:
    """Return the date of the last night: yesterday, by the calendar at the site.

    Between midnight and morning that is the night that is still going on.

    Parameters
    ----------
    now : datetime
        The present time, aware.

    Returns
    -------
    datetime.date
        The date of its evening.
    """
    from zoneinfo import ZoneInfo

    return now.astimezone(ZoneInfo(_SITE)).date() - dt.timedelta(days=1)


def night_date(text: str, now: dt.datetime) -> str:
    """Return the date of a night that is given as a date or as ``last-night``.

    Parameters
    ----------
    text : str
        ``last-night``, ``20241114`` or ``2024-11-14``.
    now : datetime
        The present time, aware.

    Returns
    -------
    str
        Date of the evening, ``YYYYMMDD``.

    Raises
    ------
    UsageError
        The text is none of these.
    """
    is_last = text.strip().lower() == LAST_NIGHT
    return f"{last_night(now) if is_last else parse_date(text):%Y%m%d}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """A set of run or subrun numbers, kept as ranges; it supports ``11111 in numbers``.

    Attributes
    ----------
    ranges : tuple of (int, int) or None
        First and last number of each range, both included, in ascending order and without overlap.
        None (the default) for every number, including None, the subrun number of a merged run.
    """

    ranges: tuple[tuple[int, int], ...] | None = None

    @classmethod
    def of(cls, ranges: list[tuple[int, int]]) -> Self:
        """Return the set of the numbers in these ranges (first, last), which may overlap."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    @property
    def is_all(self) -> bool:
        """Whether every number is in the set."""
        return self.ranges is None

    def __contains__(self, number: int | None) -> bool:
        if self.ranges is None:
            return True
        return number is not None and any(a <= number <= b for a, b in self.ranges)

    def __str__(self) -> str:
        if self.ranges is None:
            return "all"
        return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.ranges)


def parse_numbers(text: str | None) -> Numbers:
    """Return the set of numbers in a list of numbers and ranges.

    Parameters
    ----------
    text : str or None
        Such as ``11111,11113`` or ``100-120,130``; None means every number.

    Returns
    -------
    Numbers
        The set.

    Raises
    ------
    UsageError
        A part is not a number or a range, or the end of a range is before its begin.
    """
    if text is None:
        return Numbers()
    hint = "Write numbers and ranges with commas between them: 11111,11113 or 100-120,130."
    ranges = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"{part.strip()!r} in {text!r} is no number and no range", hint=hint)
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise UsageError(f"the range {part.strip()!r} runs backwards", hint=hint)
        ranges.append((first, last))
    return Numbers.of(ranges)
