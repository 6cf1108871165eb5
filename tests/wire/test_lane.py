"""Small files in one thread: the good ones cost little, and what goes wrong goes the usual way."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from ctaflows.transfer.fetch import Job

from ctaflows import cancel
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import Stopped, TokenMissing
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import haul, lane, many, progress
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.progress import Progress, reported_to

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.model import Report
    from ctaflows.sandbox import Sandbox

N = 24
CONTENT = {f"/n/{i:02}.h5": bytes([i]) * (i * 2000) for i in range(N)}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that does much else, the disk may seem slow."""
    monkeypatch.setattr(lane, "_SLOW_DISK_S", 60.0)


@pytest.fixture
def door(box: Sandbox) -> Iterator[WebDAVStorage]:
    """A door over libcurl: httpx has no such way."""
    settings = box.settings()
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        yield door


@pytest.fixture
def jobs(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> list[Job]:
    for path, data in CONTENT.items():
        box.put(path, data)
    return [
        Job(e, tmp_path / "here" / e.name) for e in sorted(door.list("/n"), key=lambda e: e.path)
    ]


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were left to the usual way."""
    asked: list[str] = []
    real = haul.fetch

    def noted(door: WebDAVStorage, job: Job, **how: Any) -> Any:
        asked.append(job.entry.path)
        return real(door, job, **how)

    monkeypatch.setattr(haul, "fetch", noted)
    return asked


def fetch_all(door: WebDAVStorage, jobs: list[Job]) -> Report:
    file = jobs[0].local.parent / "manifest.jsonl"
    report = many.fetch_many(door, jobs, manifest=Manifest(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(line["path"] for line in lines) == sorted(CONTENT), "a line a file, and one only"
    assert [t.path for t in report.transfers] == [j.entry.path for j in jobs]
    return report


def assert_right(report: Report, jobs: list[Job]) -> None:
    assert not report.failed
    for transfer, job in zip(report.transfers, jobs, strict=True):
        assert job.local.read_bytes() == CONTENT[job.entry.path]
        assert transfer.verified
        assert transfer.checksum in job.entry.checksums
        assert transfer.moved_bytes == transfer.size_bytes == len(CONTENT[job.entry.path])
        assert abs(job.local.stat().st_mtime - job.entry.mtime.timestamp()) < 0.01  # type: ignore[union-attr]
    left = {p.name for p in jobs[0].local.parent.iterdir()}
    assert left == {j.local.name for j in jobs} | {"manifest.jsonl"}, "no part is left"


def test_all_come_this_way(
    box: Sandbox, door: WebDAVStorage, jobs: list[Job], one_by_one: list[str]
) -> None:
    assert_right(fetch_all(door, jobs), jobs)
    assert one_by_one == []
    asked = [r for r in box.requests if r.method == "GET"]
    assert len(asked) == 2 * N, "each at the door and at its pool, once"
    for request in asked:
        assert ("authorization" in request.headers) == (request.server == "door"), request
        assert "adler32" in request.headers["want-digest"]


def test_again_nothing_is_asked_for(box: Sandbox, door: WebDAVStorage, jobs: list[Job]) -> None:
    fetch_all(door, jobs)
    n_asked = len(box.requests)
    again = fetch_all(door, jobs)
    assert len(again.skipped) == N
    assert len(box.requests) == n_asked


def test_connections_are_kept(box: Sandbox, door: WebDAVStorage, jobs: list[Job]) -> None:
    """A second lot goes over those of the first."""
    many.fetch_many(door, jobs[: N // 2])
    transport = door.transport._fast()
    assert transport is not None
    kept = list(transport._idle_many)
    many.fetch_many(door, jobs[N // 2 :])
    assert transport._idle_many == kept
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("fault", "server"),
    [
        ("503", "door"),
        ("503", "pool"),
        ("500", "pool"),
        ("429", "door"),
        ("reset", "door"),
        ("reset", "pool"),
        ("truncate", "pool"),
        ("redirect_elsewhere", "door"),
        ("401", "door"),
    ],
)
def test_what_goes_wrong_once_is_asked_for_again(
    box: Sandbox,
    door: WebDAVStorage,
    jobs: list[Job],
    one_by_one: list[str],
    fault: str,
    server: str,
) -> None:
    box.faults.add(fault, times=1, path="*/07.h5", server=server, method="GET")
    report = fetch_all(door, jobs)
    assert_right(report, jobs)
    assert "/n/07.h5" in one_by_one
    assert {t.path for t in report.transfers if t.retries} == {"/n/07.h5"}


@pytest.mark.parametrize("fault", ["redirect_http", "redirect_loop", "403", "html"])
def test_what_stays_wrong_is_reported(
    box: Sandbox, door: WebDAVStorage, jobs: list[Job], fault: str
) -> None:
    box.faults.add(fault, times=None, path="*/07.h5", server="door", method="GET")
    report = fetch_all(door, jobs)
    assert [t.path for t in report.failed] == ["/n/07.h5"]
    assert not jobs[7].local.exists()
    if fault == "redirect_http":
        assert "https to http" in (report.failed[0].error or "")


def test_wrong_bytes_are_fetched_once_more_and_no_oftener(
    box: Sandbox, door: WebDAVStorage, jobs: list[Job]
) -> None:
    box.faults.add("flip", times=None, path="*/07.h5", server="pool")
    box.faults.add("flip", times=1, path="*/09.h5", server="pool")
    report = fetch_all(door, jobs)
    assert [t.path for t in report.failed] == ["/n/07.h5"]
    assert (report.failed[0].error or "").startswith("ChecksumMismatch: ")
    assert {t.path for t in report.transfers if t.retries} >= {"/n/09.h5"}
    for name in ("07", "09"):
        got = [r for r in box.requests if r.path.startswith(f"/n/{name}.h5") and r.method == "GET"]
        assert len([r for r in got if r.server == "pool"]) == 2


def test_a_busy_door_is_left_alone(
    box: Sandbox, door: WebDAVStorage, jobs: list[Job], one_by_one: list[str]
) -> None:
    """It says 503 to one; those on their way may still come, and no more begin this way."""
    box.faults.add("503", times=1, path="*/00.h5", method="GET")
    assert_right(fetch_all(door, jobs), jobs)
    assert len(one_by_one) >= N - 2 * door.settings.transfers


def test_three_failures_in_a_row_are_enough(
    box: Sandbox, door: WebDAVStorage, jobs: list[Job], one_by_one: list[str]
) -> None:
    box.faults.add("reset", times=None, server="pool", method="GET")
    report = many.fetch_many(door, jobs)
    assert len(report.failed) == N
    assert len(one_by_one) == N


def test_without_a_token_each_file_says_so(box: Sandbox, jobs: list[Job]) -> None:
    settings = box.settings()
    with WebDAVStorage(settings, _NoToken()) as door:
        report = many.fetch_many(door, jobs)
    assert len(report.failed) == N
    assert all("nobody logged in" in (t.error or "") for t in report.failed)


class _NoToken:
    def token(self) -> str:
        raise TokenMissing("nobody logged in")

    def renew(self, rejected: str) -> None:
        """Give none."""


def test_a_body_without_end_is_not_kept(box: Sandbox, tmp_path: Path) -> None:
    """The listing says 5 bytes, the pool sends 5 MB."""
    settings = box.settings()
    for i in range(8):
        box.put(f"/n/{i}.h5", b"x" * 5)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        jobs = [Job(e, tmp_path / e.name) for e in door.list("/n")]
        box.put("/n/3.h5", b"y" * (5 << 20))
        report = many.fetch_many(door, jobs)
    assert [t.path for t in report.failed] == [] or "3.h5" in report.failed[0].path
    big = next(t for t in report.transfers if t.path == "/n/3.h5")
    assert big.size_bytes == 5 << 20, "it was looked at again"


def test_a_stop_ends_it_soon(box: Sandbox, door: WebDAVStorage, jobs: list[Job]) -> None:
    box.faults.add("hang", times=None, path="*/2?.h5", server="pool", method="GET")
    stop = threading.Event()

    class Watch(Progress):
        n = 0

        def finished(self, _: object) -> None:
            self.n += 1
            if self.n == 8:
                threading.Timer(0.3, stop.set).start()

    with (
        reported_to(Watch()),
        pytest.raises(Stopped),
        cancel.scope(stop),
    ):
        many.fetch_many(door, jobs)
    assert door.transfer_slots._value == door.settings.transfers, "all slots are given back"
    assert not list(jobs[0].local.parent.glob(".*.part"))


def test_another_process_at_a_file_is_waited_for(
    door: WebDAVStorage, jobs: list[Job], one_by_one: list[str]
) -> None:
    """Its part lies here: the usual way holds it, or takes over what was left."""
    part = jobs[5].local.with_name(".05.h5.part")
    part.parent.mkdir()
    part.write_bytes(b"left by a kill")
    report = fetch_all(door, jobs)
    assert_right(report, jobs)
    assert one_by_one == ["/n/05.h5"]


def test_a_slow_disk_is_left_to_several_threads(
    door: WebDAVStorage, jobs: list[Job], one_by_one: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_SLOW_DISK_S", 0.0)
    monkeypatch.setattr(lane, "_N_JUDGED", 4)
    assert_right(fetch_all(door, jobs), jobs)
    assert N - 4 - door.settings.transfers <= len(one_by_one) < N


def test_a_folder_that_can_not_be_written_is_named(
    door: WebDAVStorage, jobs: list[Job], tmp_path: Path
) -> None:
    (tmp_path / "here").write_bytes(b"a file")
    report = many.fetch_many(door, jobs)
    assert len(report.failed) == N
    assert all("can't be written" in (t.error or "") for t in report.failed)


def test_the_rate_is_kept(door: WebDAVStorage, jobs: list[Job]) -> None:
    total = sum(map(len, CONTENT.values()))
    with progress.limited_to(total / 1.0):
        report = many.fetch_many(door, jobs)
    assert report.seconds > 0.4


def test_no_more_than_the_set_number_at_once(box: Sandbox, tmp_path: Path) -> None:
    settings = box.settings(transfers=3)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        for path, data in CONTENT.items():
            box.put(path, data)
        jobs = [Job(e, tmp_path / e.name) for e in door.list("/n")]
        seen = _Most(door)
        many.fetch_many(door, jobs)
    assert 1 < seen.most <= 3


class _Most:
    """Sees how many are on their way, each time that one has come."""

    def __init__(self, door: WebDAVStorage) -> None:
        self.most = 0
        real = door.receive_small

        def watched(entries: Any, **how: Any) -> Iterator[Any]:
            out: set[str] = set()

            def noted() -> Iterator[Any]:
                for path, tag in entries:
                    out.add(path)
                    self.most = max(self.most, len(out))
                    yield path, tag

            for tag, head, body in real(noted(), **how):
                out.discard(tag[1].entry.path)
                yield tag, head, body

        door.receive_small = watched  # type: ignore[method-assign]
