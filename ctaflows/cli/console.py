"""What a command says on stderr: its log, as much as is wanted, and a progress bar."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Self

from ctaflows.errors import redact
from ctaflows.transfer.progress import Progress, reported_to

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.progress import Progress as Bar

    from ctaflows.model import Transfer

#: -1 for -q, 1 for -v, 2 for -vv: set when a command's options are read.
verbosity = 0
#: The bar on the screen, if there is one.
live: Bar | None = None


def set_verbosity(level: int | None) -> None:
    """Let our own loggers speak on stderr; other libraries' only with -vv.

    Parameters
    ----------
    level : int or None
        As `verbosity`, which None leaves as it is.
    """
    global verbosity
    if level is not None:
        verbosity = level
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    logger = logging.getLogger("ctaflows")
    logger.setLevel(levels.get(verbosity, logging.DEBUG))
    if not logger.handlers:
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("ctaflows: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


class _Stderr(logging.Handler):
    """Writes to the present sys.stderr, through a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        text = redact(self.format(record))  # with the texts of errors that are not ours
        if live is not None:
            live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr)  # noqa: T201


class _Bar(Progress):
    """A progress bar on stderr, from when it is entered until it is left."""

    def __init__(self) -> None:
        from rich import progress as rich
        from rich.console import Console

        self._bar = rich.Progress(
            rich.TextColumn("{task.fields[files]}"),
            rich.BarColumn(),
            rich.DownloadColumn(),
            rich.TransferSpeedColumn(),
            rich.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=0, files="")
        self._n_expected = self._n_done = 0

    def __enter__(self) -> Self:
        global live
        self._bar.start()
        live = self._bar
        return self

    def __exit__(self, *exc: object) -> None:
        global live
        live = None
        self._bar.stop()

    def expect(self, n_files: int, n_bytes: int) -> None:
        self._n_expected += n_files
        total = (self._bar.tasks[0].total or 0) + n_bytes
        self._bar.update(self._task, total=total, files=self._files())

    def advance(self, n_bytes: int) -> None:
        self._bar.advance(self._task, n_bytes)

    def finished(self, transfer: Transfer) -> None:
        self._n_done += 1
        self._bar.update(self._task, files=self._files())

    def _files(self) -> str:
        return f"{self._n_done}/{self._n_expected} files"


def progress_bar() -> Progress | None:
    """Return a bar for stderr, unless that is no terminal or -q was given."""
    return None if verbosity < 0 or not sys.stderr.isatty() else _Bar()


def progress_shown() -> AbstractContextManager[None]:
    """Show all transfers within on a bar, see `progress_bar`."""
    return reported_to(progress_bar())
