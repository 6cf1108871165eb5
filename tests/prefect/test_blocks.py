"""The blocks at work: a real Prefect server, the sandbox's door and hub, names as profiles."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import addresses
import pytest
from pydantic import SecretStr, ValidationError

import ctaflows
from ctaflows import block_profiles, list_dir, settings
from ctaflows.errors import NetworkError, NotFound, TokenMissing, UsageError
from ctaflows.sandbox.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.blocks import CTACredentials, CTAStorage
    from ctaflows.sandbox import Sandbox

SECRET = "the-client-secret-3Zq"
REFRESH = "the-refresh-token-9Kx"


@pytest.fixture(autouse=True)
def server(prefect_server: Any) -> Iterator[Any]:
    """The session's server, of whose blocks nothing is known yet."""
    block_profiles.forget()
    yield prefect_server
    block_profiles.forget()


@pytest.fixture
def elsewhere(box: Sandbox, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any profile or token: all that is known comes from blocks."""
    home = tmp_path / "elsewhere"
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(home))
    return home


@pytest.fixture
def login(box: Sandbox) -> CTACredentials:
    block = ctaflows.CTACredentials(
        issuer_url=box.issuer_url,
        client_id=box.client_id,
        client_secret=box.client_secret,
        refresh_token=box.tokens()["refresh_token"],
        ca_file=box.ca_file,
    )
    block.save("of-the-box", overwrite=True)
    return block


@pytest.fixture
def storage(box: Sandbox, login: CTACredentials, elsewhere: Path) -> CTAStorage:
    box.put("/cta/a.h5", b"some bytes")
    block = ctaflows.CTAStorage(door_url=box.door_url, credentials=login, transfers=3)
    block.save("the-box", overwrite=True)
    return block


# -- a name is a profile --------------------------------------------------------------------


def test_a_name_is_a_profile(box: Sandbox, storage: CTAStorage, elsewhere: Path) -> None:
    assert [e.name for e in list_dir("cta", profile="block:the-box")] == ["a.h5"]
    assert list_dir("cta", profile="block:cta-storage/the-box")[0].size_bytes == 10
    found = settings.load("block:the-box")
    assert (found.door_url, found.transfers, found.listings) == (box.door_url, 3, 2)
    assert found.origins["door_url"] == found.origins["issuer_url"] == "block"
    assert found.origins["listings"] == "default"


def test_another_process_needs_the_name_alone(storage: CTAStorage) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", "ls", "cta", "--profile", "block:the-box"],
        text=True, capture_output=True, check=False, timeout=120, env=dict(os.environ),
    )  # fmt: skip
    assert done.stdout.strip() == "a.h5", done.stderr


def test_an_asynchronous_flow_may_use_it_too(storage: CTAStorage) -> None:
    from prefect import flow

    @flow
    async def listed() -> list[str]:
        return [e.name for e in list_dir("cta", profile="block:the-box")]

    assert asyncio.run(listed()) == ["a.h5"]


def test_a_notebook_has_an_event_loop(storage: CTAStorage) -> None:
    async def cell() -> list[Any]:
        block_profiles.forget()
        loaded = await ctaflows.CTAStorage.load("the-box")
        return [list_dir("cta", profile="block:the-box"), loaded.list_dir("cta")]

    assert [[e.name for e in found] for found in asyncio.run(cell())] == [["a.h5"], ["a.h5"]]


def test_what_a_storage_does_not_say_comes_from_its_profile(box: Sandbox, here: Path) -> None:
    box.put("/cta/a.h5", b"a")
    ctaflows.CTAStorage(profile="sandbox", stall_timeout_s=7).save("half", overwrite=True)
    found = settings.load("block:half")
    assert (found.profile, found.door_url, found.stall_timeout_s) == ("sandbox", box.door_url, 7.0)
    assert [e.name for e in list_dir("cta", profile="block:half")] == ["a.h5"], "the home's login"
    ctaflows.CTAStorage(profile="nonsense").save("half", overwrite=True)
    block_profiles.forget()
    with pytest.raises(UsageError, match="no profile “nonsense”"):
        settings.load("block:half")


def test_the_environment_wins_over_values_but_not_over_a_login(
    box: Sandbox, storage: CTAStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_TRANSFERS", "5")
    monkeypatch.setenv("CTAFLOWS_ISSUER_URL", addresses.ISSUER)
    monkeypatch.setenv("CTAFLOWS_CLIENT_SECRET", "another")
    monkeypatch.setenv("CTAFLOWS_CLIENT_SECRET_FILE", "/dev/null")
    monkeypatch.setenv("CTAFLOWS_TOKEN_SOURCE", "environment")
    monkeypatch.setenv("BEARER_TOKEN", "somebody-elses")
    found = settings.load("block:the-box")
    assert found.transfers == 5
    assert (found.issuer_url, found.client_secret) == (box.issuer_url, box.client_secret)
    assert found.client_secret_file is None
    assert [e.name for e in list_dir("cta", profile="block:the-box")] == ["a.h5"]


def test_a_block_is_asked_for_once_a_while(storage: CTAStorage) -> None:
    for _ in range(3):
        list_dir("cta", profile="block:the-box")
    ctaflows.CTAStorage(door_url=addresses.DOOR, credentials=storage.credentials).save(
        "the-box", overwrite=True
    )
    assert settings.load("block:the-box").door_url == storage.door_url
    block_profiles.forget()
    assert settings.load("block:the-box").door_url == addresses.DOOR


def test_its_last_values_hold_while_the_server_is_away(
    storage: CTAStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(block_profiles, "TRUST_S", 0.0)
    settings.load("block:the-box")
    from prefect.client.orchestration import SyncPrefectClient

    def away(*_: object, **__: object) -> None:
        raise ConnectionError(f"with {SECRET}")

    monkeypatch.setattr(SyncPrefectClient, "request", away)
    with caplog.at_level(logging.WARNING):
        assert settings.load("block:the-box").door_url == storage.door_url
    assert "its last values hold: ConnectionError" in caplog.text
    assert SECRET not in caplog.text
    block_profiles.forget()
    with pytest.raises(NetworkError, match="can't be read") as why:
        settings.load("block:the-box")
    assert "PREFECT_API_URL" in (why.value.hint or "")
    assert SECRET not in str(why.value)


def test_a_server_that_is_not_there_is_said(here: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: f"{addresses.SILENT}/api"}),
        pytest.raises(NetworkError, match="block cta-storage/x"),
    ):
        settings.load("block:x")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("block:nobody", "Unable to find block document named nobody"),
        ("block:secret/x", "There is no profile"),
        ("block:Not A Name", "There is no profile"),
        ("block:cta-storage/x@7", "lives in another process"),
    ],
)
def test_names_that_are_none(here: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settings.load(name)


# -- methods ----------------------------------------------------------------------------------


def test_methods_are_the_tasks(storage: CTAStorage, here: Path) -> None:
    loaded: Any = ctaflows.CTAStorage.load("the-box")
    assert loaded.settings().door_url == storage.door_url
    assert loaded.stat("cta/a.h5").size_bytes == 10
    assert loaded.fetch_file("cta/a.h5", "a.h5").verified
    assert [t.local for t in loaded.fetch_files(loaded.find("cta"), "out").transfers] == [
        "out/a.h5"
    ]
    assert loaded.fetch_dir("cta", "tree").transfers[0].verified
    (here / "up").mkdir()
    (here / "up/b.h5").write_bytes(b"b")
    assert loaded.upload_file("up/b.h5", "cta/").path == "/cta/b.h5"
    assert loaded.upload_dir("up", "cta").transfers[0].path == "/cta/up/b.h5"
    assert {e.name for e in loaded.list_dir("cta")} == {"a.h5", "b.h5", "up"}
    with pytest.raises(NotFound, match="no night"):
        loaded.list_night("20241114")


def test_methods_are_tracked_in_a_flow(server: Any, storage: CTAStorage) -> None:
    from prefect import flow

    @flow(name="by-methods")
    def by_methods(name: str) -> None:
        door: Any = ctaflows.CTAStorage.load(name)
        door.fetch_file(door.find("cta")[0], "a.h5")

    by_methods("the-box")
    run = max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)
    tasks = server.task_runs(run.id, 2)
    assert [t.name.rpartition("-")[0] for t in tasks] == ["fetch-file", "find"]
    assert all(t.state.is_completed() for t in tasks)


def test_an_unsaved_block_works_here(box: Sandbox, here: Path) -> None:
    box.put("/cta/a.h5", b"a")
    one = ctaflows.CTAStorage(door_url=box.door_url, profile="sandbox")
    assert [e.name for e in one.list_dir("cta")] == ["a.h5"]
    other = one.model_copy(update={"door_url": addresses.DOOR})
    assert other.settings().door_url == addresses.DOOR
    assert one.settings().door_url == box.door_url
    assert one.profile_name() != other.profile_name(), "two keys for two storages"
    one.transfers = 2
    assert one.settings().transfers == 2


def test_the_download_service(box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box.put("/lst/a.h5", b"some bytes")
    with Hub(box) as hub:
        token = hub.add_user("jane.doe@example.org")
        ctaflows.CTADownloadService(
            url=hub.downloadservice_url, token=token, ca_file=box.ca_file, chunk_bytes=4
        ).save("hub", overwrite=True)
        service: Any = ctaflows.CTADownloadService.load("hub")
        assert [e.name for e in service.list_dir("lst")] == ["a.h5"]
        assert service.stat("lst/a.h5").size_bytes == 10
        assert service.fetch_file("lst/a.h5", "a.h5").verified
        report = service.fetch_files(service.find("lst"), "out", manifest="out/manifest.jsonl")
        assert [t.verified for t in report.transfers] == [True]
        assert not service.fetch_dir("lst", "dir").failed
        for _ in range(2):
            assert service.upload_file("a.h5", "results/").size_bytes == 10, "it replaces"
        assert [e.name for e in list_dir("lst", profile="block:cta-download-service/hub")] == [
            "a.h5",
            "users",
        ]
        monkeypatch.setenv("CTADS_URL", settings.PLATFORM_URL)
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "another")
        assert service.stat("lst/a.h5").size_bytes == 10, "address and token go together"
        monkeypatch.delenv("JUPYTERHUB_API_TOKEN")
        with pytest.raises(UsageError, match="is a directory"):
            service.fetch_file("lst")
        assert token not in repr(service) + str(service)

        service.token = None
        with pytest.raises(TokenMissing, match="no JupyterHub token"):
            service.list_dir("lst")
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", token)
        assert service.list_dir("lst")
        assert all(token not in request.path for request in hub.requests)


# -- secrets ----------------------------------------------------------------------------------


def test_saved_secrets_are_shown_to_nobody_who_does_not_ask(server: Any, here: Path) -> None:
    login = ctaflows.CTACredentials(client_secret=SECRET, refresh_token=REFRESH)
    login.save("secretive", overwrite=True)
    ctaflows.CTAStorage(credentials=login).save("secretive", overwrite=True)
    # one that was never saved by itself is kept within the storage
    ctaflows.CTAStorage(
        credentials=ctaflows.CTACredentials(client_secret=SECRET, refresh_token=REFRESH)
    ).save("nested", overwrite=True)
    with server.client as client:
        shown = client._client.post("/block_documents/filter", json={}).text
        asked = client._client.post("/block_documents/filter", json={"include_secrets": True}).text
    assert shown.count("secretive") >= 2
    assert SECRET not in shown
    assert REFRESH not in shown
    assert "********" in shown
    assert SECRET in asked, "the test looks at the right thing"
    told = server.ask("block", "inspect", "cta-credentials/secretive")
    assert SECRET not in told
    assert REFRESH not in told


def test_no_text_of_a_block_holds_a_secret(here: Path) -> None:
    login = ctaflows.CTACredentials(client_secret=SECRET, refresh_token=REFRESH)
    login.save("secretive", overwrite=True)
    storage = ctaflows.CTAStorage(credentials=login)
    texts = [repr(x) + str(x) for x in (login, storage, storage.settings(), storage.as_profile())]
    texts += [f"{vars(storage)}", storage.model_dump_json(), json.dumps(storage.profile_name())]
    assert storage.settings().client_secret == SECRET, "the test looks at the right thing"
    assert not any(SECRET in text or REFRESH in text for text in texts)


def test_what_does_not_validate_is_not_repeated(here: Path) -> None:
    with pytest.raises(ValidationError) as why:
        ctaflows.CTACredentials(client_secret={"value": SECRET}, refresh_token=[REFRESH])
    assert SECRET not in str(why.value)
    assert REFRESH not in str(why.value)
    with pytest.raises(ValidationError):
        ctaflows.CTAStorage(transfers=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ctaflows.CTACredentials(issuer_url="nowhere"),
        lambda: ctaflows.CTAStorage(door_url=f"{addresses.DOOR}?a=b"),
        lambda: ctaflows.CTAStorage(token_source="anywhere"),
        lambda: ctaflows.CTADownloadService(url="ftp://hub.example"),
    ],
)
def test_values_are_checked_when_they_are_given(here: Path, make: Any) -> None:
    with pytest.raises(UsageError, match="can't be"):
        make()


def test_credentials_must_be_saved(box: Sandbox, elsewhere: Path) -> None:
    login = ctaflows.CTACredentials(refresh_token=SecretStr(REFRESH))
    with pytest.raises(UsageError, match="not saved") as why:
        login.token()
    assert ".save(NAME)" in (why.value.hint or "")
