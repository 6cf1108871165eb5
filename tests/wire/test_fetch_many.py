"""Many files at once: each with its result, within the limits, and none in place of another."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fetching import DATA, fetch_thrice, interrupt, job, names
from sinkkit import Counted, fetch

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import (
    UsageError,
)
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import batch
from ctaflows.transfer.download import Job
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.progress import Progress, reported_to

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox


def night(box: Sandbox, door: WebDAVStorage, folder: Path, n: int = 20) -> list[Job]:
    for i in range(n):
        box.put(f"/n/{i:02}.h5", DATA[i:])
    return [Job(e, folder / e.name) for e in sorted(door.list("/n"), key=lambda e: e.path)]


def test_many_with_a_manifest(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    jobs = night(box, door, tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    report = batch.fetch_many(door, jobs, manifest=Manifest(manifest))
    assert [t.path for t in report.transfers] == [j.entry.path for j in jobs]
    assert not report.failed
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert {line["path"] for line in lines} == {j.entry.path for j in jobs}
    assert all(line["verified"] for line in lines)
    again = batch.fetch_many(door, jobs, manifest=Manifest(manifest))
    assert again.moved_bytes == 0
    assert len(again.skipped) == len(jobs)
    assert len(manifest.read_text().splitlines()) == len(jobs)


def test_some_fail_and_the_rest_is_done(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    jobs = night(box, door, tmp_path)
    box.faults.add("403", times=None, path="*07.h5")
    report = batch.fetch_many(door, jobs, manifest=Manifest(tmp_path / "manifest.jsonl"))
    assert [t.path for t in report.failed] == ["/n/07.h5"]
    assert (report.failed[0].error or "").startswith("Refused: ")
    assert sum((tmp_path / f"{i:02}.h5").exists() for i in range(20)) == 19
    box.faults.clear()
    retry = batch.fetch_many(door, jobs, manifest=Manifest(tmp_path / "manifest.jsonl"))
    assert not retry.failed
    assert len(retry.skipped) == 19


def test_no_more_than_the_set_number_at_once(box: Sandbox, tmp_path: Path) -> None:
    settings = box.settings(transfers=3)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        jobs = night(box, door, tmp_path)
        counted = Counted(door)
        threads = [
            threading.Thread(target=batch.fetch_many, args=(door, jobs[i::2])) for i in range(2)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert 1 < counted.most <= 3


def test_no_secret_is_logged(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("reset", times=1, server="pool")
    with caplog.at_level(logging.DEBUG):
        fetch(door, job(door, "/a.h5", tmp_path))
    secrets = {r.headers["authorization"].removeprefix("Bearer ") for r in box.requests
               if "authorization" in r.headers}  # fmt: skip
    secrets |= {
        part.removeprefix("dcache-http-uuid=")
        for r in box.requests
        for part in r.path.partition("?")[2].split("&")
        if part.startswith("dcache-http-uuid=")
    }
    assert len(secrets) >= 2
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("ctaflows.sandbox")]
    assert any("//localhost:" in line for line in ours), "the library does log addresses"
    assert not any("dcache-http-uuid" in line for line in ours)
    assert not [line for line in ours if any(s in line for s in secrets)]


def test_two_files_of_one_name_here_are_refused(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/x/a.h5", b"1")
    box.put("/y/a.h5", b"2")
    jobs = [job(door, path, tmp_path) for path in ("/x/a.h5", "/y/a.h5")]
    with pytest.raises(UsageError, match="same name"):
        batch.fetch_many(door, jobs)
    assert names(tmp_path) == []


def test_who_waited_for_another_process_does_not_fetch_again(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("slow", times=1, server="pool", rate_bytes_s=600_000)
    wanted = job(door, "/a.h5", tmp_path)
    results = fetch_thrice(door, wanted)
    assert sum(r.moved_bytes for r in results) == len(DATA)
    assert [r.verified for r in results] == [True] * 3
    assert names(tmp_path) == ["a.h5"]


def test_an_earlier_proof_is_not_weakened(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    """The listing has no checksum, the answer had one: a second run must not forget it."""
    box.put("/a.h5", DATA)
    entry = door.stat("/a.h5")
    bare = Job(replace(entry, checksums=()), tmp_path / "a.h5")
    manifest = Manifest(tmp_path / "manifest.jsonl")
    assert batch.fetch_many(door, [bare], manifest=manifest).transfers[0].verified
    again = batch.fetch_many(door, [bare], manifest=Manifest(manifest.file)).transfers[0]
    assert again.skipped
    assert again.verified
    assert again.checksum is not None
    assert again.checksum.algorithm == "adler32"


def test_a_file_named_as_our_part_does_not_become_another_s_content(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/.a.h5.part", b"other")
    box.put("/a.h5", DATA)
    stop = threading.Event()

    class Meddle(Progress):
        def advance(self, n_bytes: int) -> None:
            if n_bytes > 0 and not stop.is_set():
                stop.set()
                other = tmp_path / "new"
                other.write_bytes(b"other")
                other.replace(tmp_path / ".a.h5.part")

    with reported_to(Meddle()), pytest.raises(UsageError, match="part's place"):
        fetch(door, job(door, "/a.h5", tmp_path))
    assert not (tmp_path / "a.h5").exists()


def test_a_manifest_that_can_not_be_written_spoils_no_report(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    jobs = night(box, door, tmp_path, 3)
    report = batch.fetch_many(door, jobs, manifest=Manifest(Path("/dev/full")))
    assert [(t.error or "")[:7] for t in report.transfers] == ["NoSpace"] * 3
    assert all(job.local.exists() for job in jobs)


def test_what_is_here_in_part_counts_against_the_space(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, "/a.h5", tmp_path)
    interrupt(door, wanted, after=250_000)
    monkeypatch.setattr(batch.shutil, "disk_usage", lambda _: Small())
    assert not batch.fetch_many(door, [wanted]).failed


class Small:
    total = used = 0
    free = 60_000
