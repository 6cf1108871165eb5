"""Small files going up in one thread, on real servers: proven and told as by the usual way."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows.transfer import cargo, upload, upload_lane, uploads

if TYPE_CHECKING:
    from pathlib import Path

    from serverplace import Place

    from ctaflows.storage.webdav import WebDAVStorage

LIMIT = upload.SMALL_BYTES
SIZES = [1, LIMIT, *(1000 * i for i in range(1, 40))]
CONTENT = {f"{i:02}.h5": os.urandom(size) for i, size in enumerate(SIZES)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "n").mkdir()
    for name, data in CONTENT.items():
        (tmp_path / "n" / name).write_bytes(data)
    return tmp_path / "n"


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that does much else, the disk may seem slow."""
    monkeypatch.setattr(upload_lane, "_SLOW_DISK_S", 60.0)


def is_racing(place: Place) -> bool:
    """Says whether its answers about checksums may be wrong, see `storedsums`."""
    return place.server.name == "xrootd"


@pytest.mark.uploads
def test_it_is_told_as_by_the_usual_way(
    place: Place,
    door: WebDAVStorage,
    folder: Path,
    one_by_one: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []
    for way in ("lane", "usual"):
        report = uploads.upload_many(door, uploads.files_of(folder, f"{place.at}/{way}"))
        assert not report.failed
        told.append([replace(t, seconds=0.0, path="", retries=0) for t in report.transfers])
        if way == "lane":
            assert len(one_by_one) <= (len(SIZES) if is_racing(place) else 0)
        monkeypatch.setattr(cargo, "LEAST", len(SIZES) + 1)
    assert told[0] == told[1]
    assert place.files() == {
        f"{way}/n/{name}": data for way in ("lane", "usual") for name, data in CONTENT.items()
    }


@pytest.mark.uploads
def test_empty_files(
    place: Place, door: WebDAVStorage, tmp_path: Path, one_by_one: list[str]
) -> None:
    (tmp_path / "n").mkdir()
    for i in range(10):
        (tmp_path / "n" / f"{i}.h5").write_bytes(b"")
    report = uploads.upload_many(door, uploads.files_of(tmp_path / "n", place.at))
    assert not report.failed
    assert place.files() == {f"n/{i}.h5": b"" for i in range(10)}
    if place.server.name == "nginx":  # Apache 2.4 gives no length to HEAD of an empty file
        assert one_by_one == []


@pytest.mark.uploads
def test_what_comes_between_the_listing_and_the_move(
    place: Place,
    door: WebDAVStorage,
    folder: Path,
    one_by_one: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """XRootD 5.5 would replace it: it is looked for before each move."""
    real = uploads.look_there

    def look(*args: Any, **how: Any) -> Any:
        found = real(*args, **how)
        place.put("n/07.h5", b"theirs")
        return found

    monkeypatch.setattr(uploads, "look_there", look)
    report = uploads.upload_many(door, uploads.files_of(folder, place.at))
    assert [t.path for t in report.failed] == [f"{place.at}/n/07.h5"]
    assert (report.failed[0].error or "").startswith("AlreadyExists")
    assert place.files() == {f"n/{n}": data for n, data in CONTENT.items()} | {"n/07.h5": b"theirs"}
