"""Fixtures: a door that sends wrong answers on demand, and a client of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from littledoor import LittleDoor

from ctaflows.auth.renewal import TokenProvider
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox


@pytest.fixture
def little(tmp_path: Path) -> Iterator[LittleDoor]:
    with LittleDoor(tmp_path) as little:
        yield little


@pytest.fixture
def trusted(little: LittleDoor, box: Sandbox, tmp_path: Path) -> Path:
    """The CAs of the little door and of the sandbox, whose issuer renews the tokens."""
    bundle = tmp_path / "both.pem"
    bundle.write_text(little.ca_file.read_text() + box.ca_file.read_text())
    return bundle


@pytest.fixture
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split files into ranges as those are that are 16 times as large."""
    for name in ("RANGES_FROM_BYTES", "_MIB", "_LEAST_RANGE_BYTES", "_MOST_RANGE_BYTES"):
        monkeypatch.setattr(part, name, getattr(part, name) >> 4)


@pytest.fixture(params=["libcurl"])
def wire(request: pytest.FixtureRequest) -> str:
    """The library that transfers the bytes."""
    return str(request.param)


@pytest.fixture
def at_little(little: LittleDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the environment at the little door; returns a new working directory."""
    monkeypatch.setenv("CTAFLOWS_DOOR_URL", little.url)
    monkeypatch.setenv("CTAFLOWS_CA_FILE", str(little.ca_file))
    monkeypatch.setenv("BEARER_TOKEN", "no.token.here")
    monkeypatch.setenv("CTAFLOWS_BACKOFF_S", "0.01")
    monkeypatch.setenv("CTAFLOWS_ATTEMPTS", "5")
    monkeypatch.setenv("CTAFLOWS_BUSY_S", "0.05")
    monkeypatch.setenv("CTAFLOWS_TRACK", "never")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def aimed(
    little: LittleDoor, trusted: Path, here: Path, wire: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The same with tokens of the sandbox's issuer, over each library."""
    monkeypatch.setenv("CTAFLOWS_DOOR_URL", little.url)
    monkeypatch.setenv("CTAFLOWS_CA_FILE", str(trusted))
    monkeypatch.setenv("CTAFLOWS_FAST_BYTES", str(wire == "libcurl").lower())
    monkeypatch.setenv("CTAFLOWS_TRACK", "never")
    (here.parent / "home").mkdir(exist_ok=True)
    assert os.environ["HOME"] == str(here.parent / "home")
    return here


@pytest.fixture
def door(little: LittleDoor, trusted: Path, box: Sandbox, wire: str) -> Iterator[WebDAVStorage]:
    """The little door as a storage of the library."""
    settings = box.settings(
        door_url=little.url, ca_file=trusted, fast_bytes=wire == "libcurl", attempts=3
    )
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        yield door
