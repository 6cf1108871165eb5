"""Cancellation of a Prefect run, passed on to its tasks in threads and in other processes.

Prefect ends a flow's process by SIGTERM, and by SIGKILL 30 s later (prefect 3.9.1,
runner/_process_manager.py: kill). SIGTERM raises an exception in the main thread, which then waits
for all tasks in threads to end, as long as they take (task_runners.py: ThreadPoolTaskRunner). Tasks
in other processes may not even be waited for. Prefect notifies none of these tasks: in the flow's
own process `stopped_by_interruption` sets their stop events, in other processes
`stopped_by_cancellation` polls the server.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from ctaflows import cancel
from ctaflows.errors import error_text
from ctaflows.prefect_client import impatient_client
from ctaflows.thread_pool import start

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A task in another process than its flow asks the server for the run's state this often, seconds.
ASK_S = 3.0

_STOP = "_ctaflows_stop"
log = logging.getLogger("ctaflows.tracking.cancellation")


@contextlib.contextmanager
def stopped_by_interruption() -> Iterator[None]:
    """Stop the tasks that the block submits to threads when their flow is interrupted."""
    from prefect.context import FlowRunContext
    from prefect.task_runners import ThreadPoolTaskRunner

    context = FlowRunContext.get()
    runner = context.task_runner if context else None
    if not isinstance(runner, ThreadPoolTaskRunner):
        yield
        return
    with cancel.scope(vars(runner).get(_STOP) or _link_to_runner(runner)):
        yield


def _link_to_runner(runner: Any) -> threading.Event:
    """Return an event that the run's task runner sets when the run is interrupted."""
    stop, link = threading.Event(), contextlib.ExitStack()
    link.enter_context(cancel.link_child(stop))
    cancel_all = runner.cancel_all

    def stop_and_cancel() -> None:
        # called at each run's end; only an interruption's exception is no Exception
        why = sys.exception()
        if why is not None and not isinstance(why, Exception):
            cancel.stop_all()
        link.close()
        cancel_all()

    vars(runner).update({_STOP: stop, "cancel_all": stop_and_cancel})
    return stop


@contextlib.contextmanager
def stopped_by_cancellation() -> Iterator[None]:
    """Stop the block when its flow run, in another process, is cancelled or has ended.

    Signals reach only the flow's process, so a thread polls the server for the run's state. In the
    flow's own process, and outside a run, this does nothing.
    """
    context = sys.modules.get("prefect.context")
    flow = context.FlowRunContext.get() if context else None
    if flow is None or not flow.detached or flow.flow_run is None:
        yield
        return
    stop, over = threading.Event(), threading.Event()
    start(
        threading.Thread(
            target=contextvars.copy_context().run,
            args=(_poll_state, flow.flow_run.id, stop, over),
            name="ctaflows-cancellation",
            daemon=True,
        )
    )
    try:
        with cancel.link_child(stop), cancel.scope(stop):
            yield
    finally:
        over.set()


def _poll_state(run_id: Any, stop: threading.Event, over: threading.Event) -> None:
    """Set `stop` once the flow run is cancelling or final; return when `over` is set."""
    while not over.wait(ASK_S):
        try:
            with impatient_client() as client:
                state = client.read_flow_run(run_id).state
        except Exception as why:  # noqa: BLE001  the state is unknown: asked again
            log.debug("The state of the run is unknown: %s", error_text(why))
            continue
        if state is not None and (state.is_cancelling() or state.is_final()):
            cancel.stop_within(stop)
            return
