"""Remote, local, policy → actions. Pure: what is to be done, before anything is done."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctaflows.storage.paths import selected
from ctaflows.transfer.manifest import NAME
from ctaflows.transfer.part_file import local_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

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


# -- what is extraneous ----------------------------------------------------------------------------
#
# What a destination holds too much: decided purely, carried out on request only.

#: What `dl1.report.inspection_cache` and `events` keep in a night's folder is not the source's.
_OURS = {NAME, "inspections.jsonl", ".complete"}


def extraneous(
    here: Iterable[str],
    there: Collection[str],
    empty: Collection[str],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Say which files of a mirror its source does not have.

    Parameters
    ----------
    here : iterable of str
        Files of the mirror, relative to it, with ``/``.
    there : collection of str
        Files of the source, likewise, whatever the patterns say of them.
    empty : collection of str
        Directories of the source that were shown empty, or not at all, likewise; "" is the source
        itself. A dCache door shows one that it can't list like this, so nothing below it is
        superfluous.
    include, exclude : sequence of str
        Files that are not selected are left alone.

    Returns
    -------
    superfluous, protected : list of str
        To be deleted; not to be deleted, since what the source has there can't be told.
    """
    known, unknown = set(there), set(empty)
    extra: list[str] = []
    protected: list[str] = []
    for name in here:
        if name in known or _is_ours(name) or not selected(name, include, exclude):
            continue
        (protected if _parents(name) & unknown else extra).append(name)
    return extra, protected


def _parents(name: str) -> set[str]:
    parts = name.split("/")[:-1]
    return {"/".join(parts[:n]) for n in range(len(parts) + 1)}


def _is_ours(name: str) -> bool:
    """Is it a manifest, what else is kept beside it, or what a transfer left to go on from?"""
    last = name.rpartition("/")[2]
    is_part = last.startswith(".") and (last.endswith(".part") or ".part." in last)
    return last in _OURS or is_part


def files_here(folder: Path) -> Iterator[str]:
    """Give all files below a folder, relative to it; links are not followed."""

    def unreadable(why: OSError) -> None:
        raise local_error(why, folder) from why

    for where, _, names in os.walk(folder, onerror=unreadable if folder.exists() else None):
        base = os.path.relpath(where, folder)
        for name in names:
            yield name if base == "." else f"{base}/{name}"


def unseen(walked: Sequence[tuple[str, list[str], list[str]]]) -> list[str]:
    """Give the folders here of whose files nothing is seen: links, and those without any file.

    An empty folder may be the place of a disk that is not mounted, and what is behind a link is not
    uploaded: nothing may be deleted elsewhere because it is not seen there.

    Parameters
    ----------
    walked : sequence of (str, list, list)
        What `os.walk` gave, from the top down; "" stands for the first folder.
    """
    found: list[str] = []
    has_files: set[str] = set()
    for where, folders, names in reversed(walked):
        inside = [os.path.join(where, name) for name in folders]  # noqa: PTH118
        linked = {path for path in inside if os.path.islink(path)}  # noqa: PTH114
        if names or any(path in has_files for path in inside if path not in linked):
            has_files.add(where)
            found += linked
        else:
            found.append(where)
    top = walked[0][0] if walked else ""
    if os.path.islink(top):  # noqa: PTH114
        found.append(top)
    return ["" if path == top else os.path.relpath(path, top) for path in found]


def remove_here(folder: Path, names: Iterable[str]) -> None:
    """Delete files below a folder, and the folders that become empty by it."""
    try:
        for name in names:
            file = folder / name
            file.unlink(missing_ok=True)
            for parent in file.parents:
                if parent == folder or any(parent.iterdir()):
                    break
                parent.rmdir()
    except OSError as why:
        raise local_error(why, folder) from why
