"""A folder against its manifest: is each file still what was proven when it came?"""

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
    """What became of one file since its transfer.

    Attributes
    ----------
    local : str
        The file here.
    path : str
        Where it came from, or went to.
    verdict : str
        ``intact``; ``damaged`` (another size or checksum), ``missing``, ``unreadable``, or
        ``failed`` (its transfer did not come about in the first place).
    checksum : str or None
        That of the manifest, with which the file was compared.
    said : str or None
        What is wrong.
    """

    local: str
    path: str
    verdict: str
    checksum: str | None = None
    said: str | None = None

    @property
    def ok(self) -> bool:
        """Is the file intact?"""
        return self.verdict == "intact"

    @property
    def is_damaged(self) -> bool:
        """Is the file there, but not what it was?"""
        return self.verdict == "damaged"


def verify(where: Path) -> list[Verdict]:
    """Compare all files that the manifests in a folder tell of with what they tell.

    What is damaged is noted in its manifest, so that the next fetch, or ``get --retry``, mends it.

    Parameters
    ----------
    where : Path
        A folder with a ``manifest.jsonl`` in it or below, or a manifest.

    Returns
    -------
    list of Verdict
        In the manifests' order.

    Raises
    ------
    NotFound
        No manifest there.
    """
    files = [where] if where.is_file() else sorted(where.rglob(NAME))
    if not files:
        raise NotFound(
            f"There is no {NAME}",
            where=str(where),
            hint="`ctaflows get -r` and fetch-dl1 write one into the folder they fetch to.",
        )
    manifests = [Manifest(file) for file in files]
    proofs = [proof for manifest in manifests for proof in manifest.proofs.values()]
    progress.current().expect(len(proofs), sum(p.size_bytes or 0 for p in proofs))
    verdicts = run_concurrently(_look, proofs, os.cpu_count() or 1, threading.Event())
    damaged = {v.path: f"{ChecksumMismatch.__name__}: {v.said}" for v in verdicts if v.is_damaged}
    for manifest in manifests:
        _note(manifest, damaged)
    return verdicts


def _note(manifest: Manifest, damaged: dict[str, str]) -> None:
    """Write down what is damaged: else its proof and unchanged time would spare it a new fetch."""
    for path, proof in list(manifest.proofs.items()):
        if path in damaged and not proof.error:
            with contextlib.suppress(CtaflowsError):  # a folder that can't be written can be read
                manifest.record(replace(proof, verified=False, error=damaged[path]))


def _look(proof: Transfer) -> Verdict:
    checksum = str(proof.checksum) if proof.checksum else None

    def verdict(word: str, said: str | None = None) -> Verdict:
        return Verdict(proof.local, proof.path, word, checksum, said)

    if proof.error and proof.checksum is None:  # one that has a checksum was whole once
        return verdict("failed", proof.error)
    try:
        size_bytes = Path(proof.local).stat().st_size
        if size_bytes != proof.size_bytes:
            return verdict("damaged", f"{size_bytes} bytes, {proof.size_bytes} in the manifest")
        if proof.checksum is not None:
            ours = sums.of_file(Path(proof.local), proof.checksum.algorithm)
            if ours != proof.checksum:
                return verdict("damaged", f"{ours} here, {proof.checksum.value} in the manifest")
    except FileNotFoundError:
        return verdict("missing", "there is no such file")
    except OSError as why:
        return verdict("unreadable", why.strerror)
    finally:
        progress.current().advance(proof.size_bytes or 0)
        progress.current().finished(proof)
    return verdict("intact", None if proof.checksum else "the manifest holds no checksum")
