"""What a command says on stderr: its log, as much as is wanted, and a progress bar."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from ctaflows.transfer.progress import Progress, reported_to

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        text = self.format(record)
        if live is not None:
            live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr)  # noqa: T201


class _Shown(Progress):
    """Shows transfers on a bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=0, files="")
        self._n_expected = self._n_done = 0

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


@contextlib.contextmanager
def progress_shown() -> Iterator[None]:
    """Show a bar on stderr, if that is a terminal and -q was not given."""
    global live
    if verbosity < 0 or not sys.stderr.isatty():
        yield
        return
    from rich import progress as rich
    from rich.console import Console

    bar = rich.Progress(
        rich.TextColumn("{task.fields[files]}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar, reported_to(_Shown(bar)):
        live = bar
        try:
            yield
        finally:
            live = None
