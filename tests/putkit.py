"""A file written by one PUT, without what an upload does around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.transport.driver import run_journey

if TYPE_CHECKING:
    from ctaflows.storage.answers import Written
    from ctaflows.storage.protocol import Storage
    from ctaflows.transport import Source


def put(storage: Storage, path: str, body: bytes | Source) -> Written:
    """Write a file, and return what the storage says of it."""
    return run_journey(storage.putting(storage.normalise(path), body), storage.session)
