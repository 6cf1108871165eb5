"""What is here and proven already, found without asking anybody and without reading it."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.model import Report
from ctaflows.storage.paths import local_path
from ctaflows.transfer.decide import Action, LocalState, decide
from ctaflows.transfer.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctaflows.model import Entry, StrPath, Transfer


def proven(
    entries: Iterable[Entry], dest: StrPath, *, base: str, manifest: StrPath
) -> tuple[list[Transfer], list[Entry]]:
    """Part files into those that are in place and proven, and those that there is work for.

    Parameters
    ----------
    entries, dest, base, manifest
        As for `ctaflows.tasks.fetch_files`.

    Returns
    -------
    in_place : list of Transfer
        Nothing moved; each with the proof that the manifest holds.
    rest : list of Entry
        To be fetched, or compared.
    """
    proofs = Manifest(Path(manifest)).proofs
    if not proofs:
        return [], list(entries)
    in_place, rest = [], []
    for entry in entries:
        local = local_path(entry.path, base, Path(dest))
        found = _standing(entry, local, proofs.get(entry.path))
        if found is None:
            rest.append(entry)
        else:
            in_place.append(found)
    return in_place, rest


def as_moved(report: Report, manifest: StrPath) -> Report:
    """Say of files that an earlier try of a batch moved what that try said.

    Parameters
    ----------
    report : Report
        Of a batch of which nothing was in place and proven at first.
    manifest : path
        Where the earlier try left its proofs.
    """
    if not report.skipped:
        return report
    proofs = Manifest(Path(manifest), of=[t.path for t in report.skipped]).proofs
    transfers = (proofs.get(t.path, t) if t.skipped else t for t in report.transfers)
    return Report(tuple(transfers), report.seconds)


def _standing(entry: Entry, local: Path, proof: Transfer | None) -> Transfer | None:
    """Give the record of a file that needs nothing, or None."""
    if proof is None or proof.error:
        return None
    if not entry.same_file_as(proof.source):
        return None
    try:
        about = local.stat()
    except OSError:
        return None
    if not stat.S_ISREG(about.st_mode):
        return None
    action, why = decide(entry, LocalState(about.st_size, about.st_mtime), proof)
    if action is not Action.SKIP:
        return None
    return replace(
        proof, local=str(local), moved_bytes=0, seconds=0.0, retries=0, resumed_bytes=0,
        skipped=True, note=why,
    )  # fmt: skip
