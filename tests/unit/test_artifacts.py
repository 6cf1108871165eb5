"""What makes up the picture of a run, without Prefect: dates, batches, gauge, page, assets."""

from __future__ import annotations

import datetime as dt
import functools
import json
import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.names import last_night, night_date
from ctaflows.dl1.night import Gaps
from ctaflows.dl1.quality.checks import Check, Inspection
from ctaflows.dl1.report.inspection_cache import NAME, CachedInspection, InspectionCache
from ctaflows.dl1.report.markdown import digest
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.dl1.report.totals import totals_by_run
from ctaflows.errors import (
    DoorBusy,
    Nearline,
    NetworkError,
    NotFound,
    PartialFailure,
    TokenExpired,
    UsageError,
    error_text,
)
from ctaflows.flows.batches import (
    files_named,
    is_retryable,
    may_try_again,
    parts_of,
    report_of,
    run_batches,
)
from ctaflows.model import Checksum, Entry, Report, Transfer
from ctaflows.reporting.artifacts import (
    ProgressArtifact,
    human_seconds,
    progress_shown,
    publish_night,
)
from ctaflows.reporting.assets import fetched_runs, publish_runs
from ctaflows.reporting.events import files_fetched, night_complete
from ctaflows.tracking import run_context
from ctaflows.tracking.task import task
from ctaflows.transfer.decide import batches
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.progress import Progress
from ctaflows.transfer.standing import as_moved, proven

if TYPE_CHECKING:
    from pathlib import Path

WAIT_S = 30
BASE = "/cta/DL1/20241114/v0.1"
NOON = dt.datetime(2024, 11, 15, 12, tzinfo=dt.UTC)

# dates


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2024-11-15T08:00+00:00", "20241114"),  # the morning after
        ("2024-11-15T15:00+00:00", "20241114"),  # and in the afternoon it still is
        ("2024-11-15T23:59+00:00", "20241114"),
        ("2024-11-16T00:01+00:00", "20241115"),  # the night that goes on
        ("2024-07-14T22:59+00:00", "20240713"),  # in summer the site is an hour ahead of UTC
        ("2024-07-14T23:01+00:00", "20240714"),
        ("2024-11-15T00:30+01:00", "20241113"),  # half past eleven at the site
        ("2025-01-01T12:00+00:00", "20241231"),
    ],
)
def test_last_night_is_yesterday_s_at_the_site(now: str, expected: str) -> None:
    moment = dt.datetime.fromisoformat(now)
    assert f"{last_night(moment):%Y%m%d}" == expected
    assert night_date("last-night", moment) == night_date(" Last-Night ", moment) == expected


def test_dates_in_both_ways_and_what_is_none() -> None:
    assert night_date("20241114", NOON) == night_date("2024-11-14", NOON) == "20241114"
    with pytest.raises(UsageError, match="no date"):
        night_date("yesterday", NOON)


def test_outside_a_run_the_moment_is_now() -> None:
    assert abs(run_context.moment() - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
    assert run_context.parameters() == {}


# batches


@functools.cache
def transfers_of(n_files: int) -> list[Transfer]:
    return [Transfer(f"/{i}", f"{i}") for i in range(n_files)]


@pytest.mark.parametrize("size_bytes", [20_000, 60_000_000, 730_000_000, 5 << 30])
@pytest.mark.parametrize("n_files", [1, 10_000, 100_000])
def test_a_night_of_any_size_makes_at_most_300_task_runs(n_files: int, size_bytes: int) -> None:
    rest = [Entry("/a", size_bytes=size_bytes)] * n_files
    in_place = transfers_of(n_files)
    fetched = batches(rest)
    n_fetch, n_old = len(fetched), len(parts_of(in_place))
    n_assets = 40
    assert 1 + n_fetch + (n_fetch + n_old) + n_assets <= 300
    assert sum(map(len, fetched)) == n_files
    assert [t for part in parts_of(in_place) for t in part.transfers] == in_place


@given(st.integers(0, 1000), st.integers(1, 50), st.integers(1, 20))
def test_parts_are_few_and_lose_nothing(n_files: int, least: int, most: int) -> None:
    transfers = [Transfer(f"/{i}", f"{i}") for i in range(n_files)]
    parts = parts_of(transfers, least=least, most=most)
    assert len(parts) <= most
    assert [t for part in parts for t in part.transfers] == transfers
    assert all(len(part.transfers) >= least for part in parts[:-1])


def test_work_is_begun_a_few_at_a_time_and_given_in_order() -> None:
    taken: list[int] = []

    def items() -> Any:
        for i in range(20):
            taken.append(i)
            yield i

    @task
    def square(x: int) -> int:
        if x == 13:
            raise NetworkError("gone")
        return x * x

    results = []
    for item, result in run_batches(lambda i: square.submit(i) if i != 7 else None, items()):
        assert len(taken) - item <= 4, "no more than a few ahead"
        results.append(result)
    assert [r for i, r in enumerate(results) if i not in (7, 13)] == [
        i * i for i in range(20) if i not in (7, 13)
    ]
    assert results[7] is None
    assert isinstance(results[13], NetworkError)


def test_stages_feed_each_other() -> None:
    @task
    def double(x: int) -> int:
        return 2 * x

    doubled = (result for _, result in run_batches(double.submit, range(10)))
    assert [r for _, r in run_batches(double.submit, doubled)] == [4 * i for i in range(10)]


def failed(path: str, error: Exception) -> Transfer:
    return Transfer(path, path, error=error_text(error))


def test_what_comes_of_a_batch() -> None:
    report = Report((Transfer("/a", "a"), failed("/b", Nearline("on tape"))))
    assert report_of(report) is report
    assert report_of(PartialFailure.of(report)) is report
    with pytest.raises(TokenExpired):
        report_of(TokenExpired("over"))


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([NetworkError("gone")], True),
        ([DoorBusy("503")], True),
        ([Nearline("on tape")], False),
        ([NotFound("no"), TokenExpired("over")], False),
        ([NotFound("no"), DoorBusy("503")], True),
    ],
)
def test_only_what_may_help_is_tried_again(errors: list[Exception], expected: bool) -> None:
    report = Report((Transfer("/ok", "ok"), *(failed(f"/{e}", e) for e in errors)))
    assert is_retryable(PartialFailure.of(report)) is expected
    if len(errors) == 1:
        assert is_retryable(errors[0]) is expected
    state = type("State", (), {"data": PartialFailure.of(report)})
    assert may_try_again(None, None, state) is expected
    assert not is_retryable(ValueError("a bug"))
    assert not is_retryable(
        PartialFailure("odd", report=Report((Transfer("/x", "x", error="Gibberish"),)))
    )


def test_task_runs_are_named_after_their_files() -> None:
    names = [f"dl1_LST-1.Run11111.{n:04}.h5" for n in range(3)]
    entries = [Entry(f"{BASE}/tailcut84/{name}") for name in names]
    assert files_named(entries) == "Run11111.0000 to Run11111.0002, 3 files"
    assert files_named([f"/data/{names[0]}"]) == "Run11111.0000"
    assert files_named(["/a/datacheck_dl1_LST-1.Run11111.0004.h5"]) == "datacheck Run11111.0004"
    assert files_named([Entry("/a/other.txt")]) == "other.txt"


# what is in place


def entry(number: int, *, size_bytes: int = 3, checksum: str = "00000001") -> Entry:
    return Entry(
        f"{BASE}/dl1_LST-1.Run11111.{number:04}.h5", size_bytes=size_bytes, mtime=NOON,
        checksums=(Checksum("adler32", checksum),),
    )  # fmt: skip


def put(folder: Path, number: int, manifest: Manifest, **proof: Any) -> Transfer:
    """Put a file here, with its proof."""
    import os

    local = folder / f"dl1_LST-1.Run11111.{number:04}.h5"
    local.write_bytes(b"abc")
    os.utime(local, (NOON.timestamp(), NOON.timestamp()))
    there = entry(number)
    values = {"checksum": there.checksums[0], "verified": True, "moved_bytes": 3, **proof}
    transfer = Transfer(there.path, str(local), 3, mtime=NOON, **values)
    manifest.append(transfer)
    return transfer


def test_what_is_proven_is_told_from_what_there_is_work_for(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    put(tmp_path, 0, manifest)
    put(tmp_path, 1, manifest, error="ChecksumMismatch: damaged")
    put(tmp_path, 2, manifest)
    put(tmp_path, 3, manifest, verified=False)
    put(tmp_path, 4, manifest)
    (tmp_path / "dl1_LST-1.Run11111.0004.h5").unlink()
    changed = replace(entry(2), checksums=(Checksum("adler32", "00000002"),))
    asked = [entry(0), entry(1), changed, entry(3), entry(4), entry(5)]
    in_place, rest = proven(asked, tmp_path, base=BASE, manifest=manifest.file)
    assert rest == asked[1:]
    (only,) = in_place
    assert (only.path, only.skipped, only.verified, only.moved_bytes) == (
        asked[0].path,
        True,
        True,
        0,
    )
    assert proven(asked, tmp_path, base=BASE, manifest=tmp_path / "none") == ([], asked)


def test_what_an_earlier_try_moved_counts_as_moved(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    first = put(tmp_path, 0, manifest)
    again = replace(first, skipped=True, moved_bytes=0)
    new = Transfer("/new", "new", 3, 3)
    assert as_moved(Report((again, new)), manifest.file).transfers == (first, new)


def test_proofs_of_some_files_are_read_as_if_alone(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    odd = '/a/"quoted" \\ é\udcff.h5'
    for path in ("/a/b.h5", "/a/b.h5x", odd, "/a/b.h5"):
        manifest.append(Transfer(path, str(tmp_path / "x"), 3, error=f"Lost: {path}"))
    everything = Manifest(manifest.file).proofs
    assert len(everything) == 3
    for path in everything:
        assert Manifest(manifest.file, of=[path]).proofs[path] == everything[path]
    assert "/a/b.h5x" not in Manifest(manifest.file, of=["/a/b.h5"]).proofs
    assert Manifest(manifest.file, of=["/other"]).proofs.keys() <= {odd}


def summary(file: str, **values: Any) -> DL1Summary:
    return DL1Summary(
        **{
            "file": file, "size_bytes": 3, "layout": "lstchain", "level": "DL1b",
            "simulated": False, "run": 11111, "n_events": 100,
            "n_events_by_type": {"cosmic": 90, "pedestal": 10}, "time_first": NOON,
            "time_last": NOON + dt.timedelta(seconds=10), "duration_s": 10.0, "rate_hz": 10.0,
            **values,
        }
    )  # fmt: skip


def test_no_file_is_looked_into_twice(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    first, second, damaged = (put(tmp_path, n, manifest) for n in range(3))
    known = InspectionCache(tmp_path)
    assert known.unknown([first, second, damaged]) == [first.local, second.local, damaged.local]
    known.add(
        [Inspection(first.local, summary(first.local)), Inspection(damaged.local, None, "Bad")],
        [first, damaged],
    )
    found = CachedInspection(known.of([first, second, damaged]))
    assert {local: i.error for local, i in found.items()} == {
        first.local: None,
        damaged.local: "Bad",
    }
    assert known.unknown([first]) == []

    again = InspectionCache(tmp_path)
    assert again.of([first]) == [Inspection(first.local, summary(first.local))]
    assert again.unknown([first, second, damaged]) == [second.local, damaged.local]
    other = replace(first, checksum=Checksum("adler32", "00000009"))
    assert again.unknown([other]) == [first.local], "the file was replaced"
    assert not again.of([other])


@pytest.mark.parametrize(
    "junk",
    [b"", b"{", b"[]\n", b'{"local": 1}\n', b'{"local":"x","of":[],"summary":{}}\n', b"\xff\n"],
)
def test_lines_that_are_no_records_are_passed_over(tmp_path: Path, junk: bytes) -> None:
    transfer = put(tmp_path, 0, Manifest(tmp_path / "manifest.jsonl"))
    (tmp_path / NAME).write_bytes(junk)
    known = InspectionCache(tmp_path)
    assert known.unknown([transfer]) == [transfer.local]
    known.add([Inspection(transfer.local, summary(transfer.local))], [transfer])
    assert known.unknown([transfer]) == []


# the gauge


class Told:
    """What was told, and a way to wait for it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.messages: list[tuple[float, str]] = []
        self.came = threading.Semaphore(0)
        self.error = error

    def __call__(self, percent: float, text: str) -> None:
        self.messages.append((percent, text))
        self.came.release()
        if self.error:
            raise self.error


def test_a_gauge_tells_first_now_and_then_and_last() -> None:
    told, heard = Told(), []

    class Other(Progress):
        def advance(self, n_bytes: int) -> None:
            heard.append(n_bytes)

    with ProgressArtifact(2, 1000, told, also=Other(), every_s=0.01) as gauge:
        assert told.came.acquire(timeout=WAIT_S)
        assert told.messages[0][0] == 0.0
        gauge.expect(2, 1000)
        gauge.advance(400)
        while told.messages[-1][0] != 40.0:
            assert told.came.acquire(timeout=WAIT_S)
        gauge.advance(600)
        gauge.finished(Transfer("/a", "a"))
        gauge.finished(Transfer("/b", "b"))
    assert told.messages[-1] == (100.0, "2 of 2 files, 1 kB of 1 kB")
    assert heard == [400, 600]


def test_a_gauge_that_can_t_tell_says_so_once_and_holds_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told(ConnectionError("the server is away"))
    with caplog.at_level(logging.WARNING), ProgressArtifact(1, 10, told, every_s=0.001) as gauge:
        for _ in range(5):
            gauge.advance(1)
            assert told.came.acquire(timeout=WAIT_S)
    warnings = [r for r in caplog.records if "can't be shown" in r.message]
    assert len(warnings) == 1
    assert "the server is away" in warnings[0].message


def test_a_telling_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctaflows.reporting.artifacts._PATIENCE_S", 0.05)
    hangs, release = threading.Event(), threading.Event()

    def tell(percent: float, text: str) -> None:
        hangs.set()
        release.wait(WAIT_S)

    with ProgressArtifact(1, 10, tell, every_s=0.001) as gauge:
        assert hangs.wait(WAIT_S)
        for _ in range(10_000):  # who moves files does not wait for who tells
            gauge.advance(1)
        assert not release.is_set()
    release.set()


def test_a_batch_elsewhere_counts_when_it_arrives_and_a_second_try_once() -> None:
    gauge = ProgressArtifact(4, 40, lambda percent, text: None)
    gauge.arrived(Report((Transfer("/a", "a", 10), failed("/b", Nearline("tape")))))
    percent, text = gauge.reading()
    assert percent == 25.0
    assert text.startswith("2 of 4 files, 10 B of 40 B")
    assert text.endswith("1 failed")
    again = ProgressArtifact(2, 20, lambda percent, text: None)
    again.expect(2, 20)
    again.advance(10)  # then the batch fails, is tried again, and finds one file in place
    again.expect(2, 20)
    again.advance(20)
    assert 50 < again.reading()[0] <= 100
    assert ProgressArtifact(0, 0, lambda percent, text: None).reading() == (
        100.0,
        "nothing to move",
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (89, "89 s"), (600, "10 min"), (12_000, "3 h 20 min")]
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


# the page, the assets


@pytest.fixture
def report(tmp_path: Path) -> NightReport:
    """Two runs, one of which has a failed file."""
    transfers, looked = [], []
    for run, subrun in [(11111, 0), (11111, 1), (11113, 0)]:
        name = f"dl1_LST-1.Run{run}.{subrun:04}.h5"
        local = str(tmp_path / "20241114/v0.1" / name)
        error = "Nearline: on tape" if run == 11113 else None
        transfers.append(
            Transfer(
                f"{BASE}/{name}", local, 1000, 0 if error else 1000, verified=not error, error=error
            )
        )
        if not error:
            said = (Check("readable", 1, None, None, None, "warn" if subrun else "ok"),)
            found = summary(local, n_events=100 * (subrun + 1))
            looked.append(Inspection(local, found, checks=said))
    return NightReport(
        "20241114",
        "v0.1",
        BASE,
        str(tmp_path / "20241114"),
        str(tmp_path / "20241114/manifest.jsonl"),
    ).having(transfers, looked)


def test_the_page_of_a_night(report: NightReport) -> None:
    page = digest(report)
    assert page.startswith("# Night 20241114 v0.1\n")
    assert "Not complete: 1 file failed." in page
    assert "2 of 3 files in place" in page
    assert "| 11111 | 2 | 2 |  | 2 kB | 180 | 20 | 300 | 20.0 | 15.0 |" in page
    assert "| 11113 | 1 | 0 | **1** | 1 kB |" in page
    assert "Nearline: on tape" in page
    assert "| Checks | 1 warn, 1 ok |" in page
    assert "2024-11-15 12:00:00 to 12:00:10 UTC" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    runs_table = rows[next(i for i, r in enumerate(rows) if r.startswith("| run")) :]
    assert len({row.count("|") for row in runs_table}) == 1
    whole = digest(replace(report, transfers=report.transfers[:2]))
    assert "**Complete.** 2 of 2 files in place, 2 verified, 2 kB moved." in whole
    assert "Failed" not in whole
    assert "| run | files | size | cosmic | pedestal | events | seconds | Hz |" in whole
    lacking = replace(report, transfers=report.transfers[:2], gaps=Gaps(missing=("Run11111.0002",)))
    assert "missing at the door" in digest(lacking)


def test_no_name_is_taken_for_markup(report: NightReport) -> None:
    evil = Transfer(f"{BASE}/<script>[x](http://x)|.h5", "x", error="Lost: <img src=x> `a` | b")
    page = digest(replace(report, transfers=(evil,)))
    assert "<script>" not in page
    assert "<img" not in page
    assert "[x](" not in page


def test_runs_that_came_are_assets(report: NightReport) -> None:
    (run,) = fetched_runs(report, "https://door.example.org:2880")
    assert run.key == f"file://{report.dest}/Run11111"
    assert run.origin == f"dcache://door.example.org{BASE}/Run11111"
    assert run.metadata["files"] == run.metadata["inspected"] == 2
    assert run.metadata["n_events"] == 300
    assert json.dumps(run.metadata)
    still = replace(report, transfers=tuple(replace(t, moved_bytes=0) for t in report.transfers))
    assert fetched_runs(still, "https://door.example.org:2880") == []
    assert [r.run for r in totals_by_run(report.rows())] == [11111, 11113]


def test_outside_a_run_nothing_is_told(report: NightReport, here: Path) -> None:
    import sys

    from ctaflows import settings

    before = "prefect" in sys.modules
    publish_night(report)
    assert publish_runs(report, settings.load()) == 0
    assert files_fetched(Report(report.transfers), date="20241114") == 0
    assert night_complete(replace(report, transfers=report.transfers[:2])) is False
    with progress_shown("Night", 1, 1) as gauge:
        gauge.advance(1)
    assert ("prefect" in sys.modules) is before
