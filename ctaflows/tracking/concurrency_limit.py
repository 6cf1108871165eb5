"""A limit on the batches that all runs together transfer from or to one storage at a time.

It is a global concurrency limit of Prefect, named after the storage's host, and applies only where
somebody has created it::

    prefect gcl create ctaflows-dcache.example.org --limit 4

Each batch holds one slot by a lease, which is renewed during the transfer. A transfer goes on
without a slot when the Prefect server does not answer, and when a lease is lost.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections import defaultdict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ctaflows import cancel
from ctaflows.errors import UsageError, error_text
from ctaflows.prefect_client import impatient_client
from ctaflows.thread_pool import start
from ctaflows.tracking.cancellation import stopped_by_cancellation
from ctaflows.tracking.tracked import in_run

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

#: Lifetime of a lease, seconds: the shortest that a server grants (prefect 3.9.1,
#: server/api/concurrency_limits_v2.py). A killed process holds its slot no longer than this.
LEASE_S = 60.0
RENEW_S = 20.0
#: Longest pause between requests for a slot, seconds: the server's ``Retry-After`` with a 423 is up
#: to a minute (same file), and a free slot should not stay unused so long.
_LONGEST_WAIT_S = 10.0
#: After an answer that there is no such limit, or none at all, the server is not asked for this
#: long, seconds: a request costs some 50 ms.
_ABSENT_S = 60.0
#: A server that fails to answer is asked for this long, seconds: on SQLite it says 503 when busy
#: (prefect 3.9.1, server/api/server.py).
PATIENCE_S = 30.0
_HTTP_LOCKED = 423
_RELEASE_TRIES = 4

_held: ContextVar[bool] = ContextVar("ctaflows_admitted", default=False)
_asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_absent: dict[str, float] = {}


def limit_name(door_url: str) -> str:
    """Return the name of a storage's limit: ``ctaflows-`` and its host."""
    return f"ctaflows-{urlsplit(door_url).hostname}"


@contextlib.contextmanager
def limited(door_url: str) -> Iterator[None]:
    """Hold a slot of the storage's limit while a batch is transferred; wait until one is free.

    Outside a run, where there is no such limit, and within a block that holds a slot already, this
    does nothing. The block is stopped when its run is cancelled, also in another process than the
    flow's (`cancellation.stopped_by_cancellation`).

    Parameters
    ----------
    door_url : str
        Base URL of the storage.

    Raises
    ------
    Stopped
        The run was cancelled while it waited for a slot.
    """
    if not in_run() or _held.get():
        yield
        return
    lease = _Lease(limit_name(door_url))
    token = _held.set(True)
    try:
        with stopped_by_cancellation(), lease:
            yield
    finally:
        _held.reset(token)


class _Lease:
    """One slot of a limit, whose lease a thread renews as long as the block lasts.

    Parameters
    ----------
    name : str
        The limit's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._id: Any = None
        self._over = threading.Event()

    def __enter__(self) -> None:
        self._id = _wait_for_slot(self._name)
        if self._id is not None:
            context = contextvars.copy_context()  # has the Prefect settings of this run
            renewing = threading.Thread(
                target=context.run, args=(self._renew,), name="ctaflows-lease", daemon=True
            )
            try:
                start(renewing)
            except UsageError:
                self.__exit__()
                raise

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._id is None:
            return
        for n_tries in range(1, _RELEASE_TRIES + 1):
            why = self._release()
            if why is None:
                return
            said = error_text(why)
            if n_tries == _RELEASE_TRIES or not _is_passing(why):
                break
            cancel.current().wait(0.2 * 2**n_tries)
        _logger().warning(
            "The slot of %s could not be released, and will be free within %.0f s: %s",
            self._name, LEASE_S, said,
        )  # fmt: skip

    def _release(self) -> Exception | None:
        try:
            with impatient_client() as client:
                client.release_concurrency_slots_with_lease(self._id)
        except Exception as why:  # noqa: BLE001  the lease expires in any case
            return why
        return None

    def _renew(self) -> None:
        is_lost = False
        while not self._over.wait(RENEW_S):
            try:
                with impatient_client() as client:
                    client.renew_concurrency_lease(self._id, LEASE_S)
            except Exception as why:  # noqa: BLE001  tried again at the next renewal
                if not is_lost and not self._over.is_set():
                    _logger().warning(
                        "The slot of %s could not be renewed; the transfer goes on: %s",
                        self._name, error_text(why),
                    )  # fmt: skip
                is_lost = True
            else:
                is_lost = False


def _wait_for_slot(name: str) -> Any:
    """Return the id of a slot's lease; None where there is no limit, or no server that answers."""
    stop = cancel.current()
    with _turn(name, stop):
        is_logged, patient_until = False, time.monotonic() + PATIENCE_S
        while time.monotonic() >= _absent.get(name, 0.0):
            try:
                lease_id, wait_s = _ask(name)
                patient_until = time.monotonic() + PATIENCE_S
            except Exception as why:  # noqa: BLE001  no error of the limit ends a transfer
                lease_id, wait_s = None, 1.0
                if not _is_passing(why) or time.monotonic() > patient_until:
                    _logger().warning(
                        "No slot of %s can be acquired; the transfer goes on without one: %s",
                        name,
                        error_text(why),
                    )
                    wait_s = None
            if wait_s is None:
                if lease_id is None:
                    _absent[name] = time.monotonic() + _ABSENT_S
                return lease_id
            if not is_logged:
                _logger().info("Waiting for a slot of the concurrency limit %s", name)
                is_logged = True
            if cancel.wait(min(wait_s, _LONGEST_WAIT_S), stop):
                cancel.raise_if_cancelled(stop, name)
    return None


def _is_passing(why: Exception) -> bool:
    """Return whether the error may pass: no answer, or a status of 500 or above."""
    from prefect.exceptions import PrefectHTTPStatusError

    return not isinstance(why, PrefectHTTPStatusError) or why.response.status_code >= 500


@contextlib.contextmanager
def _turn(name: str, stop: threading.Event) -> Iterator[None]:
    """Let one thread of this process ask for a slot at a time, which spares the server requests."""
    while not _asking[name].acquire(timeout=cancel.GLANCE_S):
        cancel.raise_if_cancelled(stop, name)
    try:
        yield
    finally:
        _asking[name].release()


def _ask(name: str) -> tuple[Any, float | None]:
    """Ask once for a slot.

    Whether the limit exists is asked first. A request for a slot takes SQLite's single write lock;
    where that is held, Prefect's client sleeps 2 s before it raises (prefect 3.9.1,
    client/base.py: _send_with_retry).

    Returns
    -------
    lease_id, wait_s : UUID or None, float or None
        The lease, or the seconds to wait before the next request; both None where there is no
        limit.
    """
    from uuid import UUID

    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    try:
        with impatient_client() as client:
            client.read_global_concurrency_limit_by_name(name)
            answer = client.increment_concurrency_slots_with_lease(
                [name], 1, "concurrency", LEASE_S, _holder()
            ).json()
    except ObjectNotFound:
        return None, None
    except PrefectHTTPStatusError as why:
        if why.response.status_code != _HTTP_LOCKED:
            raise
        return None, float(why.response.headers.get("retry-after", _LONGEST_WAIT_S))
    return (UUID(answer["lease_id"]) if answer["limits"] else None), None


def _holder() -> Any:
    """Return this run as the holder of the slot, which `prefect gcl inspect` shows."""
    from prefect.client.schemas.objects import ConcurrencyLeaseHolder
    from prefect.context import FlowRunContext, TaskRunContext

    if task := TaskRunContext.get():
        return ConcurrencyLeaseHolder(type="task_run", id=task.task_run.id)
    flow = FlowRunContext.get()
    if flow is None or flow.flow_run is None:
        return None
    return ConcurrencyLeaseHolder(type="flow_run", id=flow.flow_run.id)


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    from ctaflows.tracking.task import get_logger

    return get_logger("admission")
