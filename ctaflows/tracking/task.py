"""Tasks that run with Prefect and without it: the `task` decorator.

An operation is a plain, typed function; a task is that function, tracked::

    @task(name="fetch-file", retries=2, retry_delay_seconds=10)
    def fetch_file(path: str, dest: Path) -> Transfer: ...

    fetch_file(path, dest)               # outside a run: the function itself; no Prefect, no server
    fetch_file(path, dest)               # inside a flow: a task run with its name, retries, state
    fetch_file.submit(path, dest)        # at once in a thread; inside a flow by the task runner
    fetch_file.map(paths, unmapped(dest))

``CTAFLOWS_TRACK`` decides at the time of the call whether it is tracked (see
`ctaflows.tracking.tracked.is_tracked`). A call that is not tracked does not use the task's retries;
HTTP requests are retried in either case. Options are those of `prefect.task`; type checkers see
`prefect.Task[P, R]`.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

from ctaflows.prefect_client import check_server, prefect_error
from ctaflows.tracking.cancellation import stopped_by_interruption
from ctaflows.tracking.local_futures import LocalFuture, LocalFutureList, Unmapped, expand, settled
from ctaflows.tracking.tracked import Tracked, in_run, is_tracked

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect import task as task
    from prefect import unmapped as unmapped


_NOT_BEGUN = "The call can't be tracked"
_UNTRACKED = "Start the server, mend PREFECT_API_URL, or leave CTAFLOWS_TRACK at auto."


class DualTask(Tracked):
    """A plain function that runs as a Prefect task where it is tracked."""

    prefect_class = ("prefect.tasks", "Task")

    def _build(self) -> Any:
        if self._base is not None:
            return self._base.real.with_options(**self._options)
        import prefect

        return prefect.task(self.fn, **self._options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, or the Prefect task where it is tracked."""
        if is_tracked():
            return self.real(*args, **kwargs) if in_run() else self._run_alone(args, kwargs)
        if "return_state" in kwargs or "wait_for" in kwargs:
            submitted = self._submit_to_thread(args, kwargs)
            return submitted.result() if isinstance(submitted, LocalFuture) else submitted
        if not LocalFuture.any_made:
            return self.fn(*args, **kwargs)
        return self.fn(*map(settled, args), **{k: settled(v) for k, v in kwargs.items()})

    def _run_alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the Prefect task outside a run, if there is a server that would take it."""
        check_server(_NOT_BEGUN, _UNTRACKED)
        try:
            return self.real(*args, **kwargs)
        except Exception as why:
            frames = traceback.walk_tb(why.__traceback__)
            is_of_function = any(frame.f_code is self.fn.__code__ for frame, _ in frames)
            error = None if is_of_function else prefect_error(why, _NOT_BEGUN, hint=_UNTRACKED)
            if error is None:
                raise
            raise error from None

    def with_options(self, **changes: Any) -> DualTask:
        """Return a task of the same function with other options, as `prefect.Task.with_options`."""
        return type(self)(self.fn, changes, self)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Start a call in the flow's task runner where it is tracked, else in a thread.

        Returns
        -------
        PrefectFuture or LocalFuture
            Both have ``result``, ``wait`` and ``state``.
        """
        if is_tracked() and _in_flow():
            # self, not Prefect's task: task runners of processes and Dask pickle the task, which
            # for this object is a reference, for Prefect's task a copy of its function's globals.
            with stopped_by_interruption():
                return type(self.real).submit(self, *args, **kwargs)
        return self._submit_to_thread(args, kwargs)

    def _submit_to_thread(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        wait_for = kwargs.pop("wait_for", None)
        return_state = kwargs.pop("return_state", False)

        def call() -> Any:
            settled(wait_for)
            return self(*args, **kwargs)

        future = LocalFuture(call)
        if not return_state:
            return future
        future.wait()
        return future.state

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Start a call for each element of the iterable arguments, as `prefect.Task.map`.

        Returns
        -------
        PrefectFutureList or LocalFutureList
            Both have ``result`` and ``wait``.

        Raises
        ------
        UsageError
            Where it is not tracked: no argument is iterable, or iterable ones differ in length.
        """
        if kwargs.get("deferred") or (is_tracked() and _in_flow()):
            from prefect import unmapped as theirs

            def convert(value: Any) -> Any:
                return theirs(value.value) if isinstance(value, Unmapped) else value

            args = tuple(map(convert, args))
            kwargs = {key: convert(value) for key, value in kwargs.items()}
            with stopped_by_interruption():
                return type(self.real).map(self, *args, **kwargs)
        kwargs.pop("deferred", None)
        wait_for, return_state = kwargs.pop("wait_for", None), kwargs.pop("return_state", False)
        futures = LocalFutureList(
            self._submit_to_thread(call_args, {**call_kwargs, "wait_for": wait_for})
            for call_args, call_kwargs in expand(self.fn, args, kwargs)
        )
        if not return_state:
            return futures
        futures.wait()
        return [future.state for future in futures]


def _in_flow() -> bool:
    """Return whether a flow run is going on, whose task runner can take a task."""
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None


if not TYPE_CHECKING:
    unmapped = Unmapped

    def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make an operation of a plain, typed function.

        Parameters
        ----------
        fn : Callable, optional
            The function, where the decorator is written without parentheses.
        **options : Any
            Options of `prefect.task`.

        Returns
        -------
        DualTask
            The function, which runs as a Prefect task where it is tracked.
        """
        if fn is None:
            return lambda fn: DualTask(fn, options)
        return DualTask(fn, options)


def get_logger(name: str) -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the logger of an operation: the run's logger inside a run, else one of ``logging``.

    Parameters
    ----------
    name : str
        Name below ``ctaflows`` of the logger outside a run.
    """
    if in_run():
        import prefect

        try:
            return prefect.get_run_logger()
        except RuntimeError:  # MissingContextError: Flow.visualize, or a run that has not started
            pass
    return logging.getLogger(f"ctaflows.{name.removeprefix('ctaflows.')}")
