"""Folders that files come into: made when need be, and brought to disk once for many files."""

from __future__ import annotations

import contextlib
import os
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_waiting: ContextVar[set[str] | None] = ContextVar("ctaflows_folders", default=None)


def made(folder: str) -> None:
    """Make a folder and those above it."""
    Path(folder).mkdir(parents=True, exist_ok=True)


def changed(folder: str) -> None:
    """Say that a file got its name in a folder: the name must reach the disk too."""
    waiting = _waiting.get()
    if waiting is None:
        _sync(folder)
    else:
        waiting.add(folder)


@contextlib.contextmanager
def synced_once() -> Iterator[None]:
    """Bring each folder that changes within to disk once, at the end."""
    folders: set[str] = set()
    token = _waiting.set(folders)
    try:
        yield
    finally:
        _waiting.reset(token)
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                _sync(folder)


def _sync(folder: str) -> None:
    descriptor = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
