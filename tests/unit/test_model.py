"""Records that turn into JSON and back."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.model import Checksum, Entry, Report, Transfer, utc_text, utc_time

ENTRY_KEYS = ["path", "type", "size_bytes", "mtime", "checksums", "locality", "etag"]
TRANSFER_KEYS = [
    "path",
    "local",
    "size_bytes",
    "moved_bytes",
    "seconds",
    "checksum",
    "verified",
    "skipped",
    "retries",
    "resumed_bytes",
    "mtime",
    "server",
    "note",
    "error",
]

zones = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)  # noqa: DTZ001
sizes = st.none() | st.integers(0, 1 << 62)
texts = st.none() | st.text()
checksums = st.builds(
    Checksum,
    st.sampled_from(["adler32", "md5", "sha256", "sha512"]),
    st.text("0123456789abcdef", min_size=8, max_size=128),
)
seconds = st.integers(0, 10**9).map(lambda ms: ms / 1000)
entries = st.builds(
    Entry,
    path=st.text(min_size=1).map("/".__add__),
    is_dir=st.booleans(),
    size_bytes=sizes,
    mtime=st.none() | moments,
    checksums=st.lists(checksums, unique_by=lambda c: c.algorithm).map(tuple),
    locality=st.none() | st.sampled_from(["ONLINE", "NEARLINE", "LOST"]),
    etag=texts,
)
transfers = st.builds(
    Transfer,
    path=st.text(),
    local=st.text(),
    size_bytes=sizes,
    moved_bytes=st.integers(0, 1 << 62),
    seconds=seconds,
    checksum=st.none() | checksums,
    verified=st.booleans(),
    skipped=st.booleans(),
    retries=st.integers(0, 99),
    resumed_bytes=st.integers(0, 1 << 62),
    mtime=st.none() | moments,
    server=texts,
    note=texts,
    error=texts,
)
reports = st.builds(Report, st.lists(transfers, max_size=4).map(tuple), seconds)


def through_json(record, *, ascii_only=True):
    text = json.dumps(record.to_dict(), ensure_ascii=ascii_only, allow_nan=False)
    return type(record).from_dict(json.loads(text))


@given(entries)
@settings(max_examples=50)
def test_entries_round_trip(entry):
    assert through_json(entry) == entry
    assert list(entry.to_dict()) == ENTRY_KEYS


@given(transfers)
@settings(max_examples=50)
def test_transfers_round_trip(transfer):
    assert through_json(transfer) == transfer
    assert through_json(transfer, ascii_only=False) == transfer
    assert list(transfer.to_dict()) == TRANSFER_KEYS


@given(reports)
@settings(max_examples=40)
def test_reports_round_trip(report):
    assert through_json(report) == report
    assert list(report.to_dict()) == ["transfers", "seconds"]


def test_the_keys_are_those_of_the_design():
    promised = "path, local, size_bytes, seconds, checksum, verified, retries, resumed_bytes, error"
    assert set(promised.split(", ")) <= set(TRANSFER_KEYS)
    assert {"path", "type", "size_bytes", "mtime", "checksums"} <= set(ENTRY_KEYS)


def test_an_entry_in_json():
    entry = Entry(
        "/cta/a.h5",
        size_bytes=7,
        mtime=datetime(2024, 11, 15, 3, 4, 5, tzinfo=UTC),
        checksums=(Checksum("md5", "ab" * 16), Checksum("adler32", "03da0195")),
        locality="ONLINE",
        etag='"x"',
    )
    assert entry.to_dict() == {
        "path": "/cta/a.h5",
        "type": "file",
        "size_bytes": 7,
        "mtime": "2024-11-15T03:04:05Z",
        "checksums": {"md5": "ab" * 16, "adler32": "03da0195"},
        "locality": "ONLINE",
        "etag": '"x"',
    }
    assert Entry("/cta", is_dir=True).to_dict()["type"] == "directory"


def test_entries_without_the_optional_keys_are_read():
    values = {"path": "/a", "type": "file", "size_bytes": 1, "mtime": None, "checksums": {}}
    assert Entry.from_dict(values) == Entry("/a", size_bytes=1)


@pytest.mark.parametrize(
    ("path", "name", "parent"),
    [("/a", "a", "/"), ("/a/b.h5", "b.h5", "/a"), ("/", "", "/")],
)
def test_name_and_parent(path, name, parent):
    entry = Entry(path)
    assert (entry.name, entry.parent, str(entry)) == (name, parent, path)


def test_a_transfer_in_json():
    transfer = Transfer("/a", "a", 5, 5, 1.23456, Checksum("md5", "00"), verified=True)
    values = transfer.to_dict()
    assert values["checksum"] == "md5:00"
    assert values["seconds"] == 1.235
    assert values["error"] is None


def test_a_transfer_reads_no_more_and_no_less_than_its_own_keys():
    assert Transfer.from_dict({"path": "/a", "local": "a", "run": 1}) == Transfer("/a", "a")
    with pytest.raises(TypeError):
        Transfer.from_dict({"path": "/a"})


def test_ok_failed_skipped_and_bytes():
    good, bad = Transfer("/a", "a", moved_bytes=3), Transfer("/b", "b", error="Lost: gone")
    here = Transfer("/c", "c", skipped=True)
    report = Report((good, bad)) + Report((here,), 2.0)
    assert [t.ok for t in report.transfers] == [True, False, True]
    assert report.failed == (bad,)
    assert report.skipped == (here,)
    assert report.moved_bytes == 3
    assert report.seconds == 2.0


def test_records_can_not_be_changed():
    for record in (Entry("/a"), Transfer("/a", "a"), Report(), Checksum("md5", "00")):
        with pytest.raises(AttributeError):
            setattr(record, next(iter(record.__dataclass_fields__)), "other")


@given(checksums)
def test_a_checksum_reads_what_it_wrote(checksum):
    assert Checksum.parse(str(checksum)) == checksum


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, None),
        (datetime(2024, 11, 14, tzinfo=UTC), "2024-11-14T00:00:00Z"),
        (datetime(2024, 11, 14, 1, 2, 3, 4000, tzinfo=UTC), "2024-11-14T01:02:03.004000Z"),
        (
            datetime(2024, 11, 14, 0, 30, tzinfo=timezone(timedelta(hours=1))),
            "2024-11-13T23:30:00Z",
        ),
    ],
)
def test_utc_text(moment, text):
    assert utc_text(moment) == text
    assert utc_time(text) == moment


@given(moments)
def test_times_round_trip_and_are_utc(moment):
    back = utc_time(utc_text(moment))
    assert back == moment
    assert back.tzinfo is UTC


def test_times_of_other_zones_are_read_as_utc():
    assert utc_time("2024-11-14T01:00:00+01:00") == datetime(2024, 11, 14, tzinfo=UTC)
