"""Shared by the tests of many uploads: files, their upload, and checks."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ctaflows.transfer import upload, uploads
from ctaflows.transfer.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.model import Report
    from ctaflows.sandbox import Sandbox
    from ctaflows.storage.webdav import WebDAVStorage

N = 24
LIMIT = upload.SMALL_BYTES
SIZES = [0, 1, LIMIT, *(i * 2000 for i in range(3, N))]
CONTENT = {f"{i:02}.h5": os.urandom(size) for i, size in enumerate(SIZES)}


def send(door: WebDAVStorage, pairs: list[tuple[Path, str]], **how: Any) -> Report:
    """Upload all files, and check that the manifest has a line for each."""
    file = pairs[0][0].parent.parent / "put.jsonl"
    report = uploads.upload_many(door, pairs, manifest=Manifest(file), **how)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    told = sorted(t.path for t in report.transfers)
    assert sorted(line["path"] for line in lines) == told, "a line a file, and one only"
    assert [t.path for t in report.transfers] == [remote for _, remote in pairs]
    return report


def there(box: Sandbox) -> dict[str, bytes]:
    """Return all files at the door, temporary ones too."""
    files = (p for p in box.storage.rglob("*") if p.is_file())
    return {str(p.relative_to(box.storage / "up/n")): p.read_bytes() for p in files}


def assert_right(box: Sandbox, report: Report) -> None:
    assert not report.failed, report.failed
    assert there(box) == CONTENT
    assert all(t.verified and t.moved_bytes == t.size_bytes for t in report.transfers)
