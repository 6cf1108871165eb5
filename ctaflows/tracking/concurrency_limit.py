"""A limit on how many batches move at a door at once, whoever moves them: kept by Prefect's server.

The limit is a global concurrency limit of Prefect by the name of the door's host; where nobody has
made it there is none::

    prefect gcl create ctaflows-dcache.example.org --limit 4

Each batch holds one slot by a lease that is renewed while it moves. A server that is away, or a
lease that is lost, never ends a transfer: bytes count more than the limit.
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
from ctaflows.tracking.cancellation import impatient_client, stopped_by_cancellation
from ctaflows.tracking.tracked import in_run

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

#: The shortest lease that a server gives (prefect 3.9.1, server/api/concurrency_limits_v2.py): a
#: killed process holds its slot no longer than this.
LEASE_S = 60.0
RENEW_S = 20.0
#: A server says when to ask again, up to a minute; an empty slot should not wait so long.
_LONGEST_WAIT_S = 10.0
#: So long it is believed that there is no such limit, or nobody to ask: asking costs some 50 ms.
_ABSENT_S = 60.0
#: So long a server is asked that does not answer; one on SQLite says 503 while it is busy.
PATIENCE_S = 30.0
_HTTP_LOCKED = 423
_GIVE_BACK_TRIES = 4

_held: ContextVar[bool] = ContextVar("ctaflows_admitted", default=False)
_asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_absent: dict[str, float] = {}


def limit_name(door_url: str) -> str:
    """Give the name of the limit of a door: ``ctaflows-`` and its host."""
    return f"ctaflows-{urlsplit(door_url).hostname}"


@contextlib.contextmanager
def limited(door_url: str) -> Iterator[None]:
    """Hold a slot of the door's limit while a batch moves; wait for one if there is none.

    Outside a run, where there is no such limit, and within a block that holds a slot already,
    nothing is held. The block ends with its run, wherever it goes on, see
    `cancellation.stopped_by_cancellation`.

    Parameters
    ----------
    door_url : str
        The door's address.

    Raises
    ------
    Stopped
        The work was stopped while it waited.
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
    """One slot, renewed in a thread as long as it is held.

    Parameters
    ----------
    name : str
        The limit.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._id: Any = None
        self._over = threading.Event()

    def __enter__(self) -> None:
        self._id = _wait_for_slot(self._name)
        if self._id is not None:
            context = contextvars.copy_context()  # holds the settings of this run
            threading.Thread(
                target=context.run, args=(self._renew,), name="ctaflows-lease", daemon=True
            ).start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._id is None:
            return
        for n_tries in range(1, _GIVE_BACK_TRIES + 1):
            why = self._give_back()
            if why is None:
                return
            if n_tries == _GIVE_BACK_TRIES or not _is_passing(why):
                break
            cancel.current().wait(0.2 * 2**n_tries)
        _logger().warning(
            "The slot of %s could not be given back, and will be free within %.0f s: %s",
            self._name, LEASE_S, why,
        )  # fmt: skip

    def _give_back(self) -> Exception | None:
        try:
            with impatient_client() as client:
                client.release_concurrency_slots_with_lease(self._id)
        except Exception as why:  # noqa: BLE001  whatever it is: the lease ends by itself
            return why
        return None

    def _renew(self) -> None:
        is_lost = False
        while not self._over.wait(RENEW_S):
            try:
                with impatient_client() as client:
                    client.renew_concurrency_lease(self._id, LEASE_S)
            except Exception as why:  # noqa: BLE001  tried again
                if not is_lost and not self._over.is_set():
                    _logger().warning(
                        "The slot of %s could not be renewed; the transfer goes on: %s",
                        self._name, why,
                    )  # fmt: skip
                is_lost = True
            else:
                is_lost = False


def _wait_for_slot(name: str) -> Any:
    """Give the lease of a slot; None where there is no limit, or nobody to ask."""
    stop = cancel.current()
    with _turn(name, stop):
        has_said, patient_until = False, time.monotonic() + PATIENCE_S
        while time.monotonic() >= _absent.get(name, 0.0):
            try:
                lease_id, wait_s = _ask(name)
                patient_until = time.monotonic() + PATIENCE_S
            except Exception as why:  # noqa: BLE001  whatever it is: the transfer counts more
                lease_id, wait_s = None, 1.0
                if not _is_passing(why) or time.monotonic() > patient_until:
                    _logger().warning("No slot of %s can be had; going on without: %s", name, why)
                    wait_s = None
            if wait_s is None:
                if lease_id is None:
                    _absent[name] = time.monotonic() + _ABSENT_S
                return lease_id
            if not has_said:
                _logger().info("Waiting for a slot of the concurrency limit %s", name)
                has_said = True
            if cancel.wait(min(wait_s, _LONGEST_WAIT_S), stop):
                cancel.raise_if_cancelled(stop, name)
    return None


def _is_passing(why: Exception) -> bool:
    """May the server say something else soon?"""
    from prefect.exceptions import PrefectHTTPStatusError

    return not isinstance(why, PrefectHTTPStatusError) or why.response.status_code >= 500


@contextlib.contextmanager
def _turn(name: str, stop: threading.Event) -> Iterator[None]:
    """Let one thread of this process ask at a time: more only trouble the server."""
    while not _asking[name].acquire(timeout=cancel.GLANCE_S):
        cancel.raise_if_cancelled(stop, name)
    try:
        yield
    finally:
        _asking[name].release()


def _ask(name: str) -> tuple[Any, float | None]:
    """Ask for a slot: give its lease, or how long to wait; neither where there is no limit.

    Whether there is one is asked first: to ask for a slot takes SQLite's one lock for writing. That
    may be held, and Prefect's client then sleeps 2 s before it says so (prefect 3.9.1,
    client/base.py: _send_with_retry).
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
    """Say who holds the slot, for `prefect gcl inspect`."""
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
