"""Small files that go up in one thread: proven as ever, told as ever, within the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from uploading import CONTENT, N, assert_right, nameless, send, there, timeless

from ctaflows.auth.renewal import TokenProvider
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import cargo, progress, upload_lane, uploads
from ctaflows.transport import curl_many

if TYPE_CHECKING:
    from pathlib import Path


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
            with WebDAVStorage(settings, TokenProvider(settings)) as door:
                if quirks.no_checksums:  # as with a server that is no dCache
                    door.tells_locality = False
                report = send(door, pairs)
            assert there(box) == CONTENT
            asked.append({(r.server, r.method, nameless(r.path)) for r in box.requests})
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
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            report = send(door, pairs)
        assert there(box) == CONTENT
    assert len(one_by_one) == N, "so soon that not much was sent twice"
    assert sum(t.retries for t in report.transfers) <= 2 * settings.transfers
    assert all("no checksum" in (t.note or "") for t in report.transfers)


def test_what_is_sent(box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]]) -> None:
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
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]]
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


def test_sockets_that_select_can_not_wait_for(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]], one_by_one: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Their numbers are too high, as in a process that holds a thousand files open."""
    monkeypatch.setattr(curl_many, "_N_SELECTABLE", 0)
    assert_right(box, send(door, pairs))
    assert one_by_one == []


def test_odd_names_go_the_usual_way(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, one_by_one: list[str]
) -> None:
    files = {f"{c}{i}.h5": b"x" * i for i, c in enumerate("abcdefgh é")}
    (tmp_path / "n").mkdir()
    for name, data in files.items():
        (tmp_path / "n" / name).write_bytes(data)
    assert not uploads.upload_many(door, uploads.files_of(tmp_path / "n", "/up")).failed
    assert there(box) == files
    assert sorted(one_by_one) == [" 8.h5", "é9.h5"]


def test_two_files_for_one_name(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]], tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(b"other")
    report = uploads.upload_many(door, [*pairs, (tmp_path / "other", "/up/n/07.h5")])
    assert len(report.failed) == 1
    assert report.failed[0].path == "/up/n/07.h5"
    assert set(there(box)) == set(CONTENT)


def test_a_slow_disk_is_left_to_several_threads(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]], one_by_one: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(upload_lane, "_SLOW_DISK_S", 0.0)
    monkeypatch.setattr(upload_lane, "_N_JUDGED", 4)
    assert_right(box, send(door, pairs))
    assert len(one_by_one) == N - 4


def test_the_rate_is_kept(door: WebDAVStorage, pairs: list[tuple[Path, str]]) -> None:
    total = sum(map(len, CONTENT.values()))
    with progress.limited_to(total / 1.0):
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
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        assert_right(box, send(door, pairs))
    assert most == 3
