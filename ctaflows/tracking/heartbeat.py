"""A flow run's heartbeat, without the wait at the run's end that Prefect's own has.

Prefect's comes from a thread that sleeps in steps of a second, and each flow run waits for that
thread, 0.5 s on average (prefect 3.9.1, flow_engine.py: _send_heartbeats). For flow runs that start
in this process the same events are sent from here, at the same interval, so that automations still
detect runs that were killed.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import threading
from typing import TYPE_CHECKING, Any

from ctaflows.tracking.cancellation import setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger("ctaflows.tracking.heartbeat")


@contextlib.contextmanager
def taken_over() -> Iterator[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """Turn off Prefect's own heartbeat for flow runs that start in the block.

    Yields
    ------
    Callable
        A decorator of a flow's function that sends the heartbeat while the function runs.
    """
    from prefect.settings import get_current_settings

    interval_s = get_current_settings().flows.heartbeat_frequency

    def beating(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def run(*args: Any, **kwargs: Any) -> Any:
            with _heartbeats(interval_s):
                return fn(*args, **kwargs)

        return run

    with setting("flows", "heartbeat_frequency", None):
        yield beating


@contextlib.contextmanager
def _heartbeats(interval_s: float | None) -> Iterator[None]:
    if not interval_s:
        yield
        return
    over = threading.Event()
    threading.Thread(
        target=contextvars.copy_context().run,
        args=(_send_heartbeats, interval_s, over),
        name="ctaflows-heartbeat",
        daemon=True,
    ).start()
    try:
        yield
    finally:
        over.set()


def _send_heartbeats(interval_s: float, over: threading.Event) -> None:
    """Send a heartbeat event of this flow run at once and every `interval_s`, until `over`."""
    from prefect.context import FlowRunContext
    from prefect.events import emit_event

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    resource = {
        "prefect.resource.id": f"prefect.flow-run.{context.flow_run.id}",
        "prefect.resource.name": context.flow_run.name,
    }
    related = [
        {
            "prefect.resource.id": f"prefect.flow.{context.flow_run.flow_id}",
            "prefect.resource.role": "flow",
            "prefect.resource.name": context.flow.name if context.flow else "",
        }
    ]
    while True:
        try:
            emit_event("prefect.flow-run.heartbeat", resource, related=related)
        except Exception as why:  # noqa: BLE001  no error of it ends the run
            log.debug("The heartbeat could not be sent: %s", why)
        if over.wait(interval_s):
            return
