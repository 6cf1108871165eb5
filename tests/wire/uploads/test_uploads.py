"""Many files that go up: proven, told, within the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from uploading import CONTENT, N, assert_right, send, there

from ctaflows.auth.renewal import TokenProvider
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import progress, uploads
from ctaflows.transport import handles
from ctaflows.transport.driver import Driver

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
def test_they_arrive_at_each_kind_of_server(pairs: list[tuple[Path, str]], quirks: Quirks) -> None:
    with Sandbox(quirks=quirks) as box:
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            if quirks.no_checksums:  # as with a server that is no dCache
                door.tells_locality = False
            report = send(door, pairs)
        assert there(box) == CONTENT
        put = [r for r in box.requests if r.method == "PUT" and ".07.h5" in r.path]
    assert not report.failed
    assert all(t.retries == 0 and t.moved_bytes == t.size_bytes for t in report.transfers)
    assert all(t.verified != quirks.no_checksums for t in report.transfers)
    assert 1 <= len(put) <= 3, "with the door's redirect, or until it is known that there is none"


def test_checksums_that_may_come_late_are_waited_for(pairs: list[tuple[Path, str]]) -> None:
    with Sandbox(quirks=Quirks(no_checksums=True)) as box:
        settings = box.settings(backoff_s=0.001)
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            report = send(door, pairs)
        assert there(box) == CONTENT
        heads = [r for r in box.requests if r.method == "HEAD"]
    assert len(heads) == 5 * N
    assert all(t.retries == 0 for t in report.transfers)
    assert all("no checksum" in (t.note or "") for t in report.transfers)


def test_odd_names_are_looked_at_once_more(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path
) -> None:
    files = {f"{c}{i}.h5": b"x" * i for i, c in enumerate("abcdefgh é")}
    (tmp_path / "n").mkdir()
    for name, data in files.items():
        (tmp_path / "n" / name).write_bytes(data)
    assert not uploads.upload_many(door, uploads.files_of(tmp_path / "n", "/up")).failed
    assert there(box) == files
    looked = {r.path for r in box.requests if r.method == "PROPFIND" and r.path.endswith(".h5")}
    assert len(looked) == 2


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
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Their numbers are too high, as in a process that holds a thousand files open."""
    monkeypatch.setattr(handles, "_N_SELECTABLE", 0)
    assert_right(box, send(door, pairs))


def test_two_files_for_one_name(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]], tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(b"other")
    report = uploads.upload_many(door, [*pairs, (tmp_path / "other", "/up/n/07.h5")])
    assert len(report.failed) == 1
    assert report.failed[0].path == "/up/n/07.h5"
    assert set(there(box)) == set(CONTENT)


def test_the_rate_is_kept(door: WebDAVStorage, pairs: list[tuple[Path, str]]) -> None:
    total = sum(map(len, CONTENT.values()))
    with progress.limited_to(total / 1.0):
        report = send(door, pairs)
    assert report.seconds > 0.4


def test_no_more_than_the_set_number_at_once(
    box: Sandbox, pairs: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    most, real = [], Driver.run

    def run(self: Any, more: Any, session: Any, width: Any, **how: Any) -> Any:
        for task in real(self, more, session, width, **how):
            most.append(session.settings.transfers - session.slots.n_free)
            yield task

    monkeypatch.setattr(Driver, "run", run)
    settings = box.settings(transfers=3)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        assert_right(box, send(door, pairs))
        assert door.session.slots.n_free == 3
    assert max(most) == 2, "and the one that has ended"
