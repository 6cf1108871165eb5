"""Snapshots of a night's listing, kept in a file from one look at the night to the next."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import is_special, local_errors, replaced
from ctaflows.model import Entry, Record, utc_text, utc_time
from ctaflows.transfer.decide import extraneous

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.dl1.night import Night

    _File = tuple[int, int, Entry]  # run, subrun

_FORMAT = 1
#: 100,000 files have some 10 MB.
_MOST_BYTES = 100_000_000


@dataclass(frozen=True)
class NightSnapshot:
    """The files of a night at one look.

    Attributes
    ----------
    looked_at : datetime
        Time of the look.
    verdict : str
        Verdict on the night's completeness: `COMPLETE`, `GROWING` or `INCOMPLETE`.
    files : dict of str to list
        Size in bytes, modification time as text and ETag of each file, by path relative to the
        night; an empty list where the door could not describe it.
    """

    looked_at: datetime
    verdict: str
    files: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, night: Night, looked_at: datetime, verdict: str) -> NightSnapshot:
        """Return the snapshot of a night, with the time of the look and the verdict."""
        files = {path: _state(entry) for path, entry in _files(night).items()}
        return cls(looked_at, verdict, files)

    def compare(self, night: Night) -> Changes:
        """Return the changes from this snapshot to the night as it is now.

        What may be where nothing can be seen is not gone.
        """
        now, base = _files(night), night.path.rstrip("/") + "/"
        hidden = [path for path, entry in now.items() if entry.error is not None]
        unseen = (*night.empty, *(link.path for link in night.links))
        hidden += [f"{path}/".removeprefix(base).rstrip("/") for path in unseen]
        gone, _ = extraneous(self.files, now, hidden)
        return Changes(
            self.looked_at,
            self.verdict,
            new=tuple(sorted(now.keys() - self.files.keys())),
            gone=tuple(sorted(gone)),
            changed=tuple(
                sorted(
                    p
                    for p in now.keys() & self.files.keys()
                    if _described(p, self.files[p]).same_file_as(now[p]) is False
                )
            ),
        )


def _files(night: Night) -> dict[str, Entry]:
    base = night.path.rstrip("/") + "/"
    return {e.path.removeprefix(base): e for e in night.entries}


def _state(entry: Entry) -> list[Any]:
    """Return what `NightSnapshot.files` has of a file; empty where it could not be described."""
    return [] if entry.error else [entry.size_bytes, utc_text(entry.mtime), entry.etag]


def _described(path: str, state: list[Any]) -> Entry:
    """Return the entry of a file from its `_state`.

    Raises
    ------
    TypeError, ValueError
        The state is damaged.
    """
    if not state:
        return Entry(path, error="it could not be described")
    size_bytes, mtime, etag = state
    if not isinstance(etag, str | None):
        raise TypeError("no ETag")
    return Entry(path, size_bytes=size_bytes, mtime=utc_time(mtime), etag=etag)


def state_file(folder: Path, door_url: str, night: Night) -> Path:
    """Return the path of the file for a night's last snapshot.

    Parameters
    ----------
    folder : Path
        The folder of settings.
    door_url : str
        URL of the door.
    night : Night
        The night.
    """
    digest = hashlib.sha256(f"{door_url}\n{night.path}".encode()).hexdigest()[:12]
    return folder / "nights" / f"{night.date}-{digest}.json"


def read_snapshot(file: Path) -> NightSnapshot | None:
    """Return the snapshot in a file; None where there is no such file, or it is damaged."""
    try:
        if is_special(file):
            return None
        if file.stat().st_size > _MOST_BYTES:
            return None
        values = json.loads(file.read_text(encoding="utf-8"))
        files, verdict = values["files"], values["verdict"]
        looked_at = utc_time(values["looked_at"])
        is_valid = (
            values.get("format") == _FORMAT
            and looked_at is not None
            and verdict in (COMPLETE, GROWING, INCOMPLETE)
            and isinstance(files, dict)
            and all(isinstance(state, list) and _described("", state) for state in files.values())
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return NightSnapshot(looked_at, verdict, files) if is_valid and looked_at else None


def write_snapshot(file: Path, look: NightSnapshot) -> None:
    """Write a snapshot, replacing the file atomically.

    Parameters
    ----------
    file : Path
        The file; its folder is created if need be.
    look : NightSnapshot
        The snapshot.

    Raises
    ------
    NoSpace, UsageError
        It can't be written; the old file is unchanged.
    """
    values = {
        "format": _FORMAT,
        "looked_at": utc_text(look.looked_at),
        "verdict": look.verdict,
        "files": look.files,
    }
    what = "The state of the night can't be kept"
    hint = "Name a file that you may write to, or none: --state FILE, --no-state."
    with local_errors(file, what, hint=hint):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with replaced(file, what, hint=hint) as stream:
        # with escapes, since file names need not be valid UTF-8
        stream.write(json.dumps(values).encode("ascii"))


COMPLETE, GROWING, INCOMPLETE = "complete", "growing", "incomplete"


@dataclass(frozen=True)
class Changes(Record):
    """Changes of a night since the last look.

    Attributes
    ----------
    since : datetime
        Time of the last look.
    verdict : str
        Verdict at the last look.
    new, gone, changed : tuple of str
        Paths relative to the night; changed are files with another size, modification time or
        ETag.
    """

    since: datetime
    verdict: str
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        """Whether nothing has changed."""
        return not (self.new or self.gone or self.changed)
