"""Connections to real servers that break in the middle of a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from cutting import cut
from serverplace import settings_for
from sinkkit import fetch

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import NetworkError
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.download import Job
from ctaflows.transfer.uploads import upload_alone

if TYPE_CHECKING:
    from pathlib import Path

    from realservers import Server
    from serverplace import Place

    from ctaflows.settings import Settings

DATA = os.urandom(4_000_000)
AFTER = 1_000_000


def test_a_fetch_goes_on_where_it_was_cut(
    place: Place, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.put("a.h5", DATA)
    with cut(server, AFTER, times=3) as cutter:
        settings = settings_for(server, monkeypatch, cutter.url)
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            done = fetch(door, Job(door.stat(path), tmp_path / "a.h5"))
    assert cutter.n_cuts == 3
    assert done.retries >= 3
    assert done.moved_bytes == len(DATA), "none of them twice"
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert [p.name for p in tmp_path.glob("*")] == ["a.h5"]


def test_the_next_run_goes_on_where_all_tries_were_cut(
    place: Place, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.put("a.h5", DATA)
    with cut(server, AFTER, times=100) as cutter:
        settings = settings_for(server, monkeypatch, cutter.url, ATTEMPTS="1")
        with WebDAVStorage(settings, TokenProvider(settings)) as door, pytest.raises(NetworkError):
            fetch(door, Job(door.stat(path), tmp_path / "a.h5"))
    assert not (tmp_path / "a.h5").exists()
    settings = settings_for(server, monkeypatch)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        done = fetch(door, Job(door.stat(path), tmp_path / "a.h5"))
    assert 0 < done.resumed_bytes < len(DATA)
    assert done.moved_bytes == len(DATA) - done.resumed_bytes
    assert (tmp_path / "a.h5").read_bytes() == DATA


@pytest.mark.uploads
def test_a_cut_upload_is_made_good(
    place: Place, server: Server, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "r.h5").write_bytes(DATA)
    with cut(server, AFTER, times=2) as cutter:
        settings = settings.replace(door_url=cutter.url)
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            done = upload_alone(door, tmp_path / "r.h5", f"{place.at}/r.h5")
    assert cutter.n_cuts == 2
    assert done.retries >= 1
    assert place.comes_to_hold({"r.h5": DATA})


@pytest.mark.uploads
def test_an_upload_cut_for_good_leaves_the_old_file_alone(
    place: Place, server: Server, settings: Settings, tmp_path: Path
) -> None:
    path = place.put("r.h5", b"old")
    (tmp_path / "r.h5").write_bytes(DATA)
    with cut(server, AFTER, times=100) as cutter:
        settings = settings.replace(door_url=cutter.url, attempts=2)
        with WebDAVStorage(settings, TokenProvider(settings)) as door, pytest.raises(NetworkError):
            upload_alone(door, tmp_path / "r.h5", path, overwrite=True)
    assert cutter.n_cuts >= 2, "it is the bytes that were cut"
    assert place.comes_to_hold({"r.h5": b"old"})
