"""What happens here while many files go up: files that change, stops, a full disk."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from uploading import CONTENT, LIMIT, N, send, there

from ctaflows import cancel
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import NoSpace, Stopped
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import upload, uploads
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.progress import Progress, reported_to

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.model import Transfer
    from ctaflows.sandbox import Sandbox


@pytest.mark.parametrize("kind", ["gone", "folder", "shorter", "grown"])
def test_a_file_that_changed_here(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]],
    monkeypatch: pytest.MonkeyPatch, kind: str,
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


def test_a_file_that_ends_early_here_is_not_sent(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It has become shorter since it was opened."""
    real = upload.LocalSource

    class Shrinking(real):  # type: ignore[valid-type, misc]
        def body(self) -> Any:
            if self.local.endswith("07.h5"):
                os.truncate(self.local, 10)
            return super().body()

    monkeypatch.setattr(upload, "LocalSource", Shrinking)
    report = send(door, pairs)
    assert [t.path for t in report.failed] == ["/up/n/07.h5"]
    assert (report.failed[0].error or "").startswith("SourceChanged: The file here changed")
    assert there(box) == {n: data for n, data in CONTENT.items() if n != "07.h5"}


class _Sum(Progress):
    def __init__(self) -> None:
        self.n_bytes = self.n_files = 0

    def advance(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes

    def finished(self, transfer: Transfer) -> None:
        self.n_files += 1


def test_the_listener_hears_of_each_byte_once(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]]
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
                cancel.stop_within(stop)

    with (
        WebDAVStorage(settings, TokenProvider(settings)) as door,
        reported_to(Watch()),
        cancel.scope(stop),
    ):
        began = time.monotonic()
        with pytest.raises(Stopped):
            send(door, pairs)
        assert time.monotonic() - began < 20, "only a move is waited for"
        assert door.transfer_slots.n_free == settings.transfers, "all slots are given back"
    arrived = there(box)
    assert not [name for name in arrived if name.endswith(".part")]
    assert {f"/up/n/{name}" for name in arrived} == set(seen), "what is there was told"
    assert 12 <= len(seen) < N


def test_a_fault_of_ours_leaves_nothing(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]]
) -> None:
    """In the middle: what was sent is taken away, what was moved is told."""

    class Faulty(_Sum):
        def finished(self, transfer: Transfer) -> None:
            super().finished(transfer)
            if transfer.path.endswith("07.h5"):
                raise RuntimeError("our own fault")

    seen = Faulty()
    with reported_to(seen), pytest.raises(RuntimeError, match="our own fault"):
        uploads.upload_many(door, pairs)
    arrived = there(box)
    assert not [name for name in arrived if name.endswith(".part")]
    assert "07.h5" in arrived
    assert seen.n_files == len(arrived)


def test_a_manifest_that_can_not_be_written_is_said_with_each_file(
    box: Sandbox, door: WebDAVStorage, pairs: list[tuple[Path, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def full(*_: Any) -> None:
        raise NoSpace("No space left here")

    monkeypatch.setattr(Manifest, "append", full)
    report = uploads.upload_many(door, pairs, manifest=Manifest(pairs[0][0].parent / "m.jsonl"))
    assert len(report.failed) == N
    assert all("No space left here" in (t.error or "") for t in report.failed)
    assert there(box) == CONTENT
