"""Our own prefect.yaml on a real server with PostgreSQL: deployed, triggered, scheduled, run."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from serverkit import wait_until
from sitekit import DEPLOYMENTS, assert_whole, last_night

if TYPE_CHECKING:
    from pathlib import Path

    from sitekit import Site


ALL = {
    "fetch-dl1/night", "maintain-token/token", "watch-night/arrivals", "mirror/tree",
    "upload-results/results",
}  # fmt: skip


def test_the_server_keeps_them_in_postgresql(server: Site, deployed: Site) -> None:
    names = server.database.psql("select name from deployment").splitlines()
    assert {name.partition("/")[2] for name in ALL} <= set(names)


def test_each_deployment_is_as_described(server: Site, deployed: Site) -> None:
    found = {name: one for name, one in server.deployments().items() if name in ALL}
    assert set(found) == ALL
    night, token = found["fetch-dl1/night"], found["maintain-token/token"]
    arrivals = found["watch-night/arrivals"]
    (morning,) = (s.schedule for s in night.schedules if s.slug == "morning")
    assert (morning.cron, morning.timezone) == ("0 8 * * *", "Atlantic/Canary")
    assert night.parameters == {"dest": str(server.nights)}
    (often,) = (s.schedule for s in token.schedules)
    assert often.interval == dt.timedelta(minutes=4)
    assert often.anchor_date == dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    described = token.parameter_openapi_schema["properties"]["block"]["description"]
    assert "Prefect Secret block" in described
    assert not found["mirror/tree"].schedules
    assert not found["upload-results/results"].schedules
    strategies = ((night, "ENQUEUE"), (token, "CANCEL_NEW"), (arrivals, "CANCEL_NEW"))
    for one, strategy in strategies:
        assert one.global_concurrency_limit.limit == 1
        assert one.concurrency_options.collision_strategy == strategy
    for one in found.values():
        assert one.description
        (step,) = one.pull_steps
        assert list(step.values()) == [{"directory": "/"}], "a folder that is everywhere"


def test_a_triggered_run_fetches_its_night(server: Site, worker: Path) -> None:
    run = server.trigger("fetch-dl1/night", "--param", "date=2024-11-14")
    run = server.finished(run.id, worker)
    assert run.state.is_completed(), worker.read_text()
    assert_whole(server.nights / "20241114")
    assert server.n_batches(run) == 2


def test_a_scheduled_run_fetches_last_night(server: Site, worker: Path) -> None:
    night = server.deployments()["fetch-dl1/night"].id
    server.cli("deployment", "schedule", "create", "fetch-dl1/night", "--interval", "30")

    def run_soon() -> list[Any]:
        runs = server.flow_runs(auto_scheduled=True, deployment_id=night)
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
        return [run for run in runs if run.expected_start_time < soon]

    run = wait_until(run_soon, "a scheduled run")[-1]
    assert run.parameters == {"dest": str(server.nights)}, "no date is given"
    run = server.finished(run.id, worker)
    with server.client as client:
        (often,) = (s for s in client.read_deployment_schedules(night) if s.slug is None)
        client.delete_deployment_schedule(night, often.id)
    assert run.state.is_completed(), worker.read_text()
    day = f"{last_night():%Y%m%d}"
    assert run.name == f"fetch-dl1-{day}"
    assert_whole(server.nights / day, 6)


def test_the_token_is_kept_by_the_worker_itself(server: Site, worker: Path) -> None:
    run = server.trigger("maintain-token/token")
    run = server.finished(run.id, worker)
    # while one of the schedule's is under way, this one is cancelled
    assert run.state.name in ("Completed", "Cancelled"), worker.read_text()


def test_no_secret_is_in_a_deployment(server: Site, deployed: Site) -> None:
    told = [one.model_dump_json() for one in server.deployments().values()]
    text = "".join([*told, (DEPLOYMENTS / "prefect.yaml").read_text()])
    assert server.door.client_secret not in text
    assert "eyJ" not in text, "a token begins like this"
