"""The flow maintain-token: states, events, the block, the deployment; a real server and issuer."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from serverkit import process, wait_until

from ctaflows import list_dir
from ctaflows.auth import prefect_blocks
from ctaflows.errors import AuthError, LoginNeeded
from ctaflows.flows.maintain_token import maintain_token
from ctaflows.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox whose tokens are half over soon: each run renews."""
    with Sandbox(token_lifetime_s=600) as sandbox:
        yield sandbox


def store(box: Sandbox) -> Path:
    return box.config_dir / "tokens/sandbox.json"


def age(box: Sandbox, seconds: float) -> None:
    """Let the stored token have been obtained some time ago."""
    values = json.loads(store(box).read_text())
    store(box).write_text(json.dumps({**values, "obtained_at": values["obtained_at"] - seconds}))


def newest(server: Any) -> Any:
    return max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)


def events(server: Any, name: str, since: Any) -> list[Any]:
    from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter

    wanted = EventFilter(
        event=EventNameFilter(name=[name]), occurred=EventOccurredFilter(since=since)
    )
    with server.client as client:
        page = client._client.post(
            "/events/filter", json={"filter": wanted.model_dump(mode="json"), "limit": 50}
        )
    return page.json()["events"]


def refreshes(box: Sandbox) -> int:
    return sum(r.server == "issuer" and r.path.endswith("/token") for r in box.requests)


def test_a_run_renews_when_half_of_the_life_is_over(
    prefect_server: Any, box: Sandbox, here: Path
) -> None:
    maintain_token.tracked()
    assert refreshes(box) == 0, "fresh enough"
    age(box, 350)
    info = maintain_token.tracked()
    assert refreshes(box) == 1
    assert info.expires_in_s is not None
    assert info.expires_in_s > 500
    run = newest(prefect_server)
    assert run.state.is_completed()
    assert run.name == "maintain-token"


def test_failing_and_recovering_are_told_once_each(
    prefect_server: Any, box: Sandbox, here: Path
) -> None:
    from datetime import UTC, datetime

    since = datetime.now(UTC)
    good = json.loads(store(box).read_text())
    store(box).write_text(json.dumps({**good, "refresh_token": "spent"}))
    age(box, 590)
    for _ in range(2):
        with pytest.raises(LoginNeeded) as why:
            maintain_token.tracked()
    assert "ctaflows token login" in (why.value.hint or "")
    run = newest(prefect_server)
    assert run.state.is_failed()
    assert "will not renew" in run.state.message
    assert refreshes(box) == 1, "the issuer is not asked again"
    store(box).write_text(json.dumps({**good, **box.tokens()}))
    for _ in range(2):
        maintain_token.tracked()
    assert newest(prefect_server).state.is_completed()
    for name in ("ctaflows.token.failing", "ctaflows.token.recovered"):
        found = wait_until(lambda name=name: events(prefect_server, name, since), name)
        assert len(found) == 1
        assert found[0]["resource"]["prefect.resource.id"] == "ctaflows.token.sandbox"
        assert "spent" not in json.dumps(found)


def test_an_issuer_that_is_away_does_not_hide_behind_the_old_token(
    prefect_server: Any, box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_ATTEMPTS", "2")
    age(box, 400)
    box.faults.add("503", server="issuer", times=None)
    with pytest.raises(Exception, match="can't do it now"):
        maintain_token.tracked()
    assert newest(prefect_server).state.is_failed()
    assert list_dir("/") == [], "the old token still serves"


def test_a_run_with_another_client_sends_nothing(
    prefect_server: Any, box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(box, 350)
    maintain_token.tracked()
    age(box, 350)
    before = store(box).read_text()
    box.requests.clear()
    monkeypatch.setenv("CTAFLOWS_CLIENT_ID", "another")
    with pytest.raises(AuthError, match="belongs to"):
        maintain_token.tracked()
    assert store(box).read_text() == before
    assert not list(box.requests)


def test_a_worker_without_the_home_takes_the_block(
    prefect_server: Any, box: Sandbox, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("/cta/a.h5", b"a")
    maintain_token.tracked(block="ctaflows-token")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = (box.config_dir / "config.toml").read_text()
    config = config.replace('token_source = "store"', 'token_source = "block:ctaflows-token"')
    (elsewhere / "config.toml").write_text(config)
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(elsewhere))
    prefect_blocks.forget_token_block("ctaflows-token")
    assert [e.name for e in list_dir("cta")] == ["a.h5"]
    kept = json.loads(store(box).read_text())
    assert prefect_blocks.read_token_block("ctaflows-token").value == kept["access_token"]
    assert not (elsewhere / "tokens").exists()
    with prefect_server.client as client:
        told = client._client.post(
            "/block_documents/filter", json={"include_secrets": True}
        ).text  # what any client of the API can read
    assert kept["access_token"] in told
    assert kept["refresh_token"] not in told


@pytest.mark.servers
def test_it_is_served_on_one_machine(
    prefect_server: Any, box: Sandbox, here: Path, tmp_path: Path
) -> None:
    from prefect.deployments import run_deployment

    age(box, 350)
    log = tmp_path / "serve.log"
    with process(
        [sys.executable, "-m", "ctaflows.flows.maintain_token"], log, env=dict(os.environ)
    ):

        def is_served() -> bool:
            with prefect_server.client as client:
                return any(d.name == "here" for d in client.read_deployments())

        wait_until(is_served, "the served deployment")
        run = run_deployment("maintain-token/here", timeout=240)
        assert run.state.is_completed(), log.read_text()
    assert refreshes(box) == 1


def test_its_parameters_make_a_form() -> None:
    described = maintain_token.parameters.properties["block"]["description"]
    assert "Prefect Secret block" in described
