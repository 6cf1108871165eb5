"""Batches of work in a flow: a few at a time, what came of each, and when to try again."""

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

#: Batches at a time in this process: as each moves many files at once by itself, this many keep the
#: line full while one of them ends.
_HERE = 3
#: Options of the tasks within our flows: Prefect asks its server about the limit of each tag of a
#: task run before it begins (prefect 3.9.1, task_engine.py: start), some 50 ms each time.
UNTAGGED: dict[str, Any] = {"tags": [], "persist_result": False}
#: Elsewhere, on a cluster, the task runner knows how many fit.
_ELSEWHERE = 10_000


def run_batches(begin: Callable[[T], Any], items: Iterable[T]) -> Iterator[tuple[T, Any]]:
    """Begin work for each item, a few at a time, and give each with what came of it, in order.

    Parameters
    ----------
    begin : Callable
        Gives the future of an item's work, or None where there is nothing to do.
    items : iterable
        What to work on; taken from it no sooner than it can be begun.

    Yields
    ------
    item, result
        What the work returned, or the error it raised, or None.
    """
    most = _n_at_once()
    begun: deque[tuple[T, Any]] = deque()
    for item in items:
        begun.append((item, begin(item)))
        if len(begun) >= most:
            yield _settled(*begun.popleft())
    while begun:
        yield _settled(*begun.popleft())


def files_a_batch(n_files: int) -> int:
    """Say how many files a batch of small ones should have.

    Each costs the server some 100 ms of CPU and this process as much, however many files it has. In
    this process four are enough for one to end while others go on; elsewhere a cluster wants some
    sixteen.
    """
    n_batches, most = (4, 4000) if _is_here() else (16, 1000)
    return min(max(100, -(-n_files // n_batches)), most)


def parts_of(transfers: Sequence[Transfer], *, least: int = 100, most: int = 85) -> list[Report]:
    """Cut the records of many files into at most `most` reports of at least `least`, in order."""
    size = max(least, -(-len(transfers) // most))
    return [
        Report(tuple(transfers[start : start + size])) for start in range(0, len(transfers), size)
    ]


def _settled(item: T, future: Any) -> tuple[T, Any]:
    return item, None if future is None else future.result(raise_on_failure=False)


def _n_at_once() -> int:
    """Say how many batches are worth having under way."""
    return _HERE if _is_here() else _ELSEWHERE


def _is_here() -> bool:
    """Do this run's tasks run in this process?"""
    if not in_run():
        return True
    from prefect.context import FlowRunContext
    from prefect.task_runners import ThreadPoolTaskRunner

    context = FlowRunContext.get()
    return context is None or isinstance(context.task_runner, ThreadPoolTaskRunner)


def result_or_raise(result: Any) -> Any:
    """Give a result, or raise it where it is an error."""
    if isinstance(result, BaseException):
        raise result
    return result


def report_of(result: Any) -> Report:
    """Give the report of a batch, also of one in which files failed.

    Raises
    ------
    BaseException
        The batch as a whole failed, not some of its files.
    """
    report: Report = (
        result.report if isinstance(result, PartialFailure) else result_or_raise(result)
    )
    return report


def is_retryable(error: object) -> bool:
    """Say whether the same work may succeed later without anybody doing anything.

    Parameters
    ----------
    error : object
        What was raised. Of many files one that may succeed is enough: the others are in place, or
        fail again at the cost of one request.
    """
    if isinstance(error, PartialFailure):
        return any(_is_retryable_kind(t.error) for t in error.report.transfers if t.error)
    return isinstance(error, CtaflowsError) and error.retryable


def _is_retryable_kind(text: str) -> bool:
    kind = getattr(errors, text.partition(":")[0], None)
    return isinstance(kind, type) and issubclass(kind, CtaflowsError) and kind.retryable


def may_try_again(task: Any, task_run: Any, state: Any) -> bool:  # noqa: ARG001
    """Decide for Prefect (``retry_condition_fn``) whether a failed task run is tried again."""
    data = state.data
    return is_retryable(getattr(data, "result", data))


def fetch_name() -> str:
    """Name a task run after the files it fetches (``task_run_name``)."""
    return f"fetch {files_named(task_parameters()['paths'])}"


def inspect_name() -> str:
    """Name a task run after the files it looks into (``task_run_name``)."""
    return f"inspect {files_named(task_parameters()['paths'])}"


def files_named(paths: Sequence[Any]) -> str:
    """Name many files by the first and the last of them."""
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
