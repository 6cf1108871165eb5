"""Times in DL1 files turned into aware UTC ones.

lstchain's ``dragon_time`` is a float64 of UTC seconds since 1970 (steps of 238 ns). ctapipe from
0.25 on writes ``ctao_high_res``: two uint32, SI seconds since 1970-01-01 00:00:00 TAI and quarters
of a nanosecond (`ctapipe.time`); before, a float64 of days, ``mjd`` on the TAI scale.
"""

from __future__ import annotations

import bisect
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: MJD of 1970-01-01.
MJD_EPOCH = 40587
#: Times outside are noise or "not set": UTC has whole leap seconds since 1972.
EARLIEST_S = 63_072_000.0  # 1972-01-01
LATEST_S = 4_102_444_800.0  # 2100-01-01

# TAI - UTC in seconds from the given year and month on: IERS Bulletin C, leap-seconds.list
_FIRST_OFFSET_S = 10
_LEAPS = (
    "1972-07 1973-01 1974-01 1975-01 1976-01 1977-01 1978-01 1979-01 1980-01 1981-07 1982-07"
    " 1983-07 1985-07 1988-01 1990-01 1991-01 1992-07 1993-07 1994-07 1996-01 1997-07 1999-01"
    " 2006-01 2009-01 2012-07 2015-07 2017-01"
)


def _unix_s(month: str) -> int:
    """Seconds from 1970 to the first of a month, both UTC, leap seconds not counted."""
    return int((datetime.fromisoformat(f"{month}-01T00:00:00+00:00") - _EPOCH).total_seconds())


# the TAI second at which each leap second is over
_LEAPS_TAI_S = [_unix_s(m) + _FIRST_OFFSET_S + i for i, m in enumerate(_LEAPS.split(), start=1)]


def tai_minus_utc_s(tai_s: float) -> int:
    """Leap seconds at a moment.

    Parameters
    ----------
    tai_s : float
        Seconds since 1970-01-01 00:00:00 TAI, not before 1972.

    Returns
    -------
    int
        TAI - UTC in seconds; 37 since 2017.
    """
    return _FIRST_OFFSET_S + bisect.bisect_right(_LEAPS_TAI_S, tai_s)


def utc_of_unix(unix_s: float) -> datetime:
    """Turn UTC seconds since 1970, between `EARLIEST_S` and `LATEST_S`, into an aware time."""
    return _EPOCH + timedelta(seconds=unix_s)


def utc_of_tai(tai_s: int, fraction_s: float = 0.0) -> datetime:
    """Turn TAI seconds since 1970 and their fraction into an aware UTC time."""
    return _EPOCH + timedelta(seconds=tai_s - tai_minus_utc_s(tai_s), microseconds=fraction_s * 1e6)


def span_text(first: datetime, last: datetime) -> str:
    """Say from when to when: within a night the day is said once."""
    day = "" if is_one_night(first, last) else "%Y-%m-%d "
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:{day}%H:%M:%S} UTC"


def is_one_night(first: datetime, last: datetime) -> bool:
    """Are both within less than a day?"""
    return last - first < timedelta(days=1)
