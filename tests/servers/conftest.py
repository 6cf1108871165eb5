"""Fixtures: real servers, one of each for all tests, and their doors; skipped where missing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import realservers
from serverplace import Place, new_place, settings_for

from ctaflows.auth.renewal import TokenProvider
from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from realservers import CA, Server

    from ctaflows.settings import Settings

#: Set by .ci/run where it has installed the servers: then nothing is skipped.
REQUIRED = os.environ.get("STORAGE_SERVERS") == "required"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "uploads: writes to the server through ctaflows")


def started(make: Callable[..., Server], *args: object, **kwargs: object) -> Server:
    """Start a server, or skip the test that needs it."""
    try:
        return make(*args, **kwargs)
    except realservers.Missing as why:
        if REQUIRED:
            raise
        pytest.skip(str(why))


@pytest.fixture
def start_server() -> Callable[..., Server]:
    """Starts a server by its name; skips the test where it is not installed."""
    return lambda name, *where: started(getattr(realservers, name), *where)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return realservers.make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session", params=["nginx", "apache", "xrootd"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: CA
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp(request.param)
    make = getattr(realservers, request.param)
    with started(make, home / "home", home / "root", authority) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, authority: CA) -> Iterator[Server]:
    """An XRootD manager and a data server that logs all that it is sent."""
    home = tmp_path_factory.mktemp("cluster")
    make = realservers.xrootd_cluster
    with started(make, home / "home", home / "root", authority, trace=True) as server:
        yield server


@pytest.fixture
def place(server: Server) -> Place:
    return new_place(server)


@pytest.fixture
def settings(server: Server, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The server's door, for this process and those it starts."""
    return settings_for(server, monkeypatch)


@pytest.fixture
def door(settings: Settings) -> Iterator[WebDAVStorage]:
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        yield door


@pytest.fixture
def here(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The server is the profile in use, and the working directory is a new one."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work
