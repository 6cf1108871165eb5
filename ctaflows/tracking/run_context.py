"""What a flow may ask about its own run, with and without Prefect."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ctaflows.tracking.tracked import in_run


def moment() -> datetime:
    """Give the time for which this run was meant; outside a run, the present.

    A run that waited for a worker until the next day still means the day it was scheduled for.
    """
    now = datetime.now(UTC)
    if not in_run():
        return now
    from prefect.runtime import flow_run

    return flow_run.scheduled_start_time or now


def parameters() -> dict[str, Any]:
    """Give this run's parameters, for what makes its name; outside a run, none.

    Those that have a default and were not given may be missing.
    """
    if not in_run():
        return {}
    from prefect.runtime import flow_run

    return dict(flow_run.parameters)


def task_parameters() -> dict[str, Any]:
    """Give the parameters of this task run, for what makes its name."""
    from prefect.runtime import task_run

    return dict(task_run.parameters)
