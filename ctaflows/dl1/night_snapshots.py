"""What a night was like at the last look, kept in a file between looks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import is_special, replaced
from ctaflows.errors import UsageError
from ctaflows.model import Record, utc_text, utc_time

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.dl1.night import Night
    from ctaflows.model import Entry

    _File = tuple[int, int, Entry]  # run, subrun

_FORMAT = 1
#: 100,000 files have some 10 MB.
_MOST_BYTES = 100_000_000


@dataclass(frozen=True)
class NightSnapshot:
    """One look at a night.

    Attributes
    ----------
    looked_at : datetime
        When.
    verdict : str
        One of `COMPLETE`, `GROWING`, `INCOMPLETE`.
    files : dict of str to list
        Path below the night to size in bytes, time of last change as text, and ETag.
    """

    looked_at: datetime
    verdict: str
    files: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, night: Night, looked_at: datetime, verdict: str) -> NightSnapshot:
        """Make it from a night, when it was looked at and what was said of it."""
        return cls(looked_at, verdict, _files(night))

    def compare(self, night: Night) -> Changes:
        """Say what is different now."""
        now = _files(night)
        return Changes(
            self.looked_at,
            self.verdict,
            new=tuple(sorted(now.keys() - self.files.keys())),
            gone=tuple(sorted(self.files.keys() - now.keys())),
            changed=tuple(
                sorted(p for p in now.keys() & self.files.keys() if now[p] != self.files[p])
            ),
        )


def _files(night: Night) -> dict[str, list[Any]]:
    base = night.path.rstrip("/") + "/"
    return {e.path.removeprefix(base): _state(e) for e in night.entries}


def _state(entry: Entry) -> list[Any]:
    return [entry.size_bytes, utc_text(entry.mtime), entry.etag]


def state_file(folder: Path, door_url: str, night: Night) -> Path:
    """Say where the last look at a night is kept.

    Parameters
    ----------
    folder : Path
        The folder of settings.
    door_url : str
        The door.
    night : Night
        The night and version.
    """
    digest = hashlib.sha256(f"{door_url}\n{night.path}".encode()).hexdigest()[:12]
    return folder / "nights" / f"{night.date}-{digest}.json"


def read_snapshot(file: Path) -> NightSnapshot | None:
    """Read the last look; None where there is none, or what is there is damaged."""
    try:
        if is_special(file):
            return None
        if file.stat().st_size > _MOST_BYTES:
            return None
        values = json.loads(file.read_text(encoding="utf-8"))
        files, verdict = values["files"], values["verdict"]
        looked_at = utc_time(values["looked_at"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    is_whole = (
        values.get("format") == _FORMAT
        and looked_at is not None
        and verdict in (COMPLETE, GROWING, INCOMPLETE)
        and isinstance(files, dict)
        and all(isinstance(state, list) for state in files.values())
    )
    return NightSnapshot(looked_at, verdict, files) if is_whole and looked_at else None


def write_snapshot(file: Path, look: NightSnapshot) -> None:
    """Replace the last look in one step.

    Raises
    ------
    UsageError
        It can't be written; the old one stands.
    """
    values = {
        "format": _FORMAT,
        "looked_at": utc_text(look.looked_at),
        "verdict": look.verdict,
        "files": look.files,
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replaced(file) as stream:
            # as escapes: names of files need not be valid UTF-8
            stream.write(json.dumps(values).encode("ascii"))
    except (OSError, UsageError) as why:
        raise UsageError(
            "What was seen of the night can't be kept",
            where=str(file),
            said=why.said if isinstance(why, UsageError) else why.strerror,
            hint="Name a file that you may write to, or none: --state FILE, --no-state.",
        ) from why


COMPLETE, GROWING, INCOMPLETE = "complete", "growing", "incomplete"


@dataclass(frozen=True)
class Changes(Record):
    """What is different from the last look.

    Attributes
    ----------
    since : datetime
        When that was.
    verdict : str
        What it said.
    new, gone, changed : tuple of str
        Paths below the night; changed are those with another size, time or ETag.
    """

    since: datetime
    verdict: str
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        """Is all as it was?"""
        return not (self.new or self.gone or self.changed)
