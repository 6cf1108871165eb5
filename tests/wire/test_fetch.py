"""Fetching: resumed, verified, atomic, whatever the door and the pool do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ctaflows.transfer.fetch import Job, fetch
from fetching import DATA, interrupt, job, names

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import (
    ChecksumMismatch,
    CtaflowsError,
    DoorBusy,
    Nearline,
    NetworkError,
    NoSpace,
    ProtocolSurprise,
    Truncated,
    UsageError,
)
from ctaflows.model import Checksum
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import many

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.model import Transfer


def test_a_file_comes_whole_and_proven(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    box.put("/a.h5", DATA)
    done = fetch(door, job(door, "/a.h5", tmp_path / "new"))
    file = tmp_path / "new/a.h5"
    assert file.read_bytes() == DATA
    assert done.verified
    assert str(done.checksum) == f"adler32:{zlib.adler32(DATA):08x}"
    assert done.moved_bytes == done.size_bytes == len(DATA)
    assert done.mtime
    assert abs(file.stat().st_mtime - done.mtime.timestamp()) < 1
    assert (done.server or "").startswith("dCache")
    assert names(file.parent) == ["a.h5"]


def test_an_empty_file(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    box.put("/a.h5", b"")
    assert fetch(door, job(door, "/a.h5", tmp_path)).verified
    assert (tmp_path / "a.h5").read_bytes() == b""


def test_a_proof_of_another_file_of_the_same_size_and_time_does_not_count(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    one = job(door, "/a.h5", tmp_path)
    done = fetch(door, one)
    again = fetch(door, one, proof=done, check="size")
    assert (again.skipped, again.verified, again.checksum) == (True, True, done.checksum)
    other = replace(one, entry=replace(one.entry, checksums=(Checksum("adler32", "00000001"),)))
    unproven = fetch(door, other, proof=done, check="size")
    assert (unproven.skipped, unproven.verified) == (True, False)


def test_what_is_here_and_proven_is_not_moved(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    fetch(door, job(door, "/a.h5", tmp_path))
    box.requests.clear()
    again = fetch(door, job(door, "/a.h5", tmp_path))
    assert again.skipped
    assert again.verified
    assert again.moved_bytes == 0
    assert all(r.method != "GET" for r in box.requests)


def test_a_file_that_rotted_here_is_fetched_again(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    fetch(door, job(door, "/a.h5", tmp_path))
    (tmp_path / "a.h5").write_bytes(b"!" + DATA[1:])
    again = fetch(door, job(door, "/a.h5", tmp_path))
    assert not again.skipped
    assert (tmp_path / "a.h5").read_bytes() == DATA


@pytest.mark.parametrize("fault", ["reset", "truncate", "503", "500", "502"])
@pytest.mark.parametrize("server", ["door", "pool"])
def test_faults_that_pass(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, fault: str, server: str
) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, "/a.h5", tmp_path)
    box.faults.add(fault, times=2, server=server, method="GET")
    done = fetch(door, wanted)
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.verified
    # a redirect has no body that could be cut short
    assert done.retries >= (0 if (fault, server) == ("truncate", "door") else 1)


def test_a_broken_connection_goes_on_where_it_was(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("truncate", times=1, server="pool")
    done = fetch(door, job(door, "/a.h5", tmp_path))
    ranges = [r.headers.get("range") for r in box.requests if r.server == "pool"]
    assert ranges[0] is None
    assert (ranges[1] or "").startswith("bytes=")
    assert done.moved_bytes == len(DATA)


def test_a_server_that_ignores_ranges_costs_time_but_no_byte(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("truncate", times=1, server="pool")
    box.faults.add("ignore_range", times=None)
    done = fetch(door, job(door, "/a.h5", tmp_path))
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.verified
    assert done.moved_bytes > len(DATA)


def test_a_flipped_byte_is_found_and_fetched_again(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("flip", times=1, server="pool")
    done = fetch(door, job(door, "/a.h5", tmp_path))
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.verified
    assert done.retries == 1


def test_a_file_damaged_at_the_storage_is_reported(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("flip", times=None, server="pool")
    with pytest.raises(ChecksumMismatch) as why:
        fetch(door, job(door, "/a.h5", tmp_path))
    assert "/a.h5" in str(why.value)
    assert names(tmp_path) == []


def test_the_source_replaced_meanwhile_is_noticed(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, "/a.h5", tmp_path)
    newer = DATA[::-1]
    box.put("/a.h5", newer)
    assert fetch(door, wanted).verified
    assert (tmp_path / "a.h5").read_bytes() == newer


def test_a_part_of_another_version_is_not_used(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, "/a.h5", tmp_path))
    newer = os.urandom(len(DATA))
    box.put("/a.h5", newer)
    done = fetch(door, job(door, "/a.h5", tmp_path))
    assert done.resumed_bytes == 0
    assert (tmp_path / "a.h5").read_bytes() == newer


def test_an_interrupted_fetch_goes_on(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, "/a.h5", tmp_path))
    assert names(tmp_path) == [".a.h5.part", ".a.h5.part.json"]
    done = fetch(door, job(door, "/a.h5", tmp_path))
    assert done.resumed_bytes >= 100_000
    assert done.moved_bytes == len(DATA) - done.resumed_bytes
    assert done.verified
    assert names(tmp_path) == ["a.h5"]


def test_all_bytes_there_but_no_name_yet(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, "/a.h5", tmp_path))
    (tmp_path / ".a.h5.part").write_bytes(DATA)
    done = fetch(door, job(door, "/a.h5", tmp_path))
    assert (done.moved_bytes, done.resumed_bytes, done.verified) == (0, len(DATA), True)
    assert names(tmp_path) == ["a.h5"]


def test_a_part_that_rotted_is_found_by_the_whole_checksum(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    interrupt(door, job(door, "/a.h5", tmp_path))
    part = tmp_path / ".a.h5.part"
    part.write_bytes(b"!" + part.read_bytes()[1:])
    done = fetch(door, job(door, "/a.h5", tmp_path))
    assert done.verified
    assert (tmp_path / "a.h5").read_bytes() == DATA


KILLED = """
import sys, os, signal
from pathlib import Path
from ctaflows.transfer.progress import Progress, reported_to
from ctaflows.tasks import fetch_file

class Watch(Progress):
    seen = 0
    def advance(self, n_bytes):
        self.seen += n_bytes
        if self.seen >= int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

with reported_to(Watch()):
    fetch_file("/a.h5", ".")
"""


@pytest.mark.parametrize("after", [1, 70_000, 299_999])
def test_a_killed_process_loses_nothing(
    box: Sandbox, door: WebDAVStorage, here: Path, after: int
) -> None:
    box.put("/a.h5", DATA)
    done = subprocess.run([sys.executable, "-c", KILLED, str(after)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (here / "a.h5").exists()
    on_disk = (here / ".a.h5.part").stat().st_size
    again = fetch(door, job(door, "/a.h5", here))
    assert again.resumed_bytes == on_disk > 0
    assert (here / "a.h5").read_bytes() == DATA
    assert names(here) == ["a.h5"]


def test_no_checksum_is_said_and_our_own_is_noted(tmp_path: Path) -> None:
    with Sandbox(quirks=Quirks(no_checksums=True)) as box:
        box.put("/a.h5", DATA)
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            done = fetch(door, job(door, "/a.h5", tmp_path))
            assert not done.verified
            assert done.checksum is not None
            assert done.checksum.algorithm == "sha256"
            assert "no checksum" in (done.note or "")
            again = fetch(door, job(door, "/a.h5", tmp_path))
            assert again.skipped
            assert not again.verified


def test_the_digest_of_the_answer_counts_where_the_listing_has_none(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, "/a.h5", tmp_path)
    bare = Job(type(wanted.entry)("/a.h5", False, len(DATA), wanted.entry.mtime), wanted.local)
    assert fetch(door, bare).verified
    (tmp_path / "a.h5").unlink()
    box.faults.add("bad_digest", times=1, server="pool")
    assert fetch(door, bare).retries == 1


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda box: box.locality("/a.h5", "NEARLINE"), Nearline),
        (lambda box: box.uploading("/a.h5"), DoorBusy),
        (lambda box: box.faults.add("truncate", times=None), (NetworkError, Truncated)),
        (lambda box: box.faults.add("redirect_loop", times=None, method="GET"), ProtocolSurprise),
    ],
)
def test_what_can_not_be_had(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path,
    prepare: Callable[[Sandbox], object], expected: type[CtaflowsError],
) -> None:  # fmt: skip
    box.put("/a.h5", b"")
    box.put("/a.h5", DATA[:10])
    wanted = job(door, "/a.h5", tmp_path)
    prepare(box)
    if expected is not ProtocolSurprise and not box.faults:
        wanted = job(door, "/a.h5", tmp_path)
    with pytest.raises(expected):
        fetch(door, wanted)
    assert not (tmp_path / "a.h5").exists()


def test_a_destination_that_can_not_be_written(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="can't be written"):
        fetch(door, Job(door.stat("/a.h5"), tmp_path / "file" / "a.h5"))
    (tmp_path / "a.h5").mkdir()
    with pytest.raises(UsageError, match="can't be written"):
        fetch(door, job(door, "/a.h5", tmp_path))


def test_no_space_is_said_before_the_disk_is_full(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("/a.h5", DATA)
    monkeypatch.setattr(many.shutil, "disk_usage", lambda _: os.terminal_size((0, 0)) and Free())
    with pytest.raises(NoSpace):
        many.fetch_many(door, [job(door, "/a.h5", tmp_path)])
    assert names(tmp_path) == []


class Free:
    total = used = free = 1000


def test_two_processes_want_the_same_file(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    box.put("/a.h5", DATA)
    wanted = job(door, "/a.h5", tmp_path)
    results: list[Transfer] = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch(door, wanted))) for _ in range(6)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 6
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert names(tmp_path) == ["a.h5"]
