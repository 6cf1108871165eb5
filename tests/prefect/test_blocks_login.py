"""The login of a block: renewed by one at a time, saved back, never lost, never told."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from serverkit import wait_until

import ctaflows
from ctaflows import block_profiles, list_dir, settings
from ctaflows.auth import prefect_blocks
from ctaflows.auth.prefect_blocks import BlockStore
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import AuthError, LoginNeeded, NetworkError, TokenMissing
from ctaflows.flows.maintain_token import maintain_token
from ctaflows.sandbox import Quirks, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.blocks import CTACredentials

NAME = "login"
PROFILE = f"block:cta-credentials/{NAME}"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """An issuer that takes each refresh token once, and ends a login of which one came twice."""
    with Sandbox(quirks=Quirks(reuse_ends_session=True, login_interval_s=0.05)) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def server(prefect_server: Any) -> Any:
    block_profiles.forget()
    return prefect_server


@pytest.fixture
def home(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a login."""
    folder = tmp_path / "home-1"
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(folder))
    return folder


@pytest.fixture
def login(box: Sandbox, home: Path) -> CTACredentials:
    block = ctaflows.CTACredentials(
        issuer_url=box.issuer_url,
        client_id=box.client_id,
        client_secret=box.client_secret,
        refresh_token=box.tokens()["refresh_token"],
        ca_file=box.ca_file,
    )
    block.save(NAME, overwrite=True)
    return block


def in_block(server: Any) -> str | None:
    """The refresh token that the server has."""
    with server.client as client:
        data = client.read_block_document_by_name(NAME, "cta-credentials").data
    value: str | None = data["refresh_token"]
    return value


def refreshes(box: Sandbox) -> int:
    return sum(r.server == "issuer" and r.path.endswith("/token") for r in box.requests)


def at(home: Path) -> TokenProvider:
    """The login as another home sees it."""
    return TokenProvider(settings.load(PROFILE, config_dir=home))


def refuse_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server refuses to save, and repeats what was sent as FastAPI does."""

    def refuse(self: Any, client: Any, block_id: Any, refresh_token: str | None) -> None:
        with self._client():
            raise ValueError(f"422 input: {refresh_token}")

    monkeypatch.setattr(BlockStore, "_put", refuse)


def test_a_token_is_made_once_and_the_rotated_login_is_saved(
    server: Any, box: Sandbox, login: CTACredentials, home: Path
) -> None:
    first = in_block(server)
    token = login.token().get_secret_value()
    assert token.startswith("eyJ")
    assert login.token().get_secret_value() == token
    assert refreshes(box) == 1
    assert in_block(server) not in (first, None)
    assert login.refresh_token.get_secret_value() == in_block(server), "saving it again is no harm"
    kept = list((home / "tokens").iterdir())
    assert {f.stat().st_mode & 0o777 for f in kept} == {0o600}
    assert not any("lease" in f.name for f in kept), "the slot was given back"


@pytest.mark.slow
def test_homes_renew_after_one_another(
    server: Any, box: Sandbox, login: CTACredentials, tmp_path: Path
) -> None:
    """Each renewal uses up the token of the one before; two at once would end the login."""
    providers = [at(tmp_path / f"home-{i}") for i in range(4)]
    outcomes: list[Any] = []

    def renew(provider: TokenProvider) -> None:
        try:
            outcomes.append(provider.token())
        except Exception as why:
            outcomes.append(why)

    threads = [
        # with this context's variables, since the server is named in one of them
        threading.Thread(target=contextvars.copy_context().run, args=(renew, provider))
        for provider in providers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(outcome, str) for outcome in outcomes), outcomes
    assert len(set(outcomes)) == refreshes(box) == 4
    assert at(tmp_path / "home-0").refresh().expires_in_s, "an older home takes the newer login"


def test_a_login_that_can_not_be_saved_is_kept_and_saved_later(
    server: Any,
    box: Sandbox,
    login: CTACredentials,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = in_block(server)
    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG):
        refuse_saves(patch)
        provider = at(tmp_path / "home-1")
        provider.token()
        renewed = provider.store.read().refresh_token
        assert provider.refresh().expires_in_s, "this home goes on with what it has"
        assert refreshes(box) == 2
        assert in_block(server) == first
    renewed = provider.store.read().refresh_token
    assert "is not saved yet" in caplog.text
    assert not [t for t in (first, renewed) if t in caplog.text]
    monkeypatch.setattr(prefect_blocks, "_PAUSE_S", 0.0)
    again = at(tmp_path / "home-1")  # a later process
    again.token()
    assert refreshes(box) == 2, "nothing was renewed for it"
    assert in_block(server) == renewed
    assert at(tmp_path / "home-2").token().startswith("eyJ")


def test_a_kill_between_file_and_block_loses_nothing(
    server: Any,
    box: Sandbox,
    login: CTACredentials,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(BlockStore, "_save", die)
        with pytest.raises(Killed):
            at(tmp_path / "home-1").token()
    assert at(tmp_path / "home-1").refresh().expires_in_s
    assert in_block(server) == at(tmp_path / "home-1").store.read().refresh_token


def test_a_person_who_logs_in_anew_wins(
    server: Any, box: Sandbox, login: CTACredentials, home: Path
) -> None:
    login.token()
    box.revoke(in_block(server) or "")
    for _ in range(2):
        with pytest.raises(LoginNeeded):
            login.refresh()
    assert refreshes(box) == 2, "the issuer is not asked again"
    login.refresh_token = box.tokens()["refresh_token"]
    login.save(NAME, overwrite=True)
    assert login.refresh().expires_in_s


def test_a_change_while_we_renew_is_not_overwritten(
    server: Any, box: Sandbox, login: CTACredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = box.tokens()["refresh_token"]
    exchanged = TokenProvider._exchanged

    def meanwhile(self: TokenProvider, *what: Any) -> Any:
        with server.client as client:
            found = client.read_block_document_by_name(NAME, "cta-credentials")
            BlockStore._put(client, found.id, theirs)
        return exchanged(self, *what)

    with monkeypatch.context() as patch:
        patch.setattr(TokenProvider, "_exchanged", meanwhile)
        login.token()
    assert in_block(server) == theirs
    assert login.refresh().expires_in_s, "from here on with theirs"


def test_one_who_died_with_the_slot_keeps_nobody_of_this_home_waiting(
    server: Any, box: Sandbox, login: CTACredentials
) -> None:
    store = login.get_client().store
    with server.client as client:
        lease = prefect_blocks._lease(client, f"ctaflows-cta-credentials-{NAME}")
        assert lease is not None
        assert prefect_blocks._lease(client, f"ctaflows-cta-credentials-{NAME}") is None, "one slot"
    prefect_blocks.write_private(store._lease_file, lease)
    assert login.token()


def test_while_another_home_renews_the_old_token_serves(
    server: Any, box: Sandbox, login: CTACredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = login.token().get_secret_value()
    provider = login.get_client()
    values = json.loads(provider.store.file.read_text())
    values["obtained_at"] -= values["expires_in"] - 20
    provider.store.file.write_text(json.dumps(values))
    with server.client as client:
        lease = prefect_blocks._lease(client, f"ctaflows-cta-credentials-{NAME}")
        assert provider.token() == token
        client.release_concurrency_slots_with_lease(lease)
    assert provider.token() != token


def test_while_the_server_is_away_nothing_is_used_up(
    server: Any, box: Sandbox, login: CTACredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = login.token().get_secret_value()
    provider = login.get_client()
    from prefect.client.orchestration import SyncPrefectClient

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(SyncPrefectClient, "request", away)
        assert provider.token() == token, "no question is needed"
        with pytest.raises(NetworkError, match="block cta-credentials/login"):
            provider.refresh()
    assert refreshes(box) == 1
    assert provider.refresh().expires_in_s


def test_a_block_that_names_another_issuer_sends_it_nothing(
    server: Any, box: Sandbox, login: CTACredentials
) -> None:
    login.token()
    kept = in_block(server)
    with Sandbox() as other:
        login.issuer_url, login.ca_file = other.issuer_url, other.ca_file
        login.save(NAME, overwrite=True)
        with pytest.raises(AuthError, match="belongs to") as why:
            login.refresh()
        assert box.issuer_url in str(why.value)
        assert not list(other.requests)
    assert in_block(server) == kept
    login.issuer_url, login.ca_file = box.issuer_url, box.ca_file
    login.save(NAME, overwrite=True)
    assert login.refresh().expires_in_s


def test_logging_in_fills_the_block(server: Any, box: Sandbox, home: Path) -> None:
    block = ctaflows.CTACredentials(
        issuer_url=box.issuer_url,
        client_id=box.client_id,
        client_secret=box.client_secret,
        ca_file=box.ca_file,
    )
    block.save(NAME, overwrite=True)
    with pytest.raises(TokenMissing) as why:
        block.token()
    assert f"--profile {PROFILE}" in (why.value.hint or "")
    info = block.log_in(lambda login: wait_until(lambda: box.approve(login.user_code), "approval"))
    assert info.refreshable
    assert in_block(server) is not None
    block.get_client().log_out()
    assert in_block(server) is None


def test_tokens_of_a_block_are_not_those_of_the_profile(
    server: Any, box: Sandbox, login: CTACredentials, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(box.config_dir))
    before = (box.config_dir / "tokens/sandbox.json").read_text()
    box.put("/cta/a.h5", b"a")
    ctaflows.CTAStorage(profile="sandbox", credentials=login).save("with-login", overwrite=True)
    assert [e.name for e in list_dir("cta", profile="block:with-login")] == ["a.h5"]
    assert refreshes(box) == 1
    assert (box.config_dir / "tokens/sandbox.json").read_text() == before


def test_maintain_token_keeps_it_by_its_name(
    server: Any, box: Sandbox, login: CTACredentials
) -> None:
    info = maintain_token.tracked(profile=PROFILE)
    assert info.expires_in_s
    run = max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)
    assert run.state.is_completed()
    assert run.parameters["profile"] == PROFILE
    (task,) = server.task_runs(run.id, 1)
    assert task.name.startswith("keep-token")
