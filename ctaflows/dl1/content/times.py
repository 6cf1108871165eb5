"""Conversion of the times in DL1 files to aware UTC datetimes.

lstchain's ``dragon_time`` is a float64 of UTC seconds since 1970 (resolution 238 ns). ctapipe from
0.25 on writes ``ctao_high_res``: two uint32, SI seconds since 1970-01-01 00:00:00 TAI and quarters
of a nanosecond (`ctapipe.time`); older versions write a float64 of days, ``mjd`` on the TAI scale.
"""

from __future__ import annotations

import bisect
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Modified Julian date of 1970-01-01, days.
MJD_EPOCH = 40587
#: Times outside of this range are noise or "not set". UTC has had whole leap seconds since 1972.
EARLIEST_S = 63_072_000.0  # 1972-01-01
LATEST_S = 4_102_444_800.0  # 2100-01-01

# TAI - UTC in 1972, in seconds, and the months from which on it is one more (IERS Bulletin C,
# leap-seconds.list)
_FIRST_OFFSET_S = 10
_LEAPS = (
    "1972-07 1973-01 1974-01 1975-01 1976-01 1977-01 1978-01 1979-01 1980-01 1981-07 1982-07"
    " 1983-07 1985-07 1988-01 1990-01 1991-01 1992-07 1993-07 1994-07 1996-01 1997-07 1999-01"
    " 2006-01 2009-01 2012-07 2015-07 2017-01"
)


def _unix_s(month: str) -> int:
    """Return the UTC seconds from 1970 to the first of a month, without leap seconds."""
    return int((datetime.fromisoformat(f"{month}-01T00:00:00+00:00") - _EPOCH).total_seconds())


# end of each leap second, in TAI seconds since 1970-01-01 00:00:00 TAI
_LEAPS_TAI_S = [_unix_s(m) + _FIRST_OFFSET_S + i for i, m in enumerate(_LEAPS.split(), start=1)]


def tai_minus_utc_s(tai_s: float) -> int:
    """Return TAI - UTC at a given time.

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
    """Convert UTC seconds since 1970, between `EARLIEST_S` and `LATEST_S`, to an aware datetime."""
    return _EPOCH + timedelta(seconds=unix_s)


def utc_of_tai(tai_s: int, fraction_s: float = 0.0) -> datetime:
    """Convert TAI seconds since 1970, whole and fraction, to an aware UTC datetime."""
    return _EPOCH + timedelta(seconds=tai_s - tai_minus_utc_s(tai_s), microseconds=fraction_s * 1e6)


def span_text(first: datetime, last: datetime) -> str:
    """Return a range of UTC times as text; within less than 24 hours the date is given once."""
    day = "" if is_one_night(first, last) else "%Y-%m-%d "
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:{day}%H:%M:%S} UTC"


def is_one_night(first: datetime, last: datetime) -> bool:
    """Whether two times are less than 24 hours apart."""
    return last - first < timedelta(days=1)
