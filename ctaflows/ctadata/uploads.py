"""Uploads through the download service: written under the final name, then compared.

Weaker than an upload to a dCache door: there is no MOVE, so that a reader can see a file that is
not whole yet, and no DELETE, so that one which failed stays until it is uploaded again.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows import cancel
from ctaflows.errors import (
    ChecksumMismatch,
    CtaflowsError,
    Refused,
    SizeMismatch,
    UsageError,
    error_text,
)
from ctaflows.model import Report, Transfer
from ctaflows.retry import Retries
from ctaflows.storage import checksum as sums
from ctaflows.thread_pool import run_concurrently
from ctaflows.transfer import progress
from ctaflows.transfer.upload import LocalSource
from ctaflows.transfer.uploads import files_of

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ctaflows.model import Checksum
    from ctaflows.storage.download_service import DownloadServiceStorage, Written

log = logging.getLogger("ctaflows.ctadata")

_BLOCK_BYTES = 1 << 20
_AGAIN = "The service can't remove a file: upload it again, the name is the same."


def upload(
    service: DownloadServiceStorage, local: Path, path: str, *, stop: threading.Event | None = None
) -> tuple[dict[str, Any], Transfer]:
    """Upload one file below one's own directory, replacing what is there.

    Parameters
    ----------
    service : DownloadServiceStorage
        Where to.
    local : Path
        A regular file.
    path : str
        Below one's own directory; one that ends in ``/`` is completed with the file's name.
    stop : threading.Event, optional
        Ends the upload soon after it is set.

    Returns
    -------
    answer : dict
        The service's: ``path`` from the root, ``status``, ``total_written``.
    transfer : Transfer
        The proof.

    Raises
    ------
    FileNotFoundError
        There is no such file here.
    IntegrityError
        What the service stored is not what was sent; it stays there.
    """
    started = time.monotonic()
    target = own_path(path + local.name if path.endswith("/") or not path else path)
    if not local.exists():  # as ctadata says it
        raise FileNotFoundError(f"There is no such file here: {local}")
    with LocalSource(local, stop or threading.Event()) as source, service.transfer_slots:
        progress.current().expect(1, source.size_bytes)
        written, retries = _put(service, source, target)
        checksum, verified, note = _compare(service, source, written)
        done = source.proof(
            written.path, checksum, started,
            verified=verified, moved_bytes=source.size_bytes, retries=retries, note=note,
        )  # fmt: skip
    progress.current().finished(done)
    return written.raw, done


def upload_many(
    service: DownloadServiceStorage, pairs: Sequence[tuple[Path, str]]
) -> tuple[list[dict[str, Any]], Report]:
    """Upload many files at once; the report tells of failed ones."""
    started, stop = time.monotonic(), threading.Event()

    def one(pair: tuple[Path, str]) -> tuple[dict[str, Any] | None, Transfer]:
        local, path = pair
        try:
            return upload(service, local, path, stop=stop)
        except (CtaflowsError, OSError) as why:
            failed = Transfer(path, str(local), error=error_text(why))
            progress.current().finished(failed)
            return None, failed

    results = run_concurrently(one, pairs, service.settings.transfers, stop)
    report = Report(tuple(done for _, done in results), time.monotonic() - started)
    return [answer for answer, _ in results if answer is not None], report


def files_in(folder: str | os.PathLike[str], path: str) -> list[tuple[Path, str]]:
    """Say where the files of a folder go: straight below ``path``, each in its sub-directory.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such folder here.
    """
    base = Path(folder)
    if not base.exists():
        raise FileNotFoundError(f"There is no such directory here: {folder}")
    if not base.is_dir():
        raise NotADirectoryError(f"That is no directory: {folder}")
    root = path.rstrip("/")
    return [(f, f"{root}/{f.relative_to(base).as_posix()}") for f, _ in files_of(base, root)]


def own_path(path: str) -> str:
    """Resolve the ``..`` of a path below one's own directory, and refuse to leave it. Pure.

    The service takes no ``..`` at all; ctadata's HTTP library resolved them before it was asked.
    """
    done: list[str] = []
    for part in path.split("/"):
        if part == ".." and not done:
            raise UsageError("A path can't leave your own directory", where=repr(path))
        if part == "..":
            done.pop()
        elif part not in ("", "."):
            done.append(part)
    if not done:
        raise UsageError("A file needs a name", where=repr(path))
    return "/".join(done)


def _put(service: DownloadServiceStorage, source: LocalSource, target: str) -> tuple[Written, int]:
    """Write the bytes; after a fault write them anew, since each upload replaces the whole file."""
    retries = Retries(service.settings)
    while True:
        try:
            return service.put(target, source, source.size_bytes), retries.n_failed
        except CtaflowsError as why:
            pause = retries.pause_or_raise(why)
            log.warning("%s; uploading it again under the same name", why)
            cancel.pause(pause)


def _compare(
    service: DownloadServiceStorage, source: LocalSource, written: Written
) -> tuple[Checksum, bool, str | None]:
    """Compare size and, where the storage tells it, checksum of what is there now."""
    if written.size_bytes not in (None, source.size_bytes):
        raise SizeMismatch(
            "Not all bytes arrived",
            where=written.path,
            said=f"{written.size_bytes} of {source.size_bytes} written",
            hint=_AGAIN,
        )
    try:
        there = service.stat(written.path)
    except Refused as why:
        return source.checksum("sha256"), False, f"it can't be looked at: {why}"
    if there.size_bytes != source.size_bytes:
        raise SizeMismatch(
            "Not all bytes are there",
            where=written.path,
            said=f"{there.size_bytes} of {source.size_bytes}",
            hint=_AGAIN,
        )
    known = sums.best(there.checksums)
    if known is None:
        return source.checksum("sha256"), False, "the storage told only its size"
    ours = source.checksum(known.algorithm)
    if ours != known:
        raise ChecksumMismatch(
            "What is there is not what was sent",
            where=written.path,
            said=f"{ours} sent, {known.value} there",
            hint=_AGAIN,
        )
    return ours, True, None
