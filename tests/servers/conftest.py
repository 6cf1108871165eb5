"""Real servers, one of each for all tests, and a door to each; skipped where not installed."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import realservers

from ctaflows.auth.keeper import Keeper
from ctaflows.settings import Settings
from ctaflows.storage.door import Door

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from realservers import CA, Server

#: What the servers are sent as a token, and what must be seen at no other server.
TOKEN = "a-token.for-the-door.alone"
#: Set by .ci/run once it has installed the servers: from then on nothing is skipped.
REQUIRED = os.environ.get("STORAGE_SERVERS") == "required"

_numbers = itertools.count(1)


@dataclass
class Place:
    """A folder of a test's own at a server.

    Attributes
    ----------
    at : str
        Its path at the door.
    folder : Path
        The same where the server keeps it.
    """

    server: Server
    at: str
    folder: Path

    def put(self, name: str, data: bytes = b"x") -> str:
        """Lay a file down behind the server's back; give its path at the door."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return f"{self.at}/{name}"

    def files(self) -> dict[str, bytes]:
        """Give all files that are there, hidden ones too."""
        found = (p for p in sorted(self.folder.rglob("*")) if p.is_file())
        return {p.relative_to(self.folder).as_posix(): p.read_bytes() for p in found}


def started(make: Callable[..., Server], *args: object, **kwargs: object) -> Server:
    """Start a server, or skip the test that wants it."""
    try:
        return make(*args, **kwargs)
    except realservers.Missing as why:
        if REQUIRED:
            raise
        pytest.skip(str(why))


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


def new_place(server: Server) -> Place:
    name = f"place-{next(_numbers)}"
    (server.root / name).mkdir()
    return Place(server, f"/{name}", server.root / name)


def settings_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, url: str | None = None
) -> Settings:
    """Give the settings for a door, which are those of new processes too."""
    values = {"DOOR_URL": url or server.url, "CA_FILE": str(server.ca_file), "BACKOFF_S": "0.01"}
    for name, value in values.items():
        monkeypatch.setenv(f"CTAFLOWS_{name}", value)
    monkeypatch.setenv("BEARER_TOKEN", TOKEN)
    return Settings(door_url=values["DOOR_URL"], ca_file=server.ca_file, backoff_s=0.01)


@pytest.fixture
def door(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    settings = settings_for(server, monkeypatch)
    with Door(settings, Keeper(settings)) as door:
        yield door


@pytest.fixture
def here(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The server is the profile in use, and the working folder is a new one."""
    settings_for(server, monkeypatch)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work
