"""Batches of files in a flow: their size, how many run at once, their results and retries."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from ctaflows import errors
from ctaflows.dl1.names import parse_name
from ctaflows.errors import CtaflowsError, PartialFailure
from ctaflows.model import Report
from ctaflows.tracking.run_context import task_parameters
from ctaflows.tracking.tracked import in_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ctaflows.model import Transfer

T = TypeVar("T")

#: Batches at once in this process. Each transfers many files at once by itself, so that three keep
#: the connection busy while one of them ends.
_MAX_LOCAL = 3
#: Options of the tasks within flows: before a task run starts, Prefect asks its server for the
#: concurrency limit of each of its tags (prefect 3.9.1, task_engine.py: start), some 50 ms each.
UNTAGGED: dict[str, Any] = {"tags": [], "persist_result": False}
#: Batches at once on a cluster: in effect no limit, the task runner decides how many run.
_MAX_REMOTE = 10_000


def run_batches(begin: Callable[[T], Any], items: Iterable[T]) -> Iterator[tuple[T, Any]]:
    """Submit work for each item, a few at a time, and yield each item with its result, in order.

    Parameters
    ----------
    begin : callable
        Submits an item's work and returns its future, or None if there is nothing to do.
    items : iterable
        The items; each is taken only when its work can be submitted.

    Yields
    ------
    item, result
        The item, and what its work returned, or the error it raised, or None.
    """
    most = _max_at_once()
    begun: deque[tuple[T, Any]] = deque()
    for item in items:
        begun.append((item, begin(item)))
        if len(begun) >= most:
            yield _settled(*begun.popleft())
    while begun:
        yield _settled(*begun.popleft())


def files_a_batch(n_files: int) -> int:
    """Return how many files a batch may have at most; its bytes are limited too.

    A batch costs Prefect's server some 100 ms of CPU and this process as much, however many files
    it has. In this process four batches are enough for one to end while others go on; a cluster
    needs some sixteen.

    Parameters
    ----------
    n_files : int
        Number of files to transfer.

    Returns
    -------
    int
        Between 100 and 4000 in this process, between 100 and 1000 on a cluster.
    """
    n_batches, most = (4, 4000) if _is_in_process() else (16, 1000)
    return min(max(100, -(-n_files // n_batches)), most)


def parts_of(transfers: Sequence[Transfer], *, least: int = 100, most: int = 85) -> list[Report]:
    """Split the records of many files into reports, in order.

    Parameters
    ----------
    transfers : sequence of Transfer
        The records.
    least : int, optional
        Minimum number of records of a report, except the last.
    most : int, optional
        Maximum number of reports.

    Returns
    -------
    list of Report
        The reports.
    """
    size = max(least, -(-len(transfers) // most))
    return [
        Report(tuple(transfers[start : start + size])) for start in range(0, len(transfers), size)
    ]


def _settled(item: T, future: Any) -> tuple[T, Any]:
    return item, None if future is None else future.result(raise_on_failure=False)


def _max_at_once() -> int:
    """Return how many batches may run at once."""
    return _MAX_LOCAL if _is_in_process() else _MAX_REMOTE


def _is_in_process() -> bool:
    """Return whether this flow run's tasks run in this process."""
    if not in_run():
        return True
    from prefect.context import FlowRunContext
    from prefect.task_runners import ThreadPoolTaskRunner

    context = FlowRunContext.get()
    return context is None or isinstance(context.task_runner, ThreadPoolTaskRunner)


def result_or_raise(result: Any) -> Any:
    """Return a result, or raise it if it is an exception."""
    if isinstance(result, BaseException):
        raise result
    return result


def report_of(result: Any) -> Report:
    """Return the report of a batch, including one in which files failed.

    Parameters
    ----------
    result : Report or BaseException
        What the batch's task returned or raised.

    Returns
    -------
    Report
        The report; that of a `PartialFailure` too.

    Raises
    ------
    BaseException
        The batch failed as a whole, not some of its files.
    """
    report: Report = (
        result.report if isinstance(result, PartialFailure) else result_or_raise(result)
    )
    return report


def is_retryable(error: object) -> bool:
    """Return whether the same work may succeed later without anybody's intervention.

    Parameters
    ----------
    error : object
        The error. For a `PartialFailure` one retryable file is enough: the others are in place, or
        fail again at the cost of one request.

    Returns
    -------
    bool
        False for anything that is not an error of ctaflows.
    """
    if isinstance(error, PartialFailure):
        return any(_is_retryable_kind(t.error) for t in error.report.transfers if t.error)
    return isinstance(error, CtaflowsError) and error.retryable


def _is_retryable_kind(text: str) -> bool:
    kind = getattr(errors, text.partition(":")[0], None)
    return isinstance(kind, type) and issubclass(kind, CtaflowsError) and kind.retryable


def may_try_again(task: Any, task_run: Any, state: Any) -> bool:  # noqa: ARG001
    """Return whether Prefect retries a failed task run (its ``retry_condition_fn``)."""
    data = state.data
    return is_retryable(getattr(data, "result", data))


def fetch_name() -> str:
    """Return the name of a task run that fetches files (its ``task_run_name``)."""
    return f"fetch {files_named(task_parameters()['paths'])}"


def inspect_name() -> str:
    """Return the name of a task run that inspects files (its ``task_run_name``)."""
    return f"inspect {files_named(task_parameters()['paths'])}"


def files_named(paths: Sequence[Any]) -> str:
    """Return a short text for several files: the first, the last and their number."""
    if not paths:
        return "nothing"
    first, last = (_short(str(getattr(p, "path", p))) for p in (paths[0], paths[-1]))
    return first if len(paths) == 1 else f"{first} to {last}, {len(paths)} files"


def _short(path: str) -> str:
    name = parse_name(path)
    if name is None:
        return path.rpartition("/")[2]
    kind = "" if name.kind == "dl1" else f"{name.kind} "
    subrun = "" if name.subrun is None else f".{name.subrun:04d}"
    return f"{kind}Run{name.run:05d}{subrun}"
