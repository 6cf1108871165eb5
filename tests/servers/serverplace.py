"""Shared by the tests on real servers: a directory, settings for the door."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import storedsums

from ctaflows.settings import load

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from realservers import Server

    from ctaflows.settings import Settings

#: What the servers are sent as a token, and what must be seen at no other server.
TOKEN = "a-token.for-the-door.alone"

_numbers = itertools.count(1)


@dataclass
class Place:
    """A directory at a server, for one test.

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
        """Write a file into the served directory itself; return its remote path."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        storedsums.store(file)
        return f"{self.at}/{name}"

    def files(self) -> dict[str, bytes]:
        """Return all files in the directory, hidden ones too."""
        found = (p for p in sorted(self.folder.rglob("*")) if p.is_file())
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            return {p.relative_to(self.folder).as_posix(): p.read_bytes() for p in found}
        return self.files()

    def comes_to_hold(self, files: dict[str, bytes]) -> bool:
        """Return whether these are all files, once the server has removed incomplete ones.

        Apache 2.4 removes its own `.davfs.tmp` only when it notices that the client is gone.
        """
        deadline = time.monotonic() + 60
        while self.files() != files and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.files() == files


def new_place(server: Server) -> Place:
    """Create a directory that no other test uses."""
    name = f"place-{next(_numbers)}"
    (server.root / name).mkdir()
    return Place(server, f"/{name}", server.root / name)


def settings_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, url: str | None = None, **more: str
) -> Settings:
    """Put the settings for a door into the environment, and return them."""
    values = {"DOOR_URL": url or server.url, "CA_FILE": str(server.ca_file), "BACKOFF_S": "0.01"}
    # the answer to a HEAD that makes XRootD compute a checksum may never come, see `storedsums`
    values["STALL_TIMEOUT_S"] = "15"
    for name, value in (values | more).items():
        monkeypatch.setenv(f"CTAFLOWS_{name}", value)
    monkeypatch.setenv("BEARER_TOKEN", TOKEN)
    return load()
