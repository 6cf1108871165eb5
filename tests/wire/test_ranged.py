"""One file in several ranges at once: whole, proven, resumed, whatever the servers do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib
from typing import TYPE_CHECKING

import pytest
from ctaflows.transfer.fetch import Job, fetch
from fetching import fetch_thrice
from sinkkit import Counted

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import ChecksumMismatch, NetworkError, Stopped
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import many
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.progress import Progress, reported_to
from ctaflows.transfer.verify import verify

if TYPE_CHECKING:
    from pathlib import Path


DATA = os.urandom(3_000_000)
RANGE_BYTES = 1 << 18
N_RANGES = -(-len(DATA) // RANGE_BYTES)


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 3 MB is large."""
    monkeypatch.setattr("ctaflows.transfer.fetch.RANGES_FROM_BYTES", 1 << 20)
    monkeypatch.setattr("ctaflows.transfer.range_journal._MIN_RANGE_BYTES", RANGE_BYTES)
    monkeypatch.setattr("ctaflows.transfer.range_journal._MAX_RANGE_BYTES", RANGE_BYTES)


#: Where the library that carries the bytes makes no difference.
once = pytest.mark.parametrize("door", ["libcurl"], indirect=True)


def job(door: WebDAVStorage, folder: Path, path: str = "/a.h5") -> Job:
    entry = door.stat(path)
    return Job(entry, folder / entry.name)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def asked(box: Sandbox) -> list[str | None]:
    """Which ranges came to the pool?"""
    return [r.headers.get("range") for r in box.requests if r.server == "pool"]


def replace(box: Sandbox, data: bytes) -> None:
    """Let another file take the place of the first one, all at once."""
    box.put("/new", data).replace(box.storage / "a.h5")


def all_slots_are_free(door: WebDAVStorage) -> bool:
    n_slots = door.settings.transfers
    free = [door.transfer_slots.acquire(blocking=False) for _ in range(n_slots)]
    for _ in filter(None, free):
        door.transfer_slots.release()
    return all(free)


class Watch(Progress):
    """Calls once so many bytes have come."""

    def __init__(self, after: int, call: object) -> None:
        self.seen, self.after, self.call = 0, after, call
        self.lock = threading.Lock()

    def advance(self, n_bytes: int) -> None:
        with self.lock:
            self.seen += n_bytes
            if self.call and self.seen >= self.after:
                call, self.call = self.call, None
                call()  # type: ignore[operator]


def interrupt(door: WebDAVStorage, wanted: Job, after: int = 1_000_000) -> None:
    stop = threading.Event()
    with reported_to(Watch(after, stop.set)), pytest.raises(Stopped):
        fetch(door, wanted, stop=stop)


def test_it_comes_whole_and_proven_in_several_ranges(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    done = fetch(door, job(door, tmp_path))
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.verified
    assert str(done.checksum) == f"adler32:{zlib.adler32(DATA):08x}"
    assert done.moved_bytes == len(DATA)
    assert (done.server or "").startswith("dCache")
    assert done.mtime
    assert abs((tmp_path / "a.h5").stat().st_mtime - done.mtime.timestamp()) < 1
    assert names(tmp_path) == ["a.h5"]
    starts = range(0, len(DATA), RANGE_BYTES)
    expected = {f"bytes={n}-{min(n + RANGE_BYTES, len(DATA)) - 1}" for n in starts}
    assert set(asked(box)) == expected
    assert len(expected) == N_RANGES
    assert all_slots_are_free(door)


@once
def test_its_record_tells_its_size(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    box.put("/a.h5", DATA)
    assert fetch(door, job(door, tmp_path)).size_bytes == len(DATA)


@once
def test_its_manifest_lets_it_be_verified(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    many.fetch_many(door, [job(door, tmp_path)], manifest=Manifest(tmp_path / "manifest.jsonl"))
    assert [v.verdict for v in verify(tmp_path)] == ["intact"]


def test_an_md5_is_computed_over_the_ranges_in_order(tmp_path: Path) -> None:
    with Sandbox(quirks=Quirks(has_md5=True)) as box:
        box.put("/a.h5", DATA)
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            done = fetch(door, job(door, tmp_path))
    assert done.verified
    assert done.checksum is not None
    assert done.checksum.algorithm == "md5"
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_no_checksum_is_said_and_our_own_is_noted(tmp_path: Path) -> None:
    import hashlib

    with Sandbox(quirks=Quirks(no_checksums=True)) as box:
        box.put("/a.h5", DATA)
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            done = fetch(door, job(door, tmp_path))
        assert len(asked(box)) >= N_RANGES
    assert not done.verified
    assert str(done.checksum) == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert "no checksum" in (done.note or "")


def test_after_a_stop_only_what_is_missing_moves(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, tmp_path))
    assert names(tmp_path) == [".a.h5.part", ".a.h5.part.json", ".a.h5.part.ranges"]
    assert all_slots_are_free(door)
    done = fetch(door, job(door, tmp_path))
    assert done.resumed_bytes >= 1_000_000
    assert done.moved_bytes == len(DATA) - done.resumed_bytes
    assert done.verified
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert names(tmp_path) == ["a.h5"]


@once
def test_what_came_in_one_piece_is_gone_on_with_in_ranges(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("/a.h5", DATA)
    with monkeypatch.context() as alone:
        alone.setattr("ctaflows.transfer.fetch.RANGES_FROM_BYTES", 1 << 40)
        interrupt(door, job(door, tmp_path), after=500_000)
    here = (tmp_path / ".a.h5.part").stat().st_size
    done = fetch(door, job(door, tmp_path))
    assert done.resumed_bytes == here >= 500_000
    assert done.moved_bytes == len(DATA) - here
    assert done.verified
    assert (tmp_path / "a.h5").read_bytes() == DATA


@once
def test_what_came_in_ranges_is_gone_on_with_by_one_connection(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, tmp_path))
    settings = box.settings(transfers=1)
    with WebDAVStorage(settings, TokenProvider(settings)) as alone:
        done = fetch(alone, job(alone, tmp_path))
    assert done.resumed_bytes + done.moved_bytes == len(DATA)
    assert done.resumed_bytes >= 1_000_000
    assert (tmp_path / "a.h5").read_bytes() == DATA


KILLED = """
import os, signal, sys
from ctaflows.tasks import fetch_file
from ctaflows.transfer import fetch, range_journal
from ctaflows.transfer.progress import Progress, reported_to

fetch.RANGES_FROM_BYTES = 1 << 20
range_journal._MIN_RANGE_BYTES = range_journal._MAX_RANGE_BYTES = 1 << 18

class Watch(Progress):
    seen = 0
    def advance(self, n_bytes):
        self.seen += n_bytes
        if self.seen >= int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

with reported_to(Watch()):
    fetch_file("/a.h5", ".")
"""


@pytest.mark.parametrize("after", [1, 1_500_000, len(DATA)])
def test_a_killed_process_loses_nothing(box: Sandbox, here: Path, after: int) -> None:
    box.put("/a.h5", DATA)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(after)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert names(here) == [".a.h5.part", ".a.h5.part.json", ".a.h5.part.ranges"]
    settings = box.settings()
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        done = fetch(door, job(door, here))
    assert done.resumed_bytes >= after
    assert done.moved_bytes == len(DATA) - done.resumed_bytes
    assert done.verified
    assert (here / "a.h5").read_bytes() == DATA
    assert names(here) == ["a.h5"]


def write_ledger(folder: Path) -> None:
    """Promise every range."""
    ends = [*range(RANGE_BYTES, len(DATA), RANGE_BYTES), len(DATA)]
    (folder / ".a.h5.part.ranges").write_text("".join(f"{n:020d}\n" for n in ends))


@once
def test_ranges_whose_part_was_removed_by_hand(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, tmp_path))
    (tmp_path / ".a.h5.part").unlink()
    assert fetch(door, job(door, tmp_path)).verified
    assert (tmp_path / "a.h5").read_bytes() == DATA


@pytest.mark.parametrize("n_bytes", [0, 1_000_000])
@once
def test_a_ledger_that_promises_more_than_the_part_holds(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, n_bytes: int
) -> None:
    """A crash of the system took the end of the part, or somebody removed it."""
    box.put("/a.h5", DATA)
    interrupt(door, job(door, tmp_path))
    write_ledger(tmp_path)
    os.truncate(tmp_path / ".a.h5.part", n_bytes)
    assert fetch(door, job(door, tmp_path)).verified
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert names(tmp_path) == ["a.h5"]


@once
def test_a_ledger_that_promises_bytes_that_never_came_is_found_out(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, tmp_path))
    write_ledger(tmp_path)
    os.truncate(tmp_path / ".a.h5.part", len(DATA))
    done = fetch(door, job(door, tmp_path))
    assert done.verified
    assert done.retries >= 1
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_a_server_without_ranges_gives_it_in_one_piece(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("ignore_range", times=None)
    done = fetch(door, job(door, tmp_path))
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.verified
    assert names(tmp_path) == ["a.h5"]
    assert None in asked(box)
    assert all_slots_are_free(door)


@pytest.mark.parametrize("fault", ["reset", "truncate", "503"])
@pytest.mark.parametrize("server", ["door", "pool"])
def test_faults_that_pass(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, fault: str, server: str
) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, tmp_path)
    box.faults.add(fault, times=3, server=server, method="GET")
    done = fetch(door, wanted)
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.verified
    assert done.retries >= (0 if (fault, server) == ("truncate", "door") else 1)
    assert names(tmp_path) == ["a.h5"]
    assert all_slots_are_free(door)


def test_faults_that_stay_keep_what_came(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, tmp_path)

    def break_all() -> None:
        box.faults.add("reset", times=None, server="pool")

    with reported_to(Watch(500_000, break_all)), pytest.raises(NetworkError):
        fetch(door, wanted)
    assert names(tmp_path) == [".a.h5.part", ".a.h5.part.json", ".a.h5.part.ranges"]
    assert all_slots_are_free(door)
    box.faults.clear()
    done = fetch(door, wanted)
    assert done.resumed_bytes >= 500_000
    assert done.moved_bytes == len(DATA) - done.resumed_bytes
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_a_flipped_byte_is_found_and_the_file_fetched_again(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("flip", times=1, server="pool")
    done = fetch(door, job(door, tmp_path))
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.verified
    assert done.retries == 1


@once
def test_a_file_damaged_at_the_storage_is_reported(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("flip", times=None, server="pool")
    with pytest.raises(ChecksumMismatch, match=r"/a\.h5"):
        fetch(door, job(door, tmp_path))
    assert names(tmp_path) == []
    assert all_slots_are_free(door)


@pytest.mark.parametrize("n_bytes", [len(DATA), len(DATA) + 1000])
def test_the_source_replaced_in_between_is_noticed(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, n_bytes: int
) -> None:
    newer = os.urandom(n_bytes)
    box.put("/a.h5", DATA)
    wanted = job(door, tmp_path)
    with reported_to(Watch(500_000, lambda: replace(box, newer))):
        done = fetch(door, wanted)
    assert done.verified
    assert done.retries >= 1
    assert (tmp_path / "a.h5").read_bytes() == newer
    assert names(tmp_path) == ["a.h5"]


@once
def test_a_source_that_became_shorter_is_noticed(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    listed = job(door, tmp_path)
    interrupt(door, listed)
    replace(box, b"short")
    assert fetch(door, listed).verified
    assert (tmp_path / "a.h5").read_bytes() == b"short"


@once
def test_ranges_of_another_version_are_not_used(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, tmp_path))
    newer = os.urandom(len(DATA))
    box.put("/a.h5", newer)
    done = fetch(door, job(door, tmp_path))
    assert (done.resumed_bytes, done.retries) == (0, 0)
    assert (tmp_path / "a.h5").read_bytes() == newer


@pytest.mark.parametrize("fault", [None, "flip", "ignore_range"])
@once
def test_progress_ends_at_the_whole(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, fault: str | None
) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, tmp_path)
    if fault:
        box.faults.add(fault, times=1 if fault == "flip" else None, server="pool")
    watch = Watch(0, None)
    with reported_to(watch):
        fetch(door, wanted)
    assert watch.seen == len(DATA)


@pytest.mark.parametrize("transfers", [2, 3])
def test_no_more_connections_than_transfers(box: Sandbox, tmp_path: Path, transfers: int) -> None:
    settings = box.settings(transfers=transfers)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        for name in "abc":
            box.put(f"/{name}.h5", DATA)
        jobs = [job(door, tmp_path, f"/{name}.h5") for name in "abc"]
        counted = Counted(door)
        report = many.fetch_many(door, jobs)
        assert not report.failed
        assert all_slots_are_free(door)
    assert 1 < counted.most <= transfers
    assert all((tmp_path / f"{name}.h5").read_bytes() == DATA for name in "abc")


@once
def test_two_at_the_same_file_fetch_it_once(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, tmp_path)
    results = fetch_thrice(door, wanted)
    assert len(results) == 3
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert names(tmp_path) == ["a.h5"]
    assert all_slots_are_free(door)
