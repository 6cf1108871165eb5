"""A run's sign of life as Prefect gives it, without the wait at its end.

Prefect's own comes from a thread that sleeps in steps of a second, and each flow run waits for its
end, 0.5 s on average (prefect 3.9.1, flow_engine.py: _send_heartbeats). Where we begin the run
ourselves it is given from here, by the same event at the same interval, so that an automation finds
runs that were killed.
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
    """Have no heartbeat of Prefect's for runs that begin in the block.

    Yields
    ------
    Callable
        Makes of a flow's function one that gives them while it runs.
    """
    from prefect.settings import get_current_settings

    every_s = get_current_settings().flows.heartbeat_frequency

    def beating(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def run(*args: Any, **kwargs: Any) -> Any:
            with _beats(every_s):
                return fn(*args, **kwargs)

        return run

    with setting("flows", "heartbeat_frequency", None):
        yield beating


@contextlib.contextmanager
def _beats(every_s: float | None) -> Iterator[None]:
    if not every_s:
        yield
        return
    over = threading.Event()
    threading.Thread(
        target=contextvars.copy_context().run,
        args=(_beat, every_s, over),
        name="ctaflows-heartbeat",
        daemon=True,
    ).start()
    try:
        yield
    finally:
        over.set()


def _beat(every_s: float, over: threading.Event) -> None:
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
        except Exception as why:  # noqa: BLE001  whatever it is, the work goes on
            log.debug("No sign of life was given: %s", why)
        if over.wait(every_s):
            return
