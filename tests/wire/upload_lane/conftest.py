"""Fixtures: a door over libcurl, and files to upload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from uploading import CONTENT

from ctaflows.auth.renewal import TokenProvider
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import upload_lane, uploads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no busy machine make the disk seem slow."""
    monkeypatch.setattr(upload_lane, "_SLOW_DISK_S", 60.0)


@pytest.fixture
def door(box: Sandbox) -> Iterator[WebDAVStorage]:
    """A door over libcurl, since httpx has no concurrent uploads in one thread."""
    settings = box.settings()
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        yield door


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[Path, str]]:
    folder = tmp_path / "n"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    return uploads.files_of(folder, "/up")
