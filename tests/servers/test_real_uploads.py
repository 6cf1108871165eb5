"""Many files that go up to real servers: proven and told, with nothing left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows.transfer import upload, uploads

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


@pytest.mark.uploads
def test_they_arrive(place: Place, door: WebDAVStorage, folder: Path) -> None:
    report = uploads.upload_many(door, uploads.files_of(folder, place.at))
    assert not report.failed
    assert place.files() == {f"n/{name}": data for name, data in CONTENT.items()}


@pytest.mark.uploads
def test_empty_files(place: Place, door: WebDAVStorage, tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    for i in range(10):
        (tmp_path / "n" / f"{i}.h5").write_bytes(b"")
    report = uploads.upload_many(door, uploads.files_of(tmp_path / "n", place.at))
    assert not report.failed
    assert place.files() == {f"n/{i}.h5": b"" for i in range(10)}


@pytest.mark.uploads
def test_what_comes_between_the_listing_and_the_move(
    place: Place,
    door: WebDAVStorage,
    folder: Path,
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
