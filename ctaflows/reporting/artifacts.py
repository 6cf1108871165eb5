"""What people see of a run in Prefect's UI: tables, summaries, links, progress.

Outside a run all of it is nothing. A server that is away, slow or unwilling never fails a run or
holds up a transfer: what it did not take the log tells, and the manifest has the night in any case.
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
from ctaflows.text import human_bytes
from ctaflows.tracking.task import get_logger
from ctaflows.tracking.tracked import in_run
from ctaflows.transfer import progress
from ctaflows.transfer.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ctaflows.dl1.night_completeness import Completeness
    from ctaflows.dl1.report.night_report import NightReport
    from ctaflows.model import Report, Transfer

#: More rows than this make a page nobody reads; the manifest has them all.
MAX_ROWS = 1000
#: What people look for first stands first: a page shows some eight narrow columns.
_COLUMNS = (
    "file", "outcome", "size_bytes", "n_events", "rate_hz", "verdict", "duration_s", "checksum",
    "moved_bytes", "run", "subrun", "remarks", "error",
)  # fmt: skip


def publish_night(report: NightReport) -> bool:
    """Make a table, a summary and links of the night in Prefect's UI.

    Parameters
    ----------
    report : NightReport
        The night. Failed files come first.

    Returns
    -------
    bool
        Did Prefect take all of it?
    """
    if not in_run():
        return False
    key = f"night-{report.date}"
    title = f"Night {report.name}"
    n_more = len(report.transfers) - MAX_ROWS
    verdict = f"{title}: {report.verdict()}."
    # where the server takes one no more, each of the others would only wait for it again
    if not publish_table(key, verdict, _rows(report), rest=report.manifest, n_more=n_more):
        return False
    if not publish_markdown(f"{key}-summary", verdict, digest(report)):
        return False
    manifest = f"{title}: the proof of each file"
    return publish_link(f"{key}-manifest", manifest, report.manifest) and publish_page(report)


def publish_page(report: NightReport) -> bool:
    """Make a link to a night's page, where one was written; say whether Prefect took it."""
    if not report.page:
        return True
    title = f"Night {report.name}"
    key = f"night-{report.date}-page"
    return publish_link(key, f"{title}: the page with plots", report.page)


def publish_census(census: Completeness) -> None:
    """Make a page in Prefect's UI of a night that was looked at.

    Parameters
    ----------
    census : Completeness
        What `look_at_night` gave.
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
    """Make a table artifact.

    Parameters
    ----------
    key : str
        Its key; what Prefect does not take in one becomes a dash.
    title : str
        The line above it, Markdown.
    records : sequence of mapping
        The rows, `MAX_ROWS` of them at most.
    rest : str, optional
        Where the rows are that find no place.
    n_more : int
        How many of these there are beside the records.

    Returns
    -------
    bool
        Did Prefect take it?
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
    """Make a Markdown artifact; key and title as for `publish_table`."""

    def make() -> None:
        from prefect.artifacts import create_markdown_artifact

        create_markdown_artifact(key=_key(key), markdown=text, description=title)

    return _publish(make)


def publish_link(key: str, title: str, target: str) -> bool:
    """Make a link artifact; key and title as for `publish_table`.

    Parameters
    ----------
    key, title
        As for `publish_table`.
    target : str
        An address, or a path here. Browsers open no file for a page that came over http: the
        title says on which machine it lies.
    """
    is_address = re.match(r"[a-z][a-z0-9+.-]*://", target) is not None
    link = target if is_address else Path(target).absolute().as_uri()
    where = "" if is_address else f", on {socket.gethostname()}"

    def make() -> None:
        from prefect.artifacts import create_link_artifact

        create_link_artifact(
            link=link, link_text=target, key=_key(key), description=title + where + "."
        )

    return _publish(make)


@contextlib.contextmanager
def progress_shown(title: str, n_files: int, n_bytes: int) -> Iterator[ProgressArtifact]:
    """Keep a progress artifact of this run while its block lasts; all transfers within are heard.

    Parameters
    ----------
    title : str
        What is moved.
    n_files, n_bytes : int
        How much of it.
    """
    heard = progress.current()
    gauge = ProgressArtifact(n_files, n_bytes, _told_to_prefect(title), also=heard)
    if not in_run():
        yield gauge
        return
    with progress.reported_to(gauge):
        yield gauge


@contextlib.contextmanager
def meanwhile(*publishings: Callable[[], object]) -> Iterator[None]:
    """Publish while the block does something else: most of it is waiting for Prefect's server."""
    if not in_run():
        yield
        return

    def publish() -> None:
        for one in publishings:
            try:
                one()
            except Exception as why:  # noqa: BLE001  whatever it is, the files matter more
                get_logger("artifacts").warning("Prefect was not told all: %s", why)

    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(publish,), name="ctaflows-publish", daemon=True
    )
    thread.start()
    yield
    thread.join()


def _told_to_prefect(title: str) -> Callable[[float, str], None]:
    """Give what makes the artifact at the first call and changes it from then on."""
    made: list[Any] = []

    def tell(percent: float, text: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        text = f"{title}: {text}"
        if made:
            update_progress_artifact(made[0], percent, text)
        else:
            made.append(create_progress_artifact(percent, description=text))

    return tell


def _publish(make: Callable[[], Any]) -> bool:
    if not in_run():
        return False
    try:
        make()
    except Exception as why:  # noqa: BLE001  whatever it is, the files matter more
        get_logger("artifacts").warning("Prefect did not take an artifact: %s", why)
        return False
    return True


def _rows(report: NightReport) -> list[dict[str, Any]]:
    """Make the rows of a night's table, as many as it takes: those of failed files first."""

    def is_good(transfer: Transfer) -> bool:
        looked = report.inspections.get(transfer.local)
        return transfer.ok and not (looked and looked.error)

    first = sorted(report.transfers, key=is_good)[:MAX_ROWS]
    records = replace(report, transfers=first).records()
    rows = [{**r, "file": r["path"].rpartition("/")[2], "outcome": _outcome(r)} for r in records]
    filled = {key for row in rows for key in _COLUMNS if row.get(key) not in (None, [])}
    return [{key: _cell(row.get(key)) for key in _COLUMNS if key in filled} for row in rows]


def _outcome(record: Mapping[str, Any]) -> str:
    """Say in a word what became of a file: the class of its error, or how far it is proven."""
    if record["error"]:
        return str(record["error"]).partition(":")[0]
    return "verified" if record["verified"] else "unverified"


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _key(text: str) -> str:
    """Make a key that Prefect takes: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


# -- progress of a run -----------------------------------------------------------------------------
#
# A progress artifact counts transfers and is updated every few seconds. The threads that move files
# only add to counters; one thread of its own sends the updates, and the run goes on without it if
# that is slow, hangs or fails.

#: Seconds between two messages; the first comes at once.
EVERY_S = 5.0
#: Longest wait for the last message at the end of a run, in seconds.
_PATIENCE_S = 10.0

log = logging.getLogger("ctaflows.reporting.artifacts")


class ProgressArtifact(Progress):
    """Counts what is moved, and tells of it while its block lasts.

    Parameters
    ----------
    n_files, n_bytes : int
        What there is to do in all.
    tell : Callable
        Takes a percentage (0 to 100) and a text; called in a thread of the gauge's own.
    also : Progress, optional
        Hears all of it too, such as a bar on the terminal.
    every_s : float
        Seconds between two messages.
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
        self._lock = threading.Lock()
        self._expected_bytes = self._done_bytes = self._done_files = 0
        self._arrived_bytes = self._arrived_files = self._arrived_failed = 0
        self._began = time.monotonic()
        self._over = threading.Event()
        self._has_warned = False

    def expect(self, n_files: int, n_bytes: int) -> None:
        """More files are going to be moved; a batch that is tried again is expected again."""
        with self._lock:
            self._expected_bytes += n_bytes
        self._also.expect(n_files, n_bytes)

    def advance(self, n_bytes: int) -> None:
        """Bytes have come (or, negative, turned out to be useless)."""
        with self._lock:
            self._done_bytes += n_bytes
        self._also.advance(n_bytes)

    def finished(self, transfer: Transfer) -> None:
        """One file has ended, well or not."""
        with self._lock:
            self._done_files += 1
        self._also.finished(transfer)

    def arrived(self, report: Report) -> Report:
        """Count a batch that has ended, and give it back: others than those here tell no more."""
        with self._lock:
            self._arrived_bytes += sum(t.size_bytes or 0 for t in report.transfers if t.ok)
            self._arrived_files += len(report.transfers)
            self._arrived_failed += len(report.failed)
        return report

    def reading(self) -> tuple[float, str]:
        """Give the percentage, and the same in words."""
        if not self._n_files:
            return 100.0, "nothing to move"
        with self._lock:
            all_bytes = max(self._n_bytes, self._expected_bytes)
            n_bytes = min(max(self._done_bytes, self._arrived_bytes), all_bytes)
            n_files = min(max(self._done_files, self._arrived_files), self._n_files)
            # of a batch that ended only what ended badly in its last try is known to have failed
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
        # the run is known to the thread by the context's variables
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._watch,), name="ctaflows-gauge", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(_PATIENCE_S)

    def _watch(self) -> None:
        told: tuple[float, str] | None = None
        is_over = False
        while True:
            reading = self.reading()
            if reading != told and self._told(*reading):
                told = reading
            if is_over:
                return
            is_over = self._over.wait(self._every_s)

    def _told(self, percent: float, text: str) -> bool:
        try:
            self._tell(percent, text)
        except Exception as why:  # noqa: BLE001  whatever it is, the files matter more
            if not self._has_warned:
                log.warning("The progress of this run can't be shown: %s", why)
            self._has_warned = True
            return False
        return True


def human_seconds(seconds: float) -> str:
    """Write a time for people: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
