"""What a command writes to stderr: log messages and a progress bar."""

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

#: -1 for -q, 1 for -v, 2 for -vv; set when a command's options are parsed.
verbosity = 0
#: The progress bar that is being shown, if any.
live: Bar | None = None


def set_verbosity(level: int | None) -> None:
    """Set how much the loggers of ctaflows write to stderr.

    Parameters
    ----------
    level : int or None
        The new `verbosity`; None leaves it unchanged.
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
    """A handler that writes to the current sys.stderr, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        text = redact(self.format(record))  # with the texts of errors that are not ours
        if live is not None:
            live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr)  # noqa: T201


class _Bar(Progress):
    """A progress bar on stderr, shown while its context is entered."""

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
    """Return a progress bar, or None where stderr is not a terminal or -q was given."""
    return None if verbosity < 0 or not sys.stderr.isatty() else _Bar()


def progress_shown() -> AbstractContextManager[None]:
    """Show the progress of all transfers within the context, see `progress_bar`."""
    return reported_to(progress_bar())
