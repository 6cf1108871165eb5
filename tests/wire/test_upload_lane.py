"""Small files that go up in one thread: proven as ever, and what goes wrong goes the usual way."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows import halt
from ctaflows.auth.keeper import Keeper
from ctaflows.errors import NoSpace, Stopped, TokenMissing
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.door import Door
from ctaflows.transfer import cargo, source, throttle, upload_lane, uploads
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.progress import Progress, reported_to
from ctaflows.transport import curl_many

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.model import Report, Transfer

N = 24
LIMIT = source.SMALL_BYTES
SIZES = [0, 1, LIMIT, *(i * 2000 for i in range(3, N))]
CONTENT = {f"{i:02}.h5": os.urandom(size) for i, size in enumerate(SIZES)}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that does much else, the disk may seem slow."""
    monkeypatch.setattr(upload_lane, "_SLOW_DISK_S", 60.0)


@pytest.fixture
def door(box: Sandbox) -> Iterator[Door]:
    """A door over libcurl: httpx has no such way."""
    settings = box.settings()
    with Door(settings, Keeper(settings)) as door:
        yield door


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[Path, str]]:
    folder = tmp_path / "n"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    return uploads.files_of(folder, "/up")


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were left to the usual way."""
    sent: list[str] = []
    real = cargo.upload

    def noted(door: Door, local: Path, remote: str, **how: Any) -> Any:
        sent.append(local.name)
        return real(door, local, remote, **how)

    monkeypatch.setattr(cargo, "upload", noted)
    return sent


def send(door: Door, pairs: list[tuple[Path, str]], **how: Any) -> Report:
    """Upload all, and look whether the manifest has a line for each that was moved."""
    file = pairs[0][0].parent.parent / "put.jsonl"
    report = uploads.upload_many(door, pairs, manifest=Manifest(file), **how)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    told = sorted(t.path for t in report.transfers if not t.skipped)
    assert sorted(line["path"] for line in lines) == told, "a line a file, and one only"
    assert [t.path for t in report.transfers] == [remote for _, remote in pairs]
    return report


def there(box: Sandbox) -> dict[str, bytes]:
    """All files at the door, temporary ones too."""
    files = (p for p in box.storage.rglob("*") if p.is_file())
    return {str(p.relative_to(box.storage / "up/n")): p.read_bytes() for p in files}


def timeless(transfer: Transfer) -> Transfer:
    return replace(transfer, seconds=0.0)


def assert_right(box: Sandbox, report: Report) -> None:
    assert not report.failed, report.failed
    assert there(box) == CONTENT
    assert all(t.verified and t.moved_bytes == t.size_bytes for t in report.transfers)


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(),
        Quirks(redirect_writes=False),
        Quirks(redirect_writes=False, no_checksums=True),
        Quirks(has_md5=True),
        Quirks(put_makes_parents=False),
    ],
    ids=["dcache", "no redirect", "no checksums", "md5", "no parents"],
)
def test_it_is_told_as_by_the_usual_way(
    pairs: list[tuple[Path, str]],
    one_by_one: list[str],
    monkeypatch: pytest.MonkeyPatch,
    quirks: Quirks,
) -> None:
    told, asked = [], []
    for _ in range(2):
        with Sandbox(quirks=quirks) as box:
            settings = box.settings()
            with Door(settings, Keeper(settings)) as door:
                if quirks.no_checksums:  # as with a server that is no dCache
                    door.tells_locality = False
                report = send(door, pairs)
            assert there(box) == CONTENT
            asked.append({(r.server, r.method, r.path.partition("?")[0]) for r in box.requests})
        told.append([timeless(t) for t in report.transfers])
        if len(told) == 1:
            assert one_by_one == []
        monkeypatch.setattr(cargo, "LEAST", N + 1)
        (pairs[0][0].parent.parent / "put.jsonl").unlink()
    assert len(one_by_one) == N
    assert told[0] == told[1]
    changing = {"PUT", "MOVE", "HEAD"}
    assert {a for a in asked[0] if a[1] in changing} == {a for a in asked[1] if a[1] in changing}


def test_checksums_that_may_come_late_are_waited_for_the_usual_way(
    pairs: list[tuple[Path, str]], one_by_one: list[str]
) -> None:
    with Sandbox(quirks=Quirks(no_checksums=True)) as box:
        settings = box.settings(backoff_s=0.001)
        with Door(settings, Keeper(settings)) as door:
            report = send(door, pairs)
        assert there(box) == CONTENT
    assert len(one_by_one) == N, "so soon that not much was sent twice"
    assert sum(t.retries for t in report.transfers) <= 2 * settings.transfers
    assert all("no checksum" in (t.note or "") for t in report.transfers)


def test_what_is_sent(box: Sandbox, door: Door, pairs: list[tuple[Path, str]]) -> None:
    assert_right(box, send(door, pairs))
    for seen in box.requests:
        if seen.server != "issuer":
            assert ("authorization" in seen.headers) == (seen.server == "door"), seen
        if seen.method == "PUT":
            assert ".part" in seen.path, "never under the final name"
            assert "content-type" not in seen.headers
            assert ("expect" in seen.headers) <= (seen.server == "door")
            assert "adler32" in seen.headers["want-digest"]
        if seen.method == "MOVE":
            assert seen.headers["overwrite"] == "F"


def test_what_is_there_is_not_sent_again(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]]
) -> None:
    box.put("/up/n/07.h5", b"precious")
    report = uploads.upload_many(door, pairs)
    assert [t.path for t in report.failed] == ["/up/n/07.h5"]
    assert "AlreadyExists" in (report.failed[0].error or "")
    again = uploads.upload_many(door, pairs)
    assert len(again.skipped) == N - 1
    assert there(box) == CONTENT | {"07.h5": b"precious"}
    replaced = uploads.upload_many(door, pairs, overwrite=True)
    assert not replaced.failed
    assert there(box) == CONTENT


@pytest.mark.parametrize(
    ("fault", "method", "server"),
    [
        ("503", "PUT", "door"),
        ("503", "PUT", "pool"),
        ("500", "PUT", "pool"),
        ("429", "PUT", "door"),
        ("401", "PUT", "door"),
        ("reset", "PUT", "pool"),
        ("lost", "PUT", "pool"),
        ("truncate", "PUT", "pool"),
        ("html", "PUT", "pool"),
        ("redirect_elsewhere", "PUT", "door"),
        ("507", "MOVE", "door"),
        ("401", "MOVE", "door"),
        ("500", "MOVE", "door"),
        ("503", "MOVE", "door"),
        ("reset", "MOVE", "door"),
        ("lost", "MOVE", "door"),
        ("bad_digest", "PUT", "pool"),
    ],
)
def test_what_goes_wrong_once(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], one_by_one: list[str],
    fault: str, method: str, server: str,
) -> None:  # fmt: skip
    box.faults.add(fault, times=1, path="*/.07.h5.*", server=server, method=method)
    report = send(door, pairs)
    assert_right(box, report)
    assert len(box.faults) == 0, "it happened"
    retried = {t.path.rpartition("/")[2] for t in report.transfers if t.retries}
    expected = {"07.h5"} if method == "PUT" else set()  # what was moved is not sent again
    if fault in ("reset", "lost"):  # libcurl repeats it where the connection was a kept one
        assert retried <= expected
    else:
        assert retried == expected
    assert ("07.h5" in one_by_one) == bool(retried) or fault in ("429", "503", "507", "401")


@pytest.mark.parametrize("fault", ["500", "reset", "no_digest"])
def test_what_goes_wrong_once_when_it_is_compared(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], one_by_one: list[str], fault: str
) -> None:
    box.faults.add("no_digest", times=1, path="*/.07.h5.*", server="pool", method="PUT")
    box.faults.add(fault, times=1, path="*/.07.h5.*", server="door", method="HEAD")
    assert_right(box, send(door, pairs))
    assert len(box.faults) == 0
    if fault != "reset":  # libcurl repeats it where the connection was a kept one
        assert one_by_one == ["07.h5"]


@pytest.mark.parametrize(
    ("fault", "method"),
    [
        ("403", "PUT"), ("507", "PUT"), ("reset", "PUT"), ("redirect_http", "PUT"),
        ("redirect_loop", "PUT"), ("403", "MOVE"), ("500", "MOVE"), ("bad_digest", "PUT"),
    ],
)  # fmt: skip
def test_what_stays_wrong_leaves_nothing(
    box: Sandbox, pairs: list[tuple[Path, str]], fault: str, method: str
) -> None:
    settings = box.settings(attempts=2, backoff_s=0.01)
    box.faults.add(fault, times=None, path="*/.07.h5.*", method=method)
    with Door(settings, Keeper(settings)) as door:
        report = send(door, pairs)
    assert [t.path for t in report.failed] == ["/up/n/07.h5"]
    assert there(box) == {n: data for n, data in CONTENT.items() if n != "07.h5"}
    if fault == "redirect_http":
        assert "https to http" in (report.failed[0].error or "")


@pytest.mark.parametrize("by", ["another", "ours"])
def test_what_comes_between_the_listing_and_the_move(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch,
    one_by_one: list[str], by: str,
) -> None:  # fmt: skip
    """Somebody else's file is not replaced, though it be the same as ours."""
    real = uploads.look_there
    theirs = b"theirs" if by == "another" else CONTENT["07.h5"]

    def look(*args: Any, **how: Any) -> Any:
        found = real(*args, **how)
        box.put("/up/n/07.h5", theirs)
        return found

    monkeypatch.setattr(uploads, "look_there", look)
    report = send(door, pairs)
    assert [t.path for t in report.failed] == ["/up/n/07.h5"]
    assert (report.failed[0].error or "").startswith("AlreadyExists: The target is there already")
    assert there(box) == CONTENT | {"07.h5": theirs}
    assert one_by_one == []


def test_a_busy_door_is_left_alone(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], one_by_one: list[str]
) -> None:
    """It says 503 to one; those on their way may still arrive, and no more begin this way."""
    box.faults.add("503", times=1, path="*/.00.h5.*", method="PUT")
    assert_right(box, send(door, pairs))
    assert len(one_by_one) >= N - 2 * door.settings.transfers


def test_three_failures_in_a_row_are_enough(
    box: Sandbox, pairs: list[tuple[Path, str]], one_by_one: list[str]
) -> None:
    settings = box.settings(attempts=1)
    box.faults.add("reset", times=None, server="pool", method="PUT")
    with Door(settings, Keeper(settings)) as door:
        report = send(door, pairs)
    # the empty file needs no pool
    assert {t.path for t in report.failed} == {r for _, r in pairs if not r.endswith("00.h5")}
    assert len(one_by_one) >= N - 1
    assert set(there(box)) == {"00.h5"}


def test_without_a_token_each_file_says_so(
    box: Sandbox, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {remote: None for _, remote in pairs}
    monkeypatch.setattr(uploads, "look_there", lambda *_, **__: seen)
    with Door(box.settings(), _NoToken()) as door:
        report = uploads.upload_many(door, pairs)
    assert len(report.failed) == N
    assert all("nobody logged in" in (t.error or "") for t in report.failed)


class _NoToken:
    def token(self) -> str:
        raise TokenMissing("nobody logged in")

    def renew(self, rejected: str) -> None:
        """Give none."""


@pytest.mark.parametrize("kind", ["gone", "folder", "shorter", "grown"])
def test_a_file_that_changed_here(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch,
    one_by_one: list[str], kind: str,
) -> None:  # fmt: skip
    """It changes between the look at all files and its own turn."""
    real, file = uploads.look_there, pairs[7][0]
    grown = os.urandom(LIMIT + 1)

    def look(*args: Any, **how: Any) -> Any:
        found = real(*args, **how)
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind != "gone":
            file.write_bytes(b"short" if kind == "shorter" else grown)
        return found

    monkeypatch.setattr(uploads, "look_there", look)
    report = send(door, pairs)
    rest = {n: data for n, data in CONTENT.items() if n != "07.h5"}
    if kind in ("gone", "folder"):
        assert [t.path for t in report.failed] == ["/up/n/07.h5"]
        assert there(box) == rest
    else:
        assert not report.failed
        assert there(box) == rest | {"07.h5": b"short" if kind == "shorter" else grown}
    assert ("07.h5" in one_by_one) == (kind != "shorter")


def test_a_file_that_ends_early_here_is_left_to_the_usual_way(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch,
    one_by_one: list[str],
) -> None:  # fmt: skip
    """It has become shorter since its size was looked at: not a byte goes this way."""
    real = upload_lane.LocalSource

    class Shrinking(real):  # type: ignore[valid-type, misc]
        def body(self) -> Any:
            if self.local.name == "07.h5":
                os.truncate(self.local, 10)
            return super().body()

    monkeypatch.setattr(upload_lane, "LocalSource", Shrinking)
    seen = _Sum()
    with reported_to(seen):
        report = send(door, pairs)
    assert not report.failed
    assert one_by_one == ["07.h5"]
    assert there(box) == CONTENT | {"07.h5": CONTENT["07.h5"][:10]}
    assert seen.n_bytes == report.moved_bytes


class _Sum(Progress):
    def __init__(self) -> None:
        self.n_bytes = self.n_files = 0

    def advance(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes

    def finished(self, transfer: Transfer) -> None:
        self.n_files += 1


def test_the_listener_hears_of_each_byte_once(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]]
) -> None:
    box.faults.add("500", times=1, path="*/.07.h5.*", server="pool", method="PUT")
    box.faults.add("500", times=1, path="*/.09.h5.*", method="MOVE")
    seen = _Sum()
    with reported_to(seen):
        send(door, pairs)
    assert seen.n_files == N
    assert seen.n_bytes == sum(map(len, CONTENT.values()))


@pytest.mark.parametrize(
    ("method", "server"), [("PUT", "door"), ("PUT", "pool"), ("HEAD", "door"), ("MOVE", "door")]
)
def test_a_stop_leaves_nothing(
    box: Sandbox, pairs: list[tuple[Path, str]], method: str, server: str
) -> None:
    """Some have arrived, and one gets no answer."""
    settings = box.settings(stall_timeout_s=1 if method == "MOVE" else 60)
    box.faults.add("no_digest", times=None, server="pool", method="PUT")
    box.faults.add("hang", times=1, path="*/.1?.h5.*", server=server, method=method, hang_s=60)
    stop, seen = threading.Event(), []

    class Watch(Progress):
        def finished(self, transfer: Transfer) -> None:
            seen.append(transfer.path)
            if len(seen) == 12:
                halt.stop_within(stop)

    with (
        Door(settings, Keeper(settings)) as door,
        reported_to(Watch()),
        halt.within(stop),
    ):
        began = time.monotonic()
        with pytest.raises(Stopped):
            send(door, pairs)
        assert time.monotonic() - began < 20, "only a move is waited for"
        assert door.transfer_slots._value == settings.transfers, "all slots are given back"
    arrived = there(box)
    assert not [name for name in arrived if name.endswith(".part")]
    assert {f"/up/n/{name}" for name in arrived} == set(seen), "what is there was told"
    assert 12 <= len(seen) < N


def test_an_interruption_leaves_nothing(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own in the middle: what was sent is taken away, what was moved is told."""
    real, seen = upload_lane.UploadLane._moved, _Sum()

    def moved(self: Any, errand: Any, word: Any) -> None:
        if errand.target.endswith("07.h5"):
            raise RuntimeError("our own fault")
        real(self, errand, word)

    monkeypatch.setattr(upload_lane.UploadLane, "_moved", moved)
    with reported_to(seen), pytest.raises(RuntimeError, match="our own fault"):
        uploads.upload_many(door, pairs)
    arrived = there(box)
    assert not [name for name in arrived if name.endswith(".part")]
    assert "07.h5" in arrived
    assert seen.n_files == len(arrived)


def test_a_manifest_that_can_not_be_written_is_said_with_each_file(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch,
    one_by_one: list[str],
) -> None:  # fmt: skip
    def full(*_: Any) -> None:
        raise NoSpace("No space left here")

    monkeypatch.setattr(Manifest, "append", full)
    report = uploads.upload_many(door, pairs, manifest=Manifest(pairs[0][0].parent / "m.jsonl"))
    assert len(report.failed) == N
    assert all("No space left here" in (t.error or "") for t in report.failed)
    assert there(box) == CONTENT
    assert one_by_one == [], "what is there is not sent again"


def test_sockets_that_select_can_not_wait_for(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], one_by_one: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Their numbers are too high, as in a process that holds a thousand files open."""
    monkeypatch.setattr(curl_many, "_N_SELECTABLE", 0)
    assert_right(box, send(door, pairs))
    assert one_by_one == []


def test_odd_names_go_the_usual_way(
    box: Sandbox, door: Door, tmp_path: Path, one_by_one: list[str]
) -> None:
    files = {f"{c}{i}.h5": b"x" * i for i, c in enumerate("abcdefgh é")}
    (tmp_path / "n").mkdir()
    for name, data in files.items():
        (tmp_path / "n" / name).write_bytes(data)
    assert not uploads.upload_many(door, uploads.files_of(tmp_path / "n", "/up")).failed
    assert there(box) == files
    assert sorted(one_by_one) == [" 8.h5", "é9.h5"]


def test_two_files_for_one_name(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(b"other")
    report = uploads.upload_many(door, [*pairs, (tmp_path / "other", "/up/n/07.h5")])
    assert len(report.failed) == 1
    assert report.failed[0].path == "/up/n/07.h5"
    assert set(there(box)) == set(CONTENT)


def test_a_slow_disk_is_left_to_several_threads(
    box: Sandbox, door: Door, pairs: list[tuple[Path, str]], one_by_one: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(upload_lane, "_SLOW_DISK_S", 0.0)
    monkeypatch.setattr(upload_lane, "_N_JUDGED", 4)
    assert_right(box, send(door, pairs))
    assert len(one_by_one) == N - 4


def test_the_rate_is_kept(door: Door, pairs: list[tuple[Path, str]]) -> None:
    total = sum(map(len, CONTENT.values()))
    with throttle.limited_to(total / 1.0):
        report = send(door, pairs)
    assert report.seconds > 0.4


def test_no_more_than_the_set_number_at_once(
    box: Sandbox, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    real = upload_lane.UploadLane._begin

    def begin(self: Any, place: int) -> None:
        nonlocal most
        real(self, place)
        most = max(most, len(self._begun))

    monkeypatch.setattr(upload_lane.UploadLane, "_begin", begin)
    settings = box.settings(transfers=3)
    with Door(settings, Keeper(settings)) as door:
        assert_right(box, send(door, pairs))
    assert most == 3
