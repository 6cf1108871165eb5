"""The sign of life of runs that we begin ourselves."""

from __future__ import annotations

import datetime as dt
from typing import Any

from serverkit import wait_until

from ctaflows.tracking.flow import flow

NAME = "prefect.flow-run.heartbeat"


@flow(name="with-a-heart", flow_run_name="heart-{word}")
def with_a_heart(word: str) -> int | None:
    from prefect.settings import get_current_settings

    return get_current_settings().flows.heartbeat_frequency


def heartbeats(server: Any, run_id: Any, since: dt.datetime) -> list[dict[str, Any]]:
    from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter

    wanted = EventFilter(
        event=EventNameFilter(name=[NAME]), occurred=EventOccurredFilter(since=since)
    )
    with server.client as client:
        page = client._client.post(
            "/events/filter", json={"filter": wanted.model_dump(mode="json"), "limit": 50}
        )
    ours = f"prefect.flow-run.{run_id}"
    found = page.json()["events"]
    return [event for event in found if event["resource"]["prefect.resource.id"] == ours]


def test_it_is_given_once_by_us_and_not_by_prefect(prefect_server: Any) -> None:
    from prefect.settings import get_current_settings

    since = dt.datetime.now(dt.UTC)
    assert with_a_heart.tracked("one") is None  # Prefect's own is off
    assert get_current_settings().flows.heartbeat_frequency
    (run,) = prefect_server.flow_runs(name="heart-one")
    assert run.state.is_completed()
    (beat,) = wait_until(lambda: heartbeats(prefect_server, run.id, since), "the sign of life")
    assert beat["resource"]["prefect.resource.name"] == "heart-one"
    related = {r["prefect.resource.id"]: r["prefect.resource.role"] for r in beat["related"]}
    assert related[f"prefect.flow.{run.flow_id}"] == "flow"
