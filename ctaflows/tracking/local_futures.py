"""Futures without Prefect: what `submit` and `map` give where nothing is tracked."""

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

# Bounded, and yet no deadlock when tasks wait for tasks: see LocalFuture.result.
_threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="ctaflows")


class LocalState:
    """How far a call in a thread has come: the little of Prefect's ``State`` that makes sense.

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
        """Is the call still to begin?"""
        return self.name == "Pending"

    def is_running(self) -> bool:
        """Is the call going on?"""
        return self.name == "Running"

    def is_completed(self) -> bool:
        """Has the call returned?"""
        return self.name == "Completed"

    def is_failed(self) -> bool:
        """Has the call raised?"""
        return self.name == "Failed"

    def is_final(self) -> bool:
        """Is the call over?"""
        return self._future.done()

    def result(self, raise_on_failure: bool = True) -> Any:
        """Give what the call returned, or raise (else return) what it raised."""
        error = self._future.exception()
        if error is None:
            return self._future.result()
        if raise_on_failure:
            raise error
        return error

    def __repr__(self) -> str:
        return f"{self.name}()"


class LocalFuture:
    """A call in a thread of this process, untracked, with the context of who submitted it.

    Parameters
    ----------
    call : Callable[[], Any]
        The work.
    """

    #: Has any been made? Until then no argument of a direct call needs to be looked at.
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
            if not isinstance(error, Exception):  # Ctrl-C stops also whoever only waits
                raise
        else:
            self._future.set_result(value)

    @property
    def state(self) -> LocalState:
        """How far the call has come."""
        return LocalState(self._future)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end of the call, at most `timeout` seconds."""
        if timeout is None:
            # A call that no thread has begun yet is made here: else tasks that wait for tasks
            # could fill all threads and stand still.
            self._run()
        try:
            concurrent.futures.wait([self._future], timeout)
        except BaseException:  # Ctrl-C, or the signal that ends a Prefect run
            self.cancel()
            cancel.stop_all()
            raise

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Give what the call returned, or raise (else return) what it raised.

        Raises
        ------
        TimeoutError
            The call is not over after `timeout` seconds.
        """
        self.wait(timeout)
        if not self._future.done():
            raise TimeoutError(f"the call is not over after {timeout} s")
        return self.state.result(raise_on_failure)

    def cancel(self) -> bool:
        """Take the call back if it has not begun; say whether that succeeded."""
        if not self._claim.acquire(blocking=False):
            return False
        self._future.cancel()
        self._future.set_running_or_notify_cancel()
        return True

    def add_done_callback(self, callback: Callable[[LocalFuture], Any]) -> None:
        """Call `callback` with this future when the call is over."""
        self._future.add_done_callback(lambda _: callback(self))


def _stoppable(call: Callable[[], Any]) -> Any:
    """Make a call that is wholly over when all work was stopped once, whatever it does next."""
    stop = threading.Event()
    with cancel.link_child(stop), cancel.scope(stop):
        return call()


class LocalFutureList(list[LocalFuture]):
    """The futures of a `map`, in the order of what was mapped."""

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
        """Give what all calls returned; see `LocalFuture.result`."""
        self.wait(timeout)
        return [
            future.result(0 if timeout is not None else None, raise_on_failure) for future in self
        ]


class Unmapped:
    """A value that `map` hands to every call as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


def settled(value: Any) -> Any:
    """Put results in the place of local futures: of one, or of a list or tuple of them."""
    if isinstance(value, (LocalFuture, LocalFutureList)):
        return value.result()
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], LocalFuture):
        return [future.result() for future in value]
    return value


def expand(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Make the arguments of each call of a `map`, by the rules of Prefect's task_runners.py."""
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
    """Take off our and Prefect's annotations; say whether the value is not to be mapped over."""
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
