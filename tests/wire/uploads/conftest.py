"""Fixtures: a door over libcurl, and files to upload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uploading import CONTENT

from ctaflows.auth.renewal import TokenProvider
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import uploads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.sandbox import Sandbox


@pytest.fixture
def door(box: Sandbox) -> Iterator[WebDAVStorage]:
    """A door: bytes go over libcurl whatever the settings say."""
    settings = box.settings(attempts=5)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        yield door


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[Path, str]]:
    folder = tmp_path / "n"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    return [(Path(local), remote) for local, remote in uploads.files_of(folder, "/up")]
