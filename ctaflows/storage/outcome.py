"""What became of each of many paths in the name space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctaflows.errors import PartialFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctaflows.model import Entry


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one path.

    Attributes
    ----------
    path : str
        A file or directory at the door.
    is_dir : bool
        Is it a directory, as far as is known?
    target : str or None
        Where it was moved to.
    error : str or None
        None on success, else ``ErrorClass: message``.
    """

    path: str
    is_dir: bool = False
    target: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Was it done?"""
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON-ready values; ``target`` only where there can be one."""
        target = {} if self.target is None else {"target": self.target}
        kind = "directory" if self.is_dir else "file"
        return {"path": self.path, "type": kind, **target, "error": self.error}


def failure(failed: Sequence[Outcome], n_all: int, done: str) -> PartialFailure:
    """Make the error of those that failed.

    Parameters
    ----------
    failed : sequence of Outcome
        At least one.
    n_all : int
        How many there were in all.
    done : str
        What was not done to them, such as ``removed``.
    """
    first = failed[0]
    return PartialFailure(
        f"{len(failed)} of {n_all} were not {done}, the first: {first.path}: {first.error}",
        report=tuple(failed),
    )


def undescribed(entries: Iterable[Entry]) -> list[Outcome]:
    """Give those of some entries that the storage names without describing them."""
    return [Outcome(e.path, error=e.error) for e in entries if e.error is not None]


def refuse_undescribed(entries: Iterable[Entry]) -> None:
    """Raise `PartialFailure` if the storage names one of the entries without describing it."""
    if unseen := undescribed(entries):
        raise undescribed_failure(unseen)


def undescribed_failure(unseen: Sequence[Outcome]) -> PartialFailure:
    """Make the error of a listing in which something is not described.

    Parameters
    ----------
    unseen : sequence of Outcome
        From `undescribed`, at least one.
    """
    first = unseen[0]
    return PartialFailure(
        f"{len(unseen)} entries are there, but the storage can't describe them, "
        f"the first: {first.path}: {first.error}",
        report=tuple(unseen),
        hint="Nothing else is known of them. Try again later; if it lasts, ask the site.",
    )
