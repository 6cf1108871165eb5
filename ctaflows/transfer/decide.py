"""Remote, local, policy → actions. Pure: what is to be done, before anything is done."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctaflows.model import Entry, Transfer

#: Local file systems and HTTP dates keep whole seconds at least.
_SAME_TIME_S = 1.0


#: What a file that is here must share with the one at the storage to be left alone: a proof in the
#: manifest and the time, or else the checksum; the checksum, computed again; or the size alone.
Check = Literal["proof", "checksum", "size"]


class Action(enum.Enum):
    """What to do with one file."""

    FETCH = "fetch"
    COMPARE = "compare"
    SKIP = "skip"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class LocalState:
    """A file that is here already.

    Attributes
    ----------
    size_bytes : int
        Its size.
    mtime : float
        Its time of last change, seconds since 1970.
    is_special : bool
        Is it a device, a pipe or a socket?
    """

    size_bytes: int
    mtime: float
    is_special: bool = False


def decide(
    entry: Entry,
    here: LocalState | None,
    proof: Transfer | None = None,
    *,
    check: Check = "proof",
) -> tuple[Action, str]:
    """Decide what to do with a file, and say why.

    Parameters
    ----------
    entry : Entry
        The file at the storage.
    here : LocalState or None
        The file here, if there is one.
    proof : Transfer or None
        What the manifest says of an earlier transfer to the same place.
    check : {"proof", "checksum", "size"}
        What a file that is here must share with the one there, see `Check`. The size alone is
        quick, and blind to damage.

    Returns
    -------
    action : Action
        ``COMPARE`` means: compute the checksum of the file here, fetch if it differs. ``WRITE``
        means: write the bytes into the device or pipe that is here.
    why : str
        For a dry run.
    """
    if entry.error is not None:
        return Action.FETCH, f"it can't be described: {entry.error}"
    if here is None:
        return Action.FETCH, "not here"
    if here.is_special:
        return Action.WRITE, "into what is no file"
    if here.size_bytes != entry.size_bytes:
        return Action.FETCH, f"size differs: {here.size_bytes} here, {entry.size_bytes} there"
    if check == "size":
        return Action.SKIP, "same size"
    same_time = entry.mtime is not None and abs(entry.mtime.timestamp() - here.mtime) < _SAME_TIME_S
    if entry.checksums:
        proven = proof is not None and proof.verified and proof.checksum in entry.checksums
        if proven and same_time and check == "proof":
            return Action.SKIP, "proven by the manifest"
        return Action.COMPARE, "same size, checksum to be compared"
    if same_time:
        return Action.SKIP, "same size and time, no checksum to compare"
    return Action.FETCH, "time differs, no checksum to compare"


def batches(
    entries: Iterable[Entry],
    *,
    max_files: int = 100,
    max_bytes: int = 8 << 30,
    max_batches: int = 85,
) -> list[list[Entry]]:
    """Cut files into batches, in order: a task run for each batch, not for each file.

    A Prefect server pays tens of milliseconds of CPU for a task run, and loses runs when thousands
    come at once; a batch should be at least a second of work.

    Parameters
    ----------
    entries : iterable of Entry
        Files.
    max_files, max_bytes : int
        A batch ends before it would hold more; a single larger file is a batch of its own.
    max_batches : int
        Where more batches than this would come of it, all of them are made larger.
    """
    entries = list(entries)
    cut = _cut(entries, max_files, max_bytes)
    while len(cut) > max_batches:
        max_files, max_bytes = 2 * max_files, 2 * max_bytes
        cut = _cut(entries, max_files, max_bytes)
    return cut


def _cut(entries: list[Entry], max_files: int, max_bytes: int) -> list[list[Entry]]:
    done: list[list[Entry]] = []
    size = 0
    for entry in entries:
        more = entry.size_bytes or 0
        if not done or len(done[-1]) >= max_files or size + more > max_bytes:
            done.append([])
            size = 0
        done[-1].append(entry)
        size += more
    return done
