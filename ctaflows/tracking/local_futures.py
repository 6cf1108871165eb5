"""Futures without Prefect, which `submit` and `map` return where nothing is tracked."""

from __future__ import annotations

import concurrent.futures
import contextvars
import inspect
import io
import sys
import threading
from typing import TYPE_CHECKING, Any

from ctaflows import cancel
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

# Bounded; tasks that wait for tasks don't deadlock all the same: see LocalFuture.wait.
_threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="ctaflows")


class LocalState:
    """The state of a call in a thread: the part of Prefect's ``State`` that makes sense there.

    Parameters
    ----------
    future : concurrent.futures.Future
        The call.
    """

    def __init__(self, future: concurrent.futures.Future[Any]) -> None:
        self._future = future

    @property
    def name(self) -> str:
        """``Pending``, ``Running``, ``Completed``, ``Failed`` or ``Cancelled``."""
        if not self._future.done():
            return "Running" if self._future.running() else "Pending"
        if self._future.cancelled():
            return "Cancelled"
        return "Completed" if self._future.exception() is None else "Failed"

    def is_pending(self) -> bool:
        """Return whether the call has not started."""
        return self.name == "Pending"

    def is_running(self) -> bool:
        """Return whether the call is running."""
        return self.name == "Running"

    def is_completed(self) -> bool:
        """Return whether the call has returned."""
        return self.name == "Completed"

    def is_failed(self) -> bool:
        """Return whether the call has raised an error."""
        return self.name == "Failed"

    def is_final(self) -> bool:
        """Return whether the call has ended or was cancelled."""
        return self._future.done()

    def result(self, raise_on_failure: bool = True) -> Any:
        """Return the call's result; raise its error, or return it with `raise_on_failure` False."""
        error = self._future.exception()
        if error is None:
            return self._future.result()
        if raise_on_failure:
            raise error
        return error

    def __repr__(self) -> str:
        return f"{self.name}()"


class LocalFuture:
    """An untracked call in a thread of this process, with the submitter's context variables.

    Parameters
    ----------
    call : Callable[[], Any]
        The call.
    """

    #: Was any created? Until then arguments of direct calls need not be searched for futures.
    any_made = False

    def __init__(self, call: Callable[[], Any]) -> None:
        LocalFuture.any_made = True
        self._context = contextvars.copy_context()
        self._call = call
        self._claim = threading.Lock()
        self._future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        _threads.submit(self._run)

    def _run(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        self._future.set_running_or_notify_cancel()
        try:
            value = self._context.run(_stoppable, self._call)
        except BaseException as error:
            self._future.set_exception(error)
            if not isinstance(
                error, Exception
            ):  # Ctrl-C also stops a thread that waits for this call
                raise
        else:
            self._future.set_result(value)

    @property
    def state(self) -> LocalState:
        """The present state of the call."""
        return LocalState(self._future)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end of the call, at most `timeout` seconds."""
        if timeout is None:
            # A call that has not started runs in this thread: else tasks that wait for tasks could
            # occupy all threads and deadlock.
            self._run()
        try:
            concurrent.futures.wait([self._future], timeout)
        except BaseException:  # Ctrl-C, or the signal that ends a Prefect run
            self.cancel()
            cancel.stop_all()
            raise

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Return the call's result when it has ended.

        Parameters
        ----------
        timeout : float, optional
            Longest wait, seconds; by default there is no limit.
        raise_on_failure : bool
            Raise the call's error; with False it is returned.

        Raises
        ------
        TimeoutError
            The call has not ended after `timeout` seconds.
        """
        self.wait(timeout)
        if not self._future.done():
            raise TimeoutError(f"the call has not ended after {timeout} s")
        return self.state.result(raise_on_failure)

    def cancel(self) -> bool:
        """Cancel the call if it has not started; return whether that succeeded."""
        if not self._claim.acquire(blocking=False):
            return False
        self._future.cancel()
        self._future.set_running_or_notify_cancel()
        return True

    def add_done_callback(self, callback: Callable[[LocalFuture], Any]) -> None:
        """Call `callback` with this future when the call has ended."""
        self._future.add_done_callback(lambda _: callback(self))


def _stoppable(call: Callable[[], Any]) -> Any:
    """Make a call with a stop event of its own.

    `cancel.stop_all` concerns only work that has begun: with this event the rest of the call is
    stopped too.
    """
    stop = threading.Event()
    with cancel.link_child(stop), cancel.scope(stop):
        return call()


class LocalFutureList(list[LocalFuture]):
    """The futures of a `map`, in the order of the mapped values."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end of all calls, at most `timeout` seconds; Ctrl-C cancels the rest."""
        try:
            if timeout is None:
                for future in self:
                    future.wait()
            concurrent.futures.wait([future._future for future in self], timeout)  # noqa: SLF001
        except BaseException:
            for future in self:
                future.cancel()
            raise

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """Return the results of all calls; see `LocalFuture.result`."""
        self.wait(timeout)
        return [
            future.result(0 if timeout is not None else None, raise_on_failure) for future in self
        ]


class Unmapped:
    """A value that `map` passes to every call as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


def settled(value: Any) -> Any:
    """Return the result of a local future, or a list of those of several, else the value."""
    if isinstance(value, (LocalFuture, LocalFutureList)):
        return value.result()
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], LocalFuture):
        return [future.result() for future in value]
    return value


def expand(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return the arguments of each call of a `map`, by the rules of Prefect's ``TaskRunner.map``.

    Raises
    ------
    UsageError
        No argument is iterable, or iterable ones differ in length.
    """
    signature = inspect.signature(fn)
    given = dict(signature.bind(*args, **kwargs).arguments)
    spread = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
    extra = set(given.get(spread, ()) if spread else ())
    given.update(given.pop(spread, {}) if spread else {})

    static: dict[str, Any] = {}
    mapped: dict[str, list[Any]] = {}
    for key, value in given.items():
        is_static, value = _unwrap(settled(value))
        if is_static or not _is_iterable(value):
            static[key] = value
        else:
            mapped[key] = list(value)
    if not mapped:
        raise UsageError("no argument of map is iterable", where=fn.__qualname__)
    lengths = {key: len(values) for key, values in mapped.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"arguments of map differ in length: {lengths}", where=fn.__qualname__)

    calls = []
    for values in zip(*mapped.values(), strict=True):
        one = {**static, **dict(zip(mapped, values, strict=True))}
        if spread:
            one[spread] = {key: one.pop(key) for key in extra}
        bound = inspect.BoundArguments(signature, one)
        calls.append((bound.args, bound.kwargs))
    return calls


def _unwrap(value: Any) -> tuple[bool, Any]:
    """Return whether a value is marked as unmapped, and the value without its annotations.

    Both our `Unmapped` and the annotations of Prefect are removed.
    """
    if isinstance(value, Unmapped):
        return True, value.value
    theirs = sys.modules.get("prefect.utilities.annotations")
    is_static = False
    while theirs is not None and isinstance(value, theirs.BaseAnnotation):
        is_static = is_static or isinstance(value, theirs.unmapped)
        value = value.unwrap()
    return is_static, value


def _is_iterable(value: Any) -> bool:
    if isinstance(value, str | bytes | io.IOBase):
        return False
    try:
        iter(value)
    except TypeError:
        return False
    return True
