"""The report of a night: verdict, records, and what is shown."""

import io
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nightfiles import NOW, OLD, PATH, dl1
from rich.console import Console

from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.night import Gaps
from ctaflows.dl1.night_completeness import Completeness
from ctaflows.dl1.quality.checks import Check, Inspection
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.model import Checksum, Transfer
from ctaflows.text import human_bytes, shortened

MD5 = Checksum("md5", "900150983cd24fb0d6963f7d28e17f72")
KINDS = ("cosmic", "pedestal", "flatfield", "unknown")


def summary(file, n_events=53_000):
    return DL1Summary(
        file,
        10,
        "lstchain",
        "DL1a+DL1b",
        simulated=False,
        run=11111,
        subrun=0,
        n_events=n_events,
        n_events_by_type=dict.fromkeys(KINDS, n_events),
        time_first=OLD,
        time_last=OLD + timedelta(seconds=10),
        duration_s=10.0,
        rate_hz=n_events / 10,
    )


def moved(name, **more):
    values = {"size_bytes": 300_000_000, "moved_bytes": 300_000_000, "verified": True}
    return Transfer(f"{PATH}/{name}", f"/data/{name}", **{**values, "checksum": MD5, **more})


def report(*transfers, **more):
    return NightReport(
        "20241114", "v0.1", PATH, "/data/20241114", "/data/manifest.jsonl", tuple(transfers), **more
    )


GOOD = moved(dl1(11111, 0))
HERE = moved(dl1(11111, 1), moved_bytes=0, skipped=True)
BARE = moved(dl1(11113, 0), verified=False, note="no checksum")
BAD = moved(dl1(11115, 2), moved_bytes=5, verified=False, checksum=None, error="Lost: gone")
DAMAGED = Inspection(GOOD.local, error="NotHDF5: other bytes")

VERDICTS = [
    (report(), "complete: 0 of 0 files in place, 0 verified, nothing moved"),
    (report(GOOD), "complete: 1 of 1 files in place, 1 verified, 300 MB moved"),
    (report(HERE), "complete: 1 of 1 files in place, 1 verified, nothing moved"),
    (report(GOOD, HERE, BARE), "complete: 3 of 3 files in place, 2 verified, 600 MB moved"),
    (report(GOOD, BAD), "not complete: 1 of 2 files in place, 1 verified, 300 MB moved, 1 failed"),
    (
        report(GOOD, HERE, BAD, dry_run=True),
        "dry run: 2 files to fetch (600 MB), 1 in place",
    ),
    (report(dry_run=True), "dry run: 0 files to fetch (0 B), 0 in place"),
]


@pytest.mark.parametrize(("made", "verdict"), VERDICTS)
def test_verdict(made, verdict):
    assert made.verdict() == verdict


def test_failed_has_transfers_and_inspections():
    made = report().having([GOOD, HERE, BAD], [DAMAGED, Inspection(HERE.local, summary("x"))])
    assert made.failed == (
        f"{GOOD.path}: NotHDF5: other bytes",
        f"{BAD.path}: Lost: gone",
    )
    assert "2 failed" in made.verdict()
    assert report(GOOD, HERE).failed == ()
    assert made.moved_bytes == 300_000_005


def test_an_error_of_the_transfer_comes_before_one_of_the_inspection():
    made = report(BAD, inspections={BAD.local: Inspection(BAD.local, error="NotFound: x")})
    assert made.failed == (f"{BAD.path}: Lost: gone",)
    assert made.records()[0]["error"] == "Lost: gone"


INSPECTED_KEYS = [
    "layout",
    "level",
    "n_events",
    "n_events_by_type",
    "time_first",
    "time_last",
    "duration_s",
    "rate_hz",
    "verdict",
    "remarks",
]


def test_records():
    made = report().having([GOOD, BARE], [Inspection(GOOD.local, summary(GOOD.local))])
    looked, bare = made.records()
    assert list(looked) == [*GOOD.to_dict(), "run", "subrun", *INSPECTED_KEYS]
    assert list(bare) == [*BARE.to_dict(), "run", "subrun"]
    assert (looked["run"], looked["subrun"], looked["n_events"]) == (11111, 0, 53_000)
    assert looked["time_first"] == "2024-11-15T07:00:00Z"
    assert looked["checksum"] == str(MD5)


def test_records_of_what_can_not_be_inspected_say_so():
    (record,) = report().having([GOOD], [DAMAGED]).records()
    assert record["error"] == "NotHDF5: other bytes"
    told = {k: record[k] for k in INSPECTED_KEYS}
    assert told == {**dict.fromkeys(INSPECTED_KEYS), "remarks": []}


def test_records_of_other_files_have_no_run():
    (record,) = report(moved("README.md")).records()
    assert (record["run"], record["subrun"]) == (None, None)


def test_to_dict_is_json():
    made = report(GOOD, BAD, gaps=Gaps(("Run11111.0002",), ("x.h5",)))
    made = made.having(made.transfers, [DAMAGED])
    values = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert list(values) == [
        "date",
        "version",
        "versions_used",
        "path",
        "dest",
        "manifest",
        "dry_run",
        "verdict",
        "missing",
        "growing",
        "only_older",
        "has_dl1",
        "awaited",
        "unknown",
        "census",
        "files",
    ]
    assert values["files"] == made.records()
    assert (values["missing"], values["growing"]) == (["Run11111.0002"], ["x.h5"])


def shown(made, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(made)
    return console.file.getvalue()


FULL = report(GOOD, HERE, BARE, BAD, gaps=Gaps(("Run11111.0002", "Run11120"), ("x.h5",)))


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("inspected", [False, True])
def test_the_report_shows_runs_verdict_and_gaps(width, dry_run, inspected):
    looks = [Inspection(t.local, summary(t.local)) for t in FULL.transfers] if inspected else []
    made = report(*FULL.transfers, gaps=FULL.gaps, dry_run=dry_run).having(FULL.transfers, looks)
    text = shown(made, width)
    assert max(map(len, text.splitlines())) <= width
    for run in ("11111", "11113", "11115"):
        assert any(run in line.split() for line in text.splitlines()), run
    flat = " ".join(text.split())
    assert made.verdict() in flat
    assert "DL1 night 20241114 v0.1" in flat
    assert "missing Run11111.0002, Run11120" in flat
    assert "growing x.h5" in flat
    assert "Lost: gone" in flat


def judged(transfer, verdict, value):
    one = Check("flatfield_charge", value, "p.e.", (62.1, 75.9), (34.5, 103.5), verdict)
    return Inspection(transfer.local, summary(transfer.local), checks=(one,))


def test_what_is_doubtful_is_shown():
    looks = [judged(GOOD, "warn", 60.0), judged(HERE, "bad", 30.0), judged(BARE, "ok", 70.0)]
    made = report().having([GOOD, HERE, BARE], looks)
    assert [verdict for verdict, _ in made.doubtful] == ["bad", "warn"]
    assert made.failed == ()
    flat = " ".join(shown(made, 160).split())
    assert "bad dl1_LST-1.Run11111.0001.h5: flatfield_charge 30 p.e., not within 34.5" in flat
    assert "warn dl1_LST-1.Run11111.0000.h5: flatfield_charge 60 p.e., not within 62.1" in flat
    assert "0000.h5: flatfield_charge 70" not in flat
    assert [record["verdict"] for record in made.records()] == ["warn", "bad", "ok"]
    assert made.records()[0]["remarks"] == [
        "warn: flatfield_charge 60 p.e., not within 62.1 to 75.9"
    ]


def test_many_doubts_are_counted():
    transfers = [moved(dl1(11111, i)) for i in range(30)]
    made = report().having(transfers, [judged(t, "warn", 60.0) for t in transfers])
    assert "and 20 more" in shown(made, 160)


def test_a_report_tells_of_the_night_at_the_door():
    census = Completeness("20241114", "v0.1", PATH, NOW, "incomplete")
    made = report(GOOD, census=census)
    assert "at door incomplete: 0 subruns" in " ".join(shown(made, 160).split())
    assert made.to_dict()["census"]["verdict"] == "incomplete"
    assert report(GOOD).to_dict()["census"] is None


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_report_on_nothing_is_shown(width):
    assert "0 of 0 files" in " ".join(shown(report(), width).split())


@pytest.mark.parametrize("name", ["[red]x.txt", "x[bold].txt", "a\\[b].txt"])
def test_names_are_no_markup(name):
    assert name in shown(report(moved(name)), 160)


def test_notes_and_errors_are_no_markup():
    assert "odd [/b]" in shown(report(moved("x.txt", note="odd [/b]"), dry_run=True), 160)
    assert "odd [/b]" in shown(report(moved("x.txt", error="Lost: odd [/b]")), 160)


@pytest.mark.parametrize(
    ("items", "most", "text"),
    [
        ([], 8, ""),
        (["a"], 8, "a"),
        (["a", "b"], 2, "a, b"),
        (["a", "b", "c"], 2, "a, b and 1 more"),
        ([str(i) for i in range(10)], 8, "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"),
    ],
)
def test_shortened(items, most, text):
    assert shortened(items, most) == text
    assert shortened(iter(items), most) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (12_345, "12.3 kB"),
        (123_456, "123 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (999_999, "1 MB"),
        (300_000_000, "300 MB"),
        (1_500_000_000, "1.5 GB"),
        (2_000_000_000_000, "2 TB"),
        (999_000_000_000_000, "999 TB"),
        (1_234_000_000_000_000, "1234 TB"),
    ],
)
def test_human_bytes(n_bytes, text):
    # beyond TB: 1234 TB or 1.23 PB, but no exponent
    if n_bytes >= 1e15:
        assert human_bytes(n_bytes) in (text, "1.23 PB")
    else:
        assert human_bytes(n_bytes) == text


@given(st.integers(0, 10**15 - 10**12))
def test_human_bytes_are_three_digits(n_bytes):
    number, unit = human_bytes(n_bytes).split()
    scale = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert "e" not in number
    assert float(number) * scale == pytest.approx(n_bytes, rel=0.0051)
    assert len(number.replace(".", "")) <= 3
