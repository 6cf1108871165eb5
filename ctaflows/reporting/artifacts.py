"""Prefect artifacts of a flow run: tables, summaries, links, progress.

Outside a flow or task run the functions do nothing. A Prefect server that is unreachable or slow,
or returns errors, neither fails a run nor holds up a transfer: a warning is logged, and the
manifest has the files of the night in any case.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ctaflows.dl1.report.markdown import census_digest, digest
from ctaflows.errors import error_text
from ctaflows.text import human_bytes
from ctaflows.thread_pool import started
from ctaflows.tracking.task import get_logger
from ctaflows.tracking.tracked import in_run
from ctaflows.transfer import progress
from ctaflows.transfer.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ctaflows.dl1.night_completeness import Completeness
    from ctaflows.dl1.report.night_report import NightReport
    from ctaflows.model import Report, Transfer

#: Largest number of rows of a table; the manifest has all files.
MAX_ROWS = 1000
#: The most important columns come first: Prefect's UI shows some eight narrow ones at once.
_COLUMNS = (
    "file", "outcome", "size_bytes", "n_events", "rate_hz", "verdict", "duration_s", "checksum",
    "moved_bytes", "run", "subrun", "remarks", "error",
)  # fmt: skip


def publish_night(report: NightReport) -> bool:
    """Create artifacts of a night: a table of its files, a summary, and links.

    Parameters
    ----------
    report : NightReport
        The report of the night. Failed files come first in the table.

    Returns
    -------
    bool
        Whether Prefect accepted all of them; False outside a run.
    """
    if not in_run():
        return False
    key = f"night-{report.date}"
    title = f"Night {report.name}"
    n_more = len(report.transfers) - MAX_ROWS
    verdict = f"{title}: {report.verdict()}."
    # stops at the first that is not accepted: each further one would wait for the server again
    if not publish_table(key, verdict, _rows(report), rest=report.manifest, n_more=n_more):
        return False
    if not publish_markdown(f"{key}-summary", verdict, digest(report)):
        return False
    manifest = f"{title}: the manifest with the checksum of each file"
    return publish_link(f"{key}-manifest", manifest, report.manifest) and publish_page(report)


def publish_page(report: NightReport) -> bool:
    """Create an artifact with a link to a night's page, where one was written.

    Returns
    -------
    bool
        Whether Prefect accepted it; True where there is no page.
    """
    if not report.page:
        return True
    title = f"Night {report.name}"
    key = f"night-{report.date}-page"
    return publish_link(key, f"{title}: the page with plots", report.page)


def publish_census(census: Completeness) -> None:
    """Create an artifact with the completeness of a night.

    Parameters
    ----------
    census : Completeness
        Result of `look_at_night`.
    """
    if in_run():
        title = f"Night {census.name}"
        publish_markdown(
            f"night-{census.date}-census", f"{title}: {census.verdict}.", census_digest(census)
        )


def publish_table(
    key: str,
    title: str,
    records: Sequence[Mapping[str, Any]],
    *,
    rest: str | None = None,
    n_more: int = 0,
) -> bool:
    """Create a table artifact.

    Parameters
    ----------
    key : str
        Key of the artifact; characters that Prefect does not accept in a key become dashes.
    title : str
        Line above the table, in Markdown.
    records : sequence of mapping
        Rows; only the first `MAX_ROWS` are shown, the others are counted in the title.
    rest : str, optional
        Where the rows that are not shown can be found, for the title (default: not stated).
    n_more : int, optional
        Number of rows besides ``records`` (default: 0).

    Returns
    -------
    bool
        Whether Prefect accepted it; False outside a run.
    """
    more = max(0, n_more) + max(0, len(records) - MAX_ROWS)
    if more > 0:
        title += f" {more:,} more rows" + (f": {rest}." if rest else ".")
    rows = [dict(record) for record in records[:MAX_ROWS]]

    def make() -> None:
        from prefect.artifacts import create_table_artifact

        create_table_artifact(key=_key(key), table=rows, description=title)

    return _publish(make)


def publish_markdown(key: str, title: str, text: str) -> bool:
    """Create a Markdown artifact.

    Parameters
    ----------
    key, title
        As for `publish_table`.
    text : str
        The text, in Markdown.

    Returns
    -------
    bool
        Whether Prefect accepted it; False outside a run.
    """

    def make() -> None:
        from prefect.artifacts import create_markdown_artifact

        create_markdown_artifact(key=_key(key), markdown=text, description=title)

    return _publish(make)


def publish_link(key: str, title: str, target: str) -> bool:
    """Create a link artifact.

    Parameters
    ----------
    key, title
        As for `publish_table`.
    target : str
        A URL, or a local path. Since browsers open no ``file:`` links of a page that was loaded
        over HTTP, the host name is added to the title of a path.

    Returns
    -------
    bool
        Whether Prefect accepted it; False outside a run.
    """
    is_url = re.match(r"[a-z][a-z0-9+.-]*://", target) is not None
    link = target if is_url else Path(target).absolute().as_uri()
    where = "" if is_url else f", on {socket.gethostname()}"

    def make() -> None:
        from prefect.artifacts import create_link_artifact

        create_link_artifact(
            link=link, link_text=target, key=_key(key), description=title + where + "."
        )

    return _publish(make)


@contextlib.contextmanager
def progress_shown(title: str, n_files: int, n_bytes: int) -> Iterator[ProgressArtifact]:
    """Show the progress of all transfers within the block as an artifact of this run.

    Parameters
    ----------
    title : str
        Title of the artifact.
    n_files, n_bytes : int
        Number and total size of the files to transfer.

    Yields
    ------
    ProgressArtifact
        The progress; outside a run transfers do not report to it.
    """
    outer = progress.current()
    artifact = ProgressArtifact(n_files, n_bytes, _artifact_writer(title), also=outer)
    if not in_run():
        yield artifact
        return
    with progress.reported_to(artifact):
        yield artifact


@contextlib.contextmanager
def meanwhile(*publishings: Callable[[], object]) -> Iterator[None]:
    """Call functions in a thread while the block runs: they mostly wait for Prefect's server.

    Where no thread can be started they are called first. Outside a run they are not called. Their
    errors are logged as warnings.
    """
    if not in_run():
        yield
        return

    def publish() -> None:
        for one in publishings:
            try:
                one()
            except Exception as why:  # noqa: BLE001  an error of Prefect does not fail the transfer
                get_logger("artifacts").warning(
                    "Not everything was reported to Prefect: %s", error_text(why)
                )

    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(publish,), name="ctaflows-publish", daemon=True
    )
    if not started(thread):
        publish()
        yield
        return
    yield
    thread.join()


def _artifact_writer(title: str) -> Callable[[float, str], None]:
    """Return a function that creates a progress artifact at its first call, then updates it."""
    created: list[Any] = []

    def write(percent: float, text: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        text = f"{title}: {text}"
        if created:
            update_progress_artifact(created[0], percent, text)
        else:
            created.append(create_progress_artifact(percent, description=text))

    return write


def _publish(make: Callable[[], Any]) -> bool:
    if not in_run():
        return False
    try:
        make()
    except Exception as why:  # noqa: BLE001  an error of Prefect does not fail the transfer
        get_logger("artifacts").warning("Prefect did not accept an artifact: %s", error_text(why))
        return False
    return True


def _rows(report: NightReport) -> list[dict[str, Any]]:
    """Return the rows of a night's table, up to `MAX_ROWS`, those of failed files first."""

    def is_good(transfer: Transfer) -> bool:
        inspection = report.inspections.get(transfer.local)
        return transfer.ok and not (inspection and inspection.error)

    first = sorted(report.transfers, key=is_good)[:MAX_ROWS]
    records = replace(report, transfers=first).records()
    rows = [{**r, "file": r["path"].rpartition("/")[2], "outcome": _outcome(r)} for r in records]
    filled = {key for row in rows for key in _COLUMNS if row.get(key) not in (None, [])}
    return [{key: _cell(row.get(key)) for key in _COLUMNS if key in filled} for row in rows]


def _outcome(record: Mapping[str, Any]) -> str:
    """Return the outcome of a file: the class of its error, ``verified`` or ``unverified``."""
    if record["error"]:
        return str(record["error"]).partition(":")[0]
    return "verified" if record["verified"] else "unverified"


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _key(text: str) -> str:
    """Return a key that Prefect accepts: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


# -- progress of a run -----------------------------------------------------------------------------
#
# The threads that transfer files only add to counters. A separate thread updates the artifact every
# few seconds; the run goes on if that thread is slow, hangs or fails.

#: Time between two updates in seconds; the first comes at once.
EVERY_S = 5.0
#: Longest wait for the last update at the end of the block, in seconds.
_PATIENCE_S = 10.0

log = logging.getLogger("ctaflows.reporting.artifacts")


class ProgressArtifact(Progress):
    """Counts transferred files and bytes, and reports them regularly within its block.

    Parameters
    ----------
    n_files, n_bytes : int
        Number and total size of the files to transfer.
    tell : Callable
        Called with a percentage (0 to 100) and a text, in a thread of this object.
    also : Progress, optional
        Another progress to pass all calls on to, such as a bar on the terminal (default: none).
    every_s : float, optional
        Time between two reports in seconds (default: 5).
    """

    def __init__(
        self,
        n_files: int,
        n_bytes: int,
        tell: Callable[[float, str], None],
        *,
        also: Progress | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._n_files, self._n_bytes = n_files, n_bytes
        self._tell = tell
        self._also = also or Progress()
        self._every_s = every_s
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._expected_bytes = self._done_bytes = self._done_files = 0
        self._arrived_bytes = self._arrived_files = self._arrived_failed = 0
        self._began = time.monotonic()
        self._over = threading.Event()
        self._has_warned = False

    def expect(self, n_files: int, n_bytes: int) -> None:
        """Count files that are going to be transferred, again for each attempt of a batch."""
        with self._lock:
            self._expected_bytes += n_bytes
        self._also.expect(n_files, n_bytes)

    def advance(self, n_bytes: int) -> None:
        """Count transferred bytes; a negative number takes back bytes that have to be repeated."""
        with self._lock:
            self._done_bytes += n_bytes
        self._also.advance(n_bytes)

    def finished(self, transfer: Transfer) -> None:
        """Count a file whose transfer has ended, successful or not."""
        with self._lock:
            self._done_files += 1
        self._also.finished(transfer)

    def arrived(self, report: Report) -> Report:
        """Count a batch that has ended, and return its report.

        For batches of other processes, whose transfers this object does not see.
        """
        with self._lock:
            self._arrived_bytes += sum(t.size_bytes or 0 for t in report.transfers if t.ok)
            self._arrived_files += len(report.transfers)
            self._arrived_failed += len(report.failed)
        return report

    def reading(self) -> tuple[float, str]:
        """Return the percentage (0 to 100) of bytes transferred, and the progress as text."""
        if not self._n_files:
            return 100.0, "nothing to move"
        with self._lock:
            all_bytes = max(self._n_bytes, self._expected_bytes)
            n_bytes = min(max(self._done_bytes, self._arrived_bytes), all_bytes)
            n_files = min(max(self._done_files, self._arrived_files), self._n_files)
            # only of a batch that has ended it is known which files failed in the last attempt
            n_failed = self._arrived_failed
        share = n_bytes / all_bytes if all_bytes else n_files / self._n_files
        seconds = time.monotonic() - self._began
        words = f"{n_files:,} of {self._n_files:,} files, {human_bytes(n_bytes)}"
        words += f" of {human_bytes(all_bytes)}"
        if n_bytes and n_files < self._n_files and seconds > 1:
            words += f", {human_bytes(n_bytes / seconds)}/s, "
            words += f"about {human_seconds(seconds / share - seconds)} left"
        if n_failed:
            words += f", {n_failed:,} failed"
        return 100.0 * share, words

    def __enter__(self) -> Self:
        # Prefect finds the run in context variables
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._watch,), name="ctaflows-progress", daemon=True
        )
        if started(thread):  # else nobody sees how far it is
            self._thread = thread
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)

    def _watch(self) -> None:
        reported: tuple[float, str] | None = None
        is_over = False
        while True:
            reading = self.reading()
            if reading != reported and self._report(*reading):
                reported = reading
            if is_over:
                return
            is_over = self._over.wait(self._every_s)

    def _report(self, percent: float, text: str) -> bool:
        try:
            self._tell(percent, text)
        except Exception as why:  # noqa: BLE001  an error of Prefect does not fail the transfer
            if not self._has_warned:
                log.warning("The progress of this run can't be shown: %s", error_text(why))
            self._has_warned = True
            return False
        return True


def human_seconds(seconds: float) -> str:
    """Return a duration as text: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
