"""Fetching and uploading on real servers: whole everywhere, proven where there are checksums."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
import storedsums

from ctaflows.errors import (
    AlreadyExists,
    ChecksumMismatch,
    CtaflowsError,
    ProtocolSurprise,
    Stopped,
    UsageError,
)
from ctaflows.transfer.fetch import Job, fetch
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.many import fetch_many
from ctaflows.transfer.progress import Progress, reported_to
from ctaflows.transfer.upload import upload
from ctaflows.transfer.uploads import files_of, upload_many

if TYPE_CHECKING:
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
    stop = threading.Event()

    class Watch(Progress):
        seen = 0

        def advance(self, n_bytes: int) -> None:
            self.seen += n_bytes
            if self.seen >= after_bytes:
                stop.set()

    with reported_to(Watch()), pytest.raises(Stopped):
        act(stop)


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_a_file_comes_whole(place: Place, door: WebDAVStorage, tmp_path: Path, data: bytes) -> None:
    path = place.put("a.h5", data)
    done = fetch(door, job(door, path, tmp_path / "new"))
    assert (tmp_path / "new/a.h5").read_bytes() == data
    assert names(tmp_path / "new") == ["a.h5"]
    assert done.moved_bytes == len(data)
    # nginx 1.22 and Apache 2.4 know no checksums
    assert done.verified is (place.server.name == "xrootd")
    assert done.checksum is not None
    assert done.server is not None
    assert done.server.lower().startswith(place.server.name)


def test_a_file_that_is_there_is_not_moved_again(
    place: Place, door: WebDAVStorage, tmp_path: Path
) -> None:
    path = place.put("a.h5", DATA)
    first = fetch(door, job(door, path, tmp_path))
    again = fetch(door, job(door, path, tmp_path))
    assert again.skipped
    assert again.moved_bytes == 0
    assert first.moved_bytes == len(DATA)


def test_a_stopped_fetch_goes_on(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    path = place.put("a.h5", DATA)
    stopped(lambda stop: fetch(door, job(door, path, tmp_path), stop=stop), len(DATA) // 2)
    assert "a.h5" not in names(tmp_path)
    done = fetch(door, job(door, path, tmp_path))
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert done.resumed_bytes >= len(DATA) // 2
    assert done.moved_bytes == len(DATA) - done.resumed_bytes
    assert done.verified is (place.server.name == "xrootd")
    assert names(tmp_path) == ["a.h5"]


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


def test_many_with_a_manifest(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    files = {f"{i:03}.h5": DATA[: i * 997] for i in range(150)}
    for name, data in files.items():
        place.put(name, data)
    jobs = [Job(e, tmp_path / "n" / e.name) for e in door.list(place.at)]
    report = fetch_many(door, jobs, manifest=Manifest(tmp_path / "manifest.jsonl"))
    assert not report.failed
    assert {p.name: p.read_bytes() for p in (tmp_path / "n").iterdir()} == files
    again = fetch_many(door, jobs, manifest=Manifest(tmp_path / "manifest.jsonl"))
    assert again.moved_bytes == 0
    assert len(again.skipped) == len(files)


@pytest.mark.uploads
@pytest.mark.parametrize("data", [b"x", DATA])
def test_a_file_goes_up_whole(
    place: Place, door: WebDAVStorage, tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "r.h5").write_bytes(data)
    done = upload(door, tmp_path / "r.h5", f"{place.at}/r.h5")
    assert place.files() == {"r.h5": data}
    assert done.moved_bytes == len(data)
    assert done.verified is (place.server.name == "xrootd")


def test_an_empty_file_goes_up(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    (tmp_path / "r.h5").write_bytes(b"")
    upload(door, tmp_path / "r.h5", f"{place.at}/r.h5")
    assert place.files() == {"r.h5": b""}


@pytest.mark.uploads
def test_upload_into_new_directories(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    (tmp_path / "r.h5").write_bytes(DATA)
    upload(door, tmp_path / "r.h5", f"{place.at}/one/two/")
    assert place.files() == {"one/two/r.h5": DATA}


@pytest.mark.uploads
def test_the_same_file_is_not_sent_twice(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    (tmp_path / "r.h5").write_bytes(DATA)
    upload(door, tmp_path / "r.h5", f"{place.at}/r.h5")
    if place.server.name == "xrootd":
        again = upload(door, tmp_path / "r.h5", f"{place.at}/r.h5")
        assert again.skipped
    else:  # without a checksum nothing tells that it is the same
        with pytest.raises(AlreadyExists):
            upload(door, tmp_path / "r.h5", f"{place.at}/r.h5")
    assert place.files() == {"r.h5": DATA}


@pytest.mark.uploads
def test_another_file_is_replaced_only_where_asked(
    place: Place, door: WebDAVStorage, tmp_path: Path
) -> None:
    path = place.put("r.h5", b"precious")
    (tmp_path / "r.h5").write_bytes(DATA)
    with pytest.raises(AlreadyExists):
        upload(door, tmp_path / "r.h5", path)
    assert place.files() == {"r.h5": b"precious"}
    upload(door, tmp_path / "r.h5", path, overwrite=True)
    assert place.files() == {"r.h5": DATA}


@pytest.mark.uploads
def test_a_stopped_upload_leaves_nothing(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    path = place.put("r.h5", b"old")
    (tmp_path / "r.h5").write_bytes(DATA)
    stopped(
        lambda stop: upload(door, tmp_path / "r.h5", path, overwrite=True, stop=stop),
        len(DATA) // 2,
    )
    assert place.comes_to_hold({"r.h5": b"old"})


def test_an_upload_that_is_refused_leaves_nothing(
    place: Place, door: WebDAVStorage, tmp_path: Path
) -> None:
    place.put("file", b"no directory")
    (tmp_path / "r.h5").write_bytes(b"x")
    # Apache 2.4 answers 400 to whatever is asked of a path below a file
    refused = CtaflowsError if place.server.name == "apache" else AlreadyExists
    with pytest.raises(refused):
        upload(door, tmp_path / "r.h5", f"{place.at}/file/r.h5")
    assert place.files() == {"file": b"no directory"}


def test_what_is_no_file_is_not_sent(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        upload(door, tmp_path, f"{place.at}/r.h5")
    assert place.files() == {}


@pytest.mark.uploads
@pytest.mark.parametrize("name", ["a b", "100%", "é–ü", "a#b", "a;b"])
def test_upload_of_odd_names(place: Place, door: WebDAVStorage, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DATA)
    if place.server.name == "xrootd" and not name.isascii():  # 5.5 can't be given it by a MOVE
        with pytest.raises(ProtocolSurprise, match="this name"):
            upload(door, tmp_path / name, f"{place.at}/")
        assert place.files() == {}
    else:
        upload(door, tmp_path / name, f"{place.at}/")
        assert place.files() == {name: DATA}


@pytest.mark.uploads
def test_many_go_up(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    files = {f"{sub}{i:02}.h5": DATA[: i * 9973] for sub in ("", "x/", "x/y/") for i in range(7)}
    for name, data in files.items():
        file = tmp_path / "night" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    report = upload_many(door, files_of(tmp_path / "night", place.at))
    assert not report.failed
    assert place.files() == {f"night/{name}": data for name, data in files.items()}
