"""Shared by the tests of downloads: a file, a job for it, an interrupted download."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from ctaflows.transfer.fetch import Job, fetch

from ctaflows.errors import (
    Stopped,
)
from ctaflows.transfer.progress import Progress, reported_to

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.model import Transfer
    from ctaflows.storage.webdav import WebDAVStorage

DATA = os.urandom(300_000)


def job(door: WebDAVStorage, path: str, folder: Path) -> Job:
    entry = door.stat(path)
    return Job(entry, folder / entry.name)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def interrupt(door: WebDAVStorage, wanted: Job, after: int = 100_000) -> None:
    """Fetch until some bytes are there, then stop."""
    stop = threading.Event()

    class Watch(Progress):
        seen = 0

        def advance(self, n_bytes: int) -> None:
            self.seen += n_bytes
            if self.seen >= after:
                stop.set()

    with reported_to(Watch()), pytest.raises(Stopped):
        fetch(door, wanted, stop=stop)


def fetch_thrice(door: WebDAVStorage, wanted: Job) -> list[Transfer]:
    """Fetch one file in three threads at the same time."""
    results: list[Transfer] = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch(door, wanted))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
