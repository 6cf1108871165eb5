"""Values of the current run, with and without Prefect: its scheduled time, its parameters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ctaflows.tracking.tracked import in_run


def moment() -> datetime:
    """Return the time for which this run was scheduled, aware UTC; outside a run, the present time.

    A run that waited for a worker until the next day is still about the day it was scheduled for.
    """
    now = datetime.now(UTC)
    if not in_run():
        return now
    from prefect.runtime import flow_run

    return flow_run.scheduled_start_time or now


def parameters() -> dict[str, Any]:
    """Return this flow run's parameters, for functions that make its name; outside a run, none.

    Parameters left at their default may be missing.
    """
    if not in_run():
        return {}
    from prefect.runtime import flow_run

    return dict(flow_run.parameters)


def task_parameters() -> dict[str, Any]:
    """Return this task run's parameters, for functions that make its name."""
    from prefect.runtime import task_run

    return dict(task_run.parameters)
