"""Records that turn into JSON and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.model import Checksum, Entry, Record, Report, Transfer, utc_text, utc_time

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


@dataclass(frozen=True, slots=True)
class Part(Record):
    value: int | None
    at: "datetime | None" = None


@dataclass(frozen=True)
class Whole(Record):
    name: str
    number: float | str = 0.0
    anything: Any = None
    at: datetime | None = None
    folder: Path | None = None
    checksum: Checksum | None = None
    names: tuple[str, ...] = ()
    pair: tuple[float | None, float | None] | None = None
    times: tuple[datetime, ...] = ()
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    others: Sequence[Part] = ()
    counts: dict[str, int] | None = None
    by_name: Mapping[str, Part] = field(default_factory=dict)
    lists: dict[str, tuple[int, ...]] = field(default_factory=dict)
    later: "tuple[Later, ...]" = ()


@dataclass(frozen=True)
class Later(Record):
    seconds: float = field(default=0.0, metadata={"write": lambda seconds: round(seconds, 1)})

    def to_dict(self):
        return {**super().to_dict(), "doubled": 2 * self.seconds}


parts = st.builds(Part, st.none() | st.integers(), st.none() | moments)
wholes = st.builds(
    Whole,
    name=st.text(),
    number=st.integers() | st.text(),
    anything=st.none() | st.booleans() | st.lists(st.text()),
    at=st.none() | moments,
    folder=st.none() | st.text("ab/.", min_size=1).map(Path),
    checksum=st.none() | checksums,
    names=st.lists(st.text()).map(tuple),
    pair=st.none() | st.tuples(st.none() | st.integers(), st.none() | st.integers()),
    times=st.lists(moments, max_size=3).map(tuple),
    part=st.none() | parts,
    parts=st.lists(parts, max_size=3).map(tuple),
    others=st.lists(parts, max_size=3).map(tuple),
    counts=st.none() | st.dictionaries(st.text(), st.integers(), max_size=3),
    by_name=st.dictionaries(st.text(), parts, max_size=3),
    lists=st.dictionaries(st.text(), st.lists(st.integers()).map(tuple), max_size=3),
    later=st.lists(st.integers().map(Later), max_size=2).map(tuple),
)


def through_json(record, *, ascii_only=True):
    text = json.dumps(record.to_dict(), ensure_ascii=ascii_only, allow_nan=False)
    return type(record).from_dict(json.loads(text))


@given(wholes)
@settings(max_examples=50)
def test_records_of_all_types_round_trip(whole):
    assert through_json(whole) == whole


def test_each_type_of_field_in_json():
    at = datetime(2024, 11, 14, 1, tzinfo=timezone(timedelta(hours=1)))
    whole = Whole(
        "a",
        1,
        anything=[1],
        at=at,
        folder=Path("/a/b"),
        checksum=Checksum("md5", "00"),
        names=("x", "y"),
        pair=(None, 2.0),
        times=(at,),
        part=Part(0),
        parts=(Part(1, at),),
        others=[Part(None)],
        counts={"n": 1},
        by_name={"p": Part(2)},
        lists={"l": (1, 2)},
        later=(Later(1.26),),
    )
    text = "2024-11-14T00:00:00Z"
    values = {
        "name": "a",
        "number": 1,
        "anything": [1],
        "at": text,
        "folder": "/a/b",
        "checksum": "md5:00",
        "names": ["x", "y"],
        "pair": [None, 2.0],
        "times": [text],
        "part": {"value": 0, "at": None},
        "parts": [{"value": 1, "at": text}],
        "others": [{"value": None, "at": None}],
        "counts": {"n": 1},
        "by_name": {"p": {"value": 2, "at": None}},
        "lists": {"l": [1, 2]},
        "later": [{"seconds": 1.3, "doubled": 2.52}],
    }
    assert whole.to_dict() == values
    assert list(whole.to_dict()) == list(values)


def test_a_record_of_nothing_but_defaults_in_json():
    values = Whole("a").to_dict()
    empty = {"names", "times", "parts", "others", "by_name", "lists", "later"}
    assert {key for key, value in values.items() if value in ([], {})} == empty
    assert {key for key, value in values.items() if value is None} == (
        values.keys() - empty - {"name", "number"}
    )


def test_keys_that_are_not_known_are_passed_over_and_those_that_are_not_there_have_defaults():
    values = {"name": "a", "more": 1, "part": {"value": 1, "more": [2]}}
    assert Whole.from_dict(values) == Whole("a", part=Part(1))
    with pytest.raises(TypeError, match="name"):
        Whole.from_dict({"part": None})


def test_what_is_written_is_not_the_records_own():
    whole = Whole("a", counts={"n": 1})
    whole.to_dict()["counts"]["n"] = 2
    assert whole.counts == {"n": 1}


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


@pytest.mark.parametrize(
    ("entry", "kind", "further"),
    [
        (Entry("/a"), "file", {}),
        (Entry("/a", is_dir=True), "directory", {}),
        (Entry("/a", link="file"), "file", {"link": "file"}),
        (Entry("/a", link="directory"), "link", {"link": "directory"}),
        (Entry("/a", link="nothing"), "link", {"link": "nothing"}),
        (Entry("/a", error="403 Forbidden"), "unknown", {"error": "403 Forbidden"}),
    ],
)
def test_the_kind_of_an_entry(entry, kind, further):
    assert entry.kind == kind
    values = entry.to_dict()
    assert values["type"] == kind
    assert {key: values[key] for key in ("error", "link") if key in values} == further
    assert Entry.from_dict(values) == entry


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


# the same source ----------------------------------------------------------------------------------

NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)
ADLER, MD5 = Checksum("adler32", "0000000a"), Checksum("md5", "aa")
OTHER_MD5 = Checksum("md5", "bb")
FILE = Entry("/a", size_bytes=5)


def described(**told: Any) -> Entry:
    return Entry("/b", **{"size_bytes": 5, **told})  # the path is not compared


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # nothing but the size can be compared
        (FILE, described(), None),
        (FILE, described(mtime=NOON, etag='"1"', checksums=(MD5,)), None),
        (described(mtime=NOON), described(etag='"1"'), None),
        (described(checksums=(ADLER,)), described(checksums=(MD5,)), None),
        (described(size_bytes=None), described(size_bytes=None), None),
        # what only one of them tells says nothing
        (described(mtime=NOON, etag='"1"'), described(mtime=NOON), True),
        (described(mtime=NOON, checksums=(MD5,)), described(mtime=NOON), True),
        (described(etag='"1"'), described(etag='"1"', mtime=NOON), True),
        (described(checksums=(ADLER, MD5)), described(checksums=(MD5,)), True),
        (described(mtime=NOON, checksums=(ADLER,)), described(mtime=NOON, checksums=(MD5,)), True),
        (described(etag='W/"1"'), described(etag='"1"'), True),
        # one difference is enough
        (described(mtime=NOON), described(mtime=NOON + timedelta(seconds=1)), False),
        (described(etag='"1"', mtime=NOON), described(etag='"2"', mtime=NOON), False),
        (described(mtime=NOON, checksums=(MD5,)), described(mtime=NOON, checksums=(OTHER_MD5,)),
         False),
        (described(checksums=(ADLER, MD5)), described(checksums=(ADLER, OTHER_MD5)), False),
        (described(mtime=NOON, checksums=(MD5,)),
         described(mtime=NOON + timedelta(seconds=1), checksums=(MD5,)), False),
        (described(mtime=NOON), described(mtime=NOON, size_bytes=6), False),
        (described(mtime=NOON), described(mtime=NOON, size_bytes=None), False),
        (FILE, Entry("/a", is_dir=True), False),
        # of what can't be described nothing is known
        (described(mtime=NOON), Entry("/b", error="403 Forbidden"), None),
    ],
)  # fmt: skip
def test_the_same_file(one: Entry, other: Entry, same: bool | None) -> None:
    assert one.same_file_as(other) is same
    assert other.same_file_as(one) is same


@pytest.mark.parametrize(
    ("one", "other", "same", "by_size"),
    [
        (FILE, described(), None, True),
        (described(etag='"1"', mtime=NOON), described(etag='"2"'), None, True),
        (described(checksums=(ADLER,)), described(checksums=(MD5,)), None, True),
        (described(checksums=(MD5,)), described(checksums=(ADLER, MD5)), True, True),
        (described(checksums=(MD5,)), described(checksums=(OTHER_MD5,)), False, False),
        (FILE, described(size_bytes=6), False, False),
        (FILE, described(size_bytes=None), False, False),
        (described(size_bytes=None), described(size_bytes=None), None, None),
        (FILE, Entry("/b", error="403 Forbidden"), None, None),
    ],
)
def test_the_same_content(
    one: Entry, other: Entry, same: bool | None, by_size: bool | None
) -> None:
    for a, b in ((one, other), (other, one)):
        assert a.same_content_as(b) is same
        assert a.same_content_as(b, size_suffices=True) is by_size


@given(entries, entries)
def test_both_ways_agree_on_what_is_the_same(one: Entry, other: Entry) -> None:
    assert one.same_file_as(other) is other.same_file_as(one)
    if one.same_content_as(other) is False:
        assert one.same_file_as(other) is False
    assert one.same_file_as(one) is not False


def test_a_record_tells_of_its_source() -> None:
    record = Transfer("/a", "here/a", 5, checksum=MD5, verified=True, mtime=NOON)
    assert record.source == Entry("/a", size_bytes=5, mtime=NOON, checksums=(MD5,))
    assert Transfer("/a", "here/a", error="Lost: gone").source == Entry("/a")
