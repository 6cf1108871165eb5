"""One of many small files that go up in one thread: where it is on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctaflows.transfer.upload import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.model import Checksum, Transfer
    from ctaflows.transfer.upload import LocalSource
    from ctaflows.transport.convoy import Word


@dataclass(slots=True)
class Errand:
    """A file on its way.

    Attributes
    ----------
    place : int
        Which of the files.
    source : LocalSource
        The file here; it has been read.
    temporary, target : str
        Where it goes, and what it will be called.
    started : float
        When, on the monotonic clock.
    next_step : Callable
        Takes the next answer.
    is_moving, is_refused : bool
        Was the door asked to give it its name? And did it say that another file has it?
    server : str or None
        What the server calls itself.
    checksum, verified
        As in a record, once it was compared.
    """

    place: int
    source: LocalSource
    temporary: str
    target: str
    started: float
    next_step: Callable[[Errand, Word | None], None]
    is_moving: bool = False
    is_refused: bool = False
    server: str | None = None
    checksum: Checksum | None = None
    verified: bool = False

    def record(self) -> Transfer:
        """Make the record of a file that is in place."""
        assert self.checksum is not None  # noqa: S101  it was compared
        return record(
            self.source, self.target, self.checksum, self.started,
            verified=self.verified, server=self.server,
        )  # fmt: skip
