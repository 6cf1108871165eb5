"""The last step of an upload: the file gets its name, once, whatever is heard of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ctaflows.errors import AlreadyExists, CtaflowsError, NetworkError, NotFound, StorageError

if TYPE_CHECKING:
    from ctaflows.model import Checksum
    from ctaflows.storage.webdav import Door
    from ctaflows.transfer.source import LocalSource

log = logging.getLogger("ctaflows.transfer")


def move(
    door: Door,
    source: LocalSource,
    temporary: str,
    target: str,
    checksum: Checksum,
    *,
    overwrite: bool,
) -> None:
    """Give the file its final name; where the answer is lost, look before moving again.

    NotFound and AlreadyExists are looked at too: libcurl sends a request again where a kept
    connection was closed before the first byte of an answer, and the first one may have moved the
    file.
    """
    try:
        door.move(temporary, target, overwrite=overwrite)
    except (NetworkError, StorageError, NotFound, AlreadyExists) as why:
        if not why.retryable and not isinstance(why, NotFound | AlreadyExists):
            raise
        log.warning("%s; looking whether the file was moved", why)
        find(door, source, temporary, target, checksum, why, overwrite=overwrite)


def find(
    door: Door,
    source: LocalSource,
    temporary: str,
    target: str,
    checksum: Checksum,
    why: CtaflowsError,
    *,
    overwrite: bool,
) -> None:
    """Look whether a file was moved, and if it is still where it was, move it.

    Parameters
    ----------
    why : CtaflowsError
        What was said of the first move; raised where the file is nowhere. It is not moved again
        where that says that another file is there.
    door, source, temporary, target, checksum, overwrite
        What was to be moved, and where to.
    """
    if door.exists(temporary) is not None:
        if isinstance(why, AlreadyExists):
            raise why
        door.move(temporary, target, overwrite=overwrite)
        return
    there = door.exists(target)
    is_ours = there is not None and there.size_bytes == source.size_bytes
    if there is None or not is_ours or (there.checksums and checksum not in there.checksums):
        raise why
