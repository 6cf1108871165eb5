"""Whom a call asks: the download service, or the storage itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripts import fails, ok, run

from ctaflows import ctadata
from ctaflows.auth.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.hub import Hub

SERVICE, DOOR = ["lst/", "lst/a"], ["a"]


@pytest.fixture(autouse=True)
def files(box: Sandbox, hub: Hub) -> None:
    box.put("/lst/a", b"1")


@pytest.fixture
def logged_out(box: Sandbox) -> None:
    Store(box.settings()).remove()


def test_the_library_asks_the_service_where_a_hubs_token_is(token: str) -> None:
    assert ctadata.list_dir("lst") == SERVICE


def test_the_library_asks_the_storage_where_none_is(here: Path) -> None:
    assert ctadata.list_dir("lst") == DOOR
    assert ctadata.fetch_and_save_file("lst/a") == 1
    assert ctadata.fetch_and_save_file_or_dir("lst", recursive=True) == 1
    assert (here / "lst/a").exists()
    assert ctadata.upload_file("a", "b")["path"] == "b"
    assert ctadata.upload_dir("lst", "c")[0]["path"] == "c/a"


def test_a_setting_of_the_services_means_the_service(
    token: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN")
    with pytest.raises(ctadata.TokenError, match="jupyterhub"):
        ctadata.list_dir("lst")  # CTADS_URL is set
    assert ctadata.list_dir("lst", token=token) == SERVICE
    monkeypatch.delenv("CTADS_URL")
    assert ctadata.list_dir("lst") == DOOR
    monkeypatch.setattr(ctadata.APIClient, "downloadservice", hub.downloadservice_url)
    with pytest.raises(ctadata.TokenError, match="jupyterhub"):
        ctadata.list_dir("lst")
    monkeypatch.setattr(ctadata.APIClient, "token", token)
    assert ctadata.list_dir("lst") == SERVICE


def test_the_scripts_where_both_tokens_are(token: str) -> None:
    assert ok("ctadata", "list", "lst").split() == SERVICE
    assert ok("cta-data", "list", "lst").split() == DOOR
    assert ok("cta-data-direct", "list", "lst").split() == DOOR


def test_the_scripts_where_the_hubs_alone_is(token: str, hub: Hub, logged_out: None) -> None:
    assert ok("ctadata", "list", "lst").split() == SERVICE
    done = run("cta-data", "list", "lst")
    assert done.stdout.split() == SERVICE
    assert f"asking the download service {hub.downloadservice_url}" in done.stderr
    assert "no token" in fails(5, "cta-data-direct", "list", "lst")


def test_the_scripts_where_the_storages_alone_is(here: Path) -> None:
    for script in ("ctadata", "cta-data", "cta-data-direct"):
        assert ok(script, "list", "lst").split() == DOOR


def test_the_scripts_where_none_is(here: Path, logged_out: None) -> None:
    for script in ("ctadata", "cta-data", "cta-data-direct"):
        assert "no token" in fails(5, script, "list", "lst")


def test_an_expired_login_is_a_login_all_the_same(
    token: str, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_TOKEN_SOURCE", "environment")
    monkeypatch.setenv("BEARER_TOKEN", box.issue_token(lifetime_s=-5))
    assert "expired" in fails(5, "cta-data", "list", "lst")
