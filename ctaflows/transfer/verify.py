"""Verification of a local folder against the sizes and checksums in its manifests."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.errors import ChecksumMismatch, CtaflowsError, NotFound
from ctaflows.model import Record
from ctaflows.storage import checksum as sums
from ctaflows.thread_pool import run_concurrently
from ctaflows.transfer import progress
from ctaflows.transfer.manifest import NAME, Manifest

if TYPE_CHECKING:
    from ctaflows.model import Transfer


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """The state of a transferred file, compared with its record in a manifest.

    Attributes
    ----------
    local : str
        The local file.
    path : str
        The remote path that it was fetched from or uploaded to.
    verdict : str
        ``intact``, ``damaged`` (its size or checksum differs), ``missing``, ``unreadable``, or
        ``failed`` (the manifest records that the transfer failed).
    checksum : str or None
        The checksum in the manifest, with which the file was compared.
    said : str or None
        What differs, or the error; for an intact file, that there was no checksum to compare.
    """

    local: str
    path: str
    verdict: str
    checksum: str | None = None
    said: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the file is intact."""
        return self.verdict == "intact"

    @property
    def is_damaged(self) -> bool:
        """Whether the size or the checksum differs."""
        return self.verdict == "damaged"


def verify(where: Path) -> list[Verdict]:
    """Check every file listed in a folder's manifests against its recorded size and checksum.

    Damaged files are recorded as such in their manifest, so that the next fetch, or
    ``get --retry``, fetches them again.

    Parameters
    ----------
    where : Path
        A folder with a ``manifest.jsonl`` in it or below, or the path of a manifest.

    Returns
    -------
    list of Verdict
        In the order of the manifests.

    Raises
    ------
    NotFound
        There is no manifest, or none that records a file.
    """
    files = [where] if where.is_file() else sorted(where.rglob(NAME))
    if not files:
        raise NotFound(
            f"There is no {NAME}",
            where=str(where),
            hint="`ctaflows get -r` and fetch-dl1 write one into the folder they fetch to.",
        )
    manifests = [Manifest(file) for file in files]
    records = [record for manifest in manifests for record in manifest.proofs.values()]
    if not records:
        raise NotFound(
            f"No file is recorded in {NAME}",
            where=str(where),
            hint="It may be damaged: fetch again, and what is here is compared with the storage.",
        )
    progress.current().expect(len(records), sum(r.size_bytes or 0 for r in records))
    verdicts = run_concurrently(_check, records, os.cpu_count() or 1, threading.Event())
    damaged = {v.path: f"{ChecksumMismatch.__name__}: {v.said}" for v in verdicts if v.is_damaged}
    for manifest in manifests:
        _record_damage(manifest, damaged)
    return verdicts


def _record_damage(manifest: Manifest, damaged: dict[str, str]) -> None:
    """Record damaged files as such: a fetch would skip a verified record with an equal time."""
    for path, record in list(manifest.proofs.items()):
        if path in damaged and not record.error:
            with contextlib.suppress(CtaflowsError):  # a folder may be readable only
                manifest.record(replace(record, verified=False, error=damaged[path]))


def _check(record: Transfer) -> Verdict:
    checksum = str(record.checksum) if record.checksum else None

    def verdict(word: str, said: str | None = None) -> Verdict:
        return Verdict(record.local, record.path, word, checksum, said)

    if record.error and record.checksum is None:  # with a checksum the file was complete once
        return verdict("failed", record.error)
    try:
        size_bytes = Path(record.local).stat().st_size
        if size_bytes != record.size_bytes:
            return verdict("damaged", f"{size_bytes} bytes, {record.size_bytes} in the manifest")
        if record.checksum is not None:
            computed = sums.of_file(Path(record.local), record.checksum.algorithm)
            if computed != record.checksum:
                return verdict(
                    "damaged", f"{computed} here, {record.checksum.value} in the manifest"
                )
    except FileNotFoundError:
        return verdict("missing", "there is no such file")
    except OSError as why:
        return verdict("unreadable", why.strerror)
    finally:
        progress.current().advance(record.size_bytes or 0)
        progress.current().finished(record)
    return verdict("intact", None if record.checksum else "the manifest holds no checksum")
