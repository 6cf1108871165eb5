"""What people see of a night in Prefect: artifacts, assets, events, and what these start."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nights import make_night
from serverkit import wait_until

from ctaflows.errors import PartialFailure
from ctaflows.flows.fetch_dl1 import fetch_dl1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("without_pictures")

RUNS = "/cta/DL1/20241114/v0.1/tailcut84"


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 1))
    return here


@pytest.fixture
def since() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def newest(server: Any) -> Any:
    return max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)


def artifacts(server: Any) -> dict[str, Any]:
    """The artifacts of the newest run by their key, the one without a key by its type."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    run = newest(server)
    with server.client as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        )
    return {a.key or a.type: a for a in found}


def events(server: Any, name: str, since: dt.datetime) -> list[dict[str, Any]]:
    from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter

    wanted = EventFilter(
        event=EventNameFilter(name=[name]), occurred=EventOccurredFilter(since=since)
    )
    with server.client as client:
        page = client._client.post(
            "/events/filter", json={"filter": wanted.model_dump(mode="json"), "limit": 50}
        )
    found: list[dict[str, Any]] = page.json()["events"]
    return found


def test_the_artifacts_of_a_night(prefect_server: Any, night: Path) -> None:
    fetch_dl1.tracked("20241114", dest=str(night))
    found = artifacts(prefect_server)
    assert sorted(found) == [
        "night-20241114", "night-20241114-manifest", "night-20241114-page",
        "night-20241114-summary", "progress",
    ]  # fmt: skip
    table = json.loads(found["night-20241114"].data)
    assert len(table) == 6
    assert table[0]["file"] == "dl1_LST-1.Run11111.0000.h5"
    assert table[0]["n_events"] > 0
    assert "6 of 6 files in place, 6 verified" in found["night-20241114"].description
    page = found["night-20241114-summary"].data
    assert "**Complete.**" in page
    assert "| 11113 | 2 |" in page
    assert (night / "20241114/manifest.jsonl").as_uri() in found["night-20241114-manifest"].data
    assert found["progress"].data == 100.0
    assert "6 of 6 files" in found["progress"].description


def test_a_failed_file_stands_first_in_the_table(
    prefect_server: Any, box: Sandbox, night: Path
) -> None:
    box.locality(f"{RUNS}/dl1_LST-1.Run11113.0000.h5", "NEARLINE")
    with pytest.raises(PartialFailure):
        fetch_dl1.tracked("20241114", dest=str(night))
    found = artifacts(prefect_server)
    table = json.loads(found["night-20241114"].data)
    assert table[0]["run"] == 11113
    assert table[0]["outcome"] == "Nearline"
    assert table[1]["outcome"] == "verified"
    assert "on tape" in table[0]["error"]
    assert "Not complete" in found["night-20241114-summary"].data
    assert "1 failed" in found["progress"].description


def test_the_table_ends_where_nobody_reads_on(
    prefect_server: Any, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctaflows.reporting.artifacts.MAX_ROWS", 2)
    fetch_dl1.tracked("20241114", dest=str(night), inspect=False)
    table = artifacts(prefect_server)["night-20241114"]
    assert len(json.loads(table.data)) == 2
    assert "4 more rows" in table.description
    assert str(night / "20241114/manifest.jsonl") in table.description


def test_a_server_that_takes_no_artifact_fails_no_run(
    prefect_server: Any, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ConnectionError("the server is away")

    monkeypatch.setattr(SyncPrefectClient, "create_artifact", refuse)
    assert not fetch_dl1.tracked("20241114", dest=str(night)).failed
    assert newest(prefect_server).state.is_completed()
    assert artifacts(prefect_server) == {}


def test_the_events_of_a_night(
    prefect_server: Any, box: Sandbox, night: Path, since: dt.datetime
) -> None:
    box.locality(f"{RUNS}/dl1_LST-1.Run11113.0000.h5", "NEARLINE")
    with pytest.raises(PartialFailure):
        fetch_dl1.tracked("20241114", dest=str(night))
    fetched = wait_until(lambda: events(prefect_server, "ctaflows.file.fetched", since), "fetched")
    assert len(fetched) == 1
    assert fetched[0]["resource"]["prefect.resource.id"] == "ctaflows.night.20241114"
    assert fetched[0]["payload"]["n_files"] == len(fetched[0]["payload"]["files"]) == 5
    assert fetched[0]["payload"]["files"][0]["verified"] is True
    roles = {r["prefect.resource.role"] for r in fetched[0]["related"]}
    assert {"flow-run", "flow"} <= roles

    box.locality(f"{RUNS}/dl1_LST-1.Run11113.0000.h5", "ONLINE")
    for _ in range(2):
        fetch_dl1.tracked("20241114", dest=str(night))
    wait_until(
        lambda: len(events(prefect_server, "ctaflows.file.fetched", since)) == 2, "the last file"
    )
    complete = wait_until(
        lambda: events(prefect_server, "ctaflows.night.complete", since), "complete"
    )
    assert len(complete) == 1, "not while a file was lacking, and not again"
    told = complete[0]["payload"]
    assert told["dest"] == str(night / "20241114")
    assert told["runs"] == [11111, 11113]
    assert told["n_files"] == 6
    assert told["n_events"] > 0


def test_a_night_that_lacks_subruns_is_not_told_complete(
    prefect_server: Any, box: Sandbox, night: Path, since: dt.datetime
) -> None:
    (box.storage / RUNS[1:] / "dl1_LST-1.Run11111.0000.h5").unlink()
    fetch_dl1.tracked("20241114", dest=str(night))
    assert "missing at the door" in artifacts(prefect_server)["night-20241114-summary"].data
    wait_until(lambda: events(prefect_server, "ctaflows.file.fetched", since), "fetched")
    assert events(prefect_server, "ctaflows.night.complete", since) == []


def test_a_run_that_came_is_an_asset_with_its_origin(
    prefect_server: Any, box: Sandbox, night: Path, since: dt.datetime
) -> None:
    fetch_dl1.tracked("20241114", dest=str(night))
    name = "prefect.asset.materialization.succeeded"
    made = wait_until(
        lambda: len(found := events(prefect_server, name, since)) == 2 and found, "the assets"
    )
    by_key = {e["resource"]["prefect.resource.id"]: e for e in made}
    key = f"file://{night}/20241114/Run11111"
    assert sorted(by_key) == [key, key.replace("11111", "11113")]
    origins = [
        r["prefect.resource.id"] for r in by_key[key]["related"]
        if r["prefect.resource.role"] == "asset"
    ]  # fmt: skip
    assert origins == ["dcache://localhost/cta/DL1/20241114/v0.1/Run11111"]
    assert by_key[key]["payload"]["files"] == 4
    assert by_key[key]["payload"]["n_events"] > 0


def blocks(page: str, kind: str) -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def automated(prefect_server: Any) -> Iterator[None]:
    """Leave no automation behind: it would start runs among those of other tests."""
    yield
    with prefect_server.client as client:
        for kind in ("automations", "deployments"):
            found = client._client.post(f"/{kind}/filter", json={}).json()
            for one in found:
                if "on-complete" in one["name"]:
                    client._client.delete(f"/{kind}/{one['id']}").raise_for_status()


@pytest.mark.servers
@pytest.mark.usefixtures("automated")
def test_the_documented_automation_starts_the_analysis(
    prefect_server: Any, night: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (code,) = blocks("automations.md", "python")
    (deployment,) = blocks("automations.md", "yaml")
    (project / "analysis.py").write_text(code)
    (project / "prefect.yaml").write_text(deployment)
    prefect_server.make_pool("analysis")
    prefect_server.cli("deploy", "--all", cwd=project)
    fetch_dl1.tracked("20241114", dest=str(night))

    def started() -> Any:
        with prefect_server.client as client:
            there = client.read_deployment_by_name("analyse-night/on-complete")
        return prefect_server.flow_runs(deployment_id=there.id)

    (run,) = wait_until(started, "the run that the automation makes", 60)
    assert run.parameters == {
        "date": "20241114", "folder": str(night / "20241114"), "runs": [11111, 11113],
    }  # fmt: skip
    namespace: dict[str, Any] = {"__name__": "analysis"}
    exec(compile(code, "analysis.py", "exec"), namespace)
    assert namespace["analyse_night"].fn(**run.parameters) > 0
