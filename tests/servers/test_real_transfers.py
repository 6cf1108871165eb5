"""Fetching and uploading on real servers, as far as it shows in their own folders alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import storedsums
from sinkkit import StopAfter, fetch

from ctaflows import cancel
from ctaflows.errors import (
    AlreadyExists,
    ChecksumMismatch,
    CtaflowsError,
    ProtocolSurprise,
    Stopped,
)
from ctaflows.transfer.download import Job
from ctaflows.transfer.progress import reported_to
from ctaflows.transfer.uploads import upload_alone

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from serverplace import Place

    from ctaflows.storage.webdav import WebDAVStorage

DATA = os.urandom(3_000_000)


def job(door: WebDAVStorage, path: str, folder: Path) -> Job:
    entry = door.stat(path)
    return Job(entry, folder / entry.name)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def stopped(act: Callable[[threading.Event], object], after_bytes: int) -> None:
    """Do it until some bytes have moved, then stop it."""
    watch = StopAfter(after_bytes)
    with reported_to(watch), pytest.raises(Stopped):
        act(watch.stop)


def test_the_source_replaced_between_two_runs(
    place: Place, door: WebDAVStorage, tmp_path: Path
) -> None:
    path = place.put("a.h5", DATA)
    stopped(lambda stop: fetch(door, job(door, path, tmp_path), stop=stop), len(DATA) // 2)
    newer = DATA[::-1]
    place.put("a.h5", newer)
    os.utime(place.folder / "a.h5", (0, 1_000_000_000))
    storedsums.store(place.folder / "a.h5")
    done = fetch(door, job(door, path, tmp_path))
    assert done.resumed_bytes == 0
    assert (tmp_path / "a.h5").read_bytes() == newer


def test_bytes_that_rotted_at_the_server_are_found(
    place: Place, door: WebDAVStorage, tmp_path: Path
) -> None:
    if place.server.name != "xrootd":
        pytest.skip(f"{place.server.name} {place.server.version} knows no checksums")
    path = place.put("a.h5", DATA)
    storedsums.store(place.folder / "a.h5", 0xBAD)
    with pytest.raises(ChecksumMismatch):
        fetch(door, job(door, path, tmp_path))
    assert "a.h5" not in names(tmp_path)


@pytest.mark.uploads
def test_a_stopped_upload_leaves_nothing(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    path = place.put("r.h5", b"old")
    (tmp_path / "r.h5").write_bytes(DATA)

    def act(stop: threading.Event) -> None:
        with cancel.scope(stop):
            upload_alone(door, tmp_path / "r.h5", path, overwrite=True)

    stopped(act, len(DATA) // 2)
    assert place.comes_to_hold({"r.h5": b"old"})


def test_an_upload_that_is_refused_leaves_nothing(
    place: Place, door: WebDAVStorage, tmp_path: Path
) -> None:
    place.put("file", b"no directory")
    (tmp_path / "r.h5").write_bytes(b"x")
    # Apache 2.4 answers 400 to whatever is asked of a path below a file
    refused = CtaflowsError if place.server.name == "apache" else AlreadyExists
    with pytest.raises(refused):
        upload_alone(door, tmp_path / "r.h5", f"{place.at}/file/r.h5")
    assert place.files() == {"file": b"no directory"}


@pytest.mark.uploads
@pytest.mark.parametrize("name", ["a b", "100%", "é–ü", "a#b", "a;b"])
def test_upload_of_odd_names(place: Place, door: WebDAVStorage, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DATA)
    if place.server.name == "xrootd" and not name.isascii():  # 5.5 can't be given it by a MOVE
        with pytest.raises(ProtocolSurprise, match="this name"):
            upload_alone(door, tmp_path / name, f"{place.at}/")
        assert place.files() == {}
    else:
        upload_alone(door, tmp_path / name, f"{place.at}/")
        assert place.files() == {name: DATA}
