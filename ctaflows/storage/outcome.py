"""What became of each of many paths in the name space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctaflows.errors import PartialFailure

if TYPE_CHECKING:
    from collections.abc import Sequence


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
