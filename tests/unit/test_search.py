"""What `find` lets through, and how its times and sizes are read."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.cli.find import parse_moment, parse_size
from ctaflows.errors import UsageError
from ctaflows.model import Entry
from ctaflows.storage.search import Criteria

NOW = datetime(2024, 11, 15, 12, tzinfo=UTC)
FILE = Entry("/n/a/dl1_x.h5", size_bytes=1000, mtime=NOW)
GROWING = Entry("/n/a/new.h5", mtime=None)
FOLDER = Entry("/n/a", is_dir=True, mtime=NOW)


@pytest.mark.parametrize(
    ("criteria", "accepted"),
    [
        (Criteria(), [FILE, GROWING, FOLDER]),
        (Criteria(kind="directory"), [FOLDER]),
        (Criteria(kind="file"), [FILE, GROWING]),
        (Criteria(names=("*.h5",)), [FILE, GROWING]),
        (Criteria(names=("a", "dl1*")), [FILE, FOLDER]),
        (Criteria(names=("a/*",)), []),
        (Criteria(include=("a/*",)), [FILE, GROWING]),
        (Criteria(include=("a",)), [FILE, GROWING, FOLDER]),
        (Criteria(exclude=("new*",)), [FILE, FOLDER]),
        (Criteria(newer_than=NOW - timedelta(seconds=1)), [FILE, FOLDER]),
        (Criteria(newer_than=NOW), []),
        (Criteria(older_than=NOW), []),
        (Criteria(older_than=NOW + timedelta(seconds=1)), [FILE, FOLDER]),
        (Criteria(newer_than=NOW - timedelta(1), older_than=NOW + timedelta(1)), [FILE, FOLDER]),
        (Criteria(min_size_bytes=0), [FILE]),
        (Criteria(min_size_bytes=1000, max_size_bytes=1000), [FILE]),
        (Criteria(min_size_bytes=1001), []),
        (Criteria(max_size_bytes=999), []),
        (Criteria(names=("*.h5",), kind="file", min_size_bytes=1), [FILE]),
    ],
)
def test_all_conditions_must_hold(criteria, accepted):
    found = [e for e in (FILE, GROWING, FOLDER) if criteria.accept(e, e.path.removeprefix("/n/"))]
    assert found == accepted


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-11-14", datetime(2024, 11, 14, tzinfo=UTC)),
        ("20241114", datetime(2024, 11, 14, tzinfo=UTC)),
        ("2024-11-14T03:00", datetime(2024, 11, 14, 3, tzinfo=UTC)),
        ("2024-11-14 03:00:05", datetime(2024, 11, 14, 3, 0, 5, tzinfo=UTC)),
        ("2024-11-14T03:00Z", datetime(2024, 11, 14, 3, tzinfo=UTC)),
        ("2024-11-14T03:00+02:00", datetime(2024, 11, 14, 1, tzinfo=UTC)),
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        (" 12 h ", NOW - timedelta(hours=12)),
        ("1.5d", NOW - timedelta(hours=36)),
        ("2w", NOW - timedelta(days=14)),
    ],
)
def test_times_and_ages(text, moment):
    assert parse_moment(text, NOW) == moment
    assert parse_moment(text, NOW.astimezone(timezone(timedelta(hours=2)))) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "7",
        "7y",
        "-7d",
        "٧d",
        "999999w",
        "2024-13-01",
        "1e3d",
        "0001-01-01T00+09:00",
    ],
)
def test_what_is_no_time(text):
    with pytest.raises(UsageError) as why:
        parse_moment(text, NOW)
    assert "7d" in (why.value.hint or "")


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("0", 0),
        ("1000", 1000),
        ("10B", 10),
        ("10k", 10_000),
        ("10kB", 10_000),
        ("10K", 10_000),
        ("1.5GB", 1_500_000_000),
        (" 2 MB ", 2_000_000),
        ("64KiB", 65536),
        ("1Gi", 1 << 30),
        ("3T", 3 * 10**12),
        ("1P", 10**15),
        ("999999999999999999", 999999999999999999),
    ],
)
def test_sizes(text, n_bytes):
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1X", "1kk", "1e3", "0x10", "٣", "1.k", "1iB", "9" * 30]
)
def test_what_is_no_size(text):
    with pytest.raises(UsageError):
        parse_size(text)


@given(st.text(max_size=12))
@settings(deadline=None)
def test_rubbish_is_a_usage_error(text):
    for parse in (parse_size, lambda t: parse_moment(t, NOW)):
        with contextlib.suppress(UsageError):
            parse(text)


def test_links_to_files_are_files_and_links():
    kinds = ("file", "directory", "link", None)
    accepted = {
        to: [kind for kind in kinds if Criteria(kind=kind).accept(Entry("/a", link=to), "a")]
        for to in ("file", "directory", "nothing")
    }
    assert accepted == {
        "file": ["file", "link", None],
        "directory": ["link", None],
        "nothing": ["link", None],
    }
