"""XRootD as sites run it: a manager that sends each request on to a data server."""

from __future__ import annotations

import http.client
import os
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from putkit import put
from serverplace import TOKEN, Place, new_place, settings_for
from sinkkit import fetch, read

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import NotFound
from ctaflows.model import Entry
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.download import Job
from ctaflows.transfer.uploads import upload_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from realservers import Server

DATA = os.urandom(300_000)


@pytest.fixture
def place(cluster: Server) -> Place:
    return new_place(cluster)


@pytest.fixture
def door(cluster: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebDAVStorage]:
    settings = settings_for(cluster, monkeypatch)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        yield door


@pytest.fixture
def seen(cluster: Server) -> Callable[[], str]:
    """Give what the data server has been sent since the test began."""
    log = cluster.logs["data"]
    begin = log.stat().st_size

    def read() -> str:
        with log.open(errors="replace") as stream:
            stream.seek(begin)
            return "".join(re.findall(r"got hdr line: (.+\n)", stream.read()))

    return read


def fetched(door: WebDAVStorage, path: str, size_bytes: int, folder: Path) -> Path:
    """Fetch a file that no listing told of."""
    local = folder / path.rpartition("/")[2]
    fetch(door, Job(Entry(path, is_dir=False, size_bytes=size_bytes), local))
    return local


def test_read_at_the_data_server_without_the_token(
    place: Place, door: WebDAVStorage, seen: Callable[[], str]
) -> None:
    path = place.put("a.h5", DATA)
    assert read(door, path) == DATA
    assert f"GET {path}" in seen()
    assert "uthorization" not in seen()
    assert TOKEN not in seen()


def test_fetch_at_the_data_server_without_the_token(
    place: Place, door: WebDAVStorage, seen: Callable[[], str], tmp_path: Path
) -> None:
    path = place.put("a.h5", DATA)
    assert fetched(door, path, len(DATA), tmp_path).read_bytes() == DATA
    assert f"GET {path}" in seen()
    assert TOKEN not in seen()


def test_put_at_the_data_server_without_the_token(
    place: Place, door: WebDAVStorage, seen: Callable[[], str]
) -> None:
    path = f"{place.at}/new/a.h5"
    put(door, path, DATA)
    assert place.files() == {"new/a.h5": DATA}
    assert seen().count(f"PUT {path}") == 1, "the manager takes no bytes"
    assert "uthorization" not in seen()
    assert TOKEN not in seen()


def test_a_token_at_the_data_server_would_be_seen(
    place: Place, cluster: Server, seen: Callable[[], str]
) -> None:
    path = place.put("a.h5")
    context = ssl.create_default_context(cafile=cluster.ca_file)
    manager = http.client.HTTPSConnection("localhost", cluster.port, context=context)
    manager.request("GET", path)
    there = urlsplit(manager.getresponse().headers["Location"])
    data = http.client.HTTPSConnection(there.netloc, context=context)
    data.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert data.getresponse().status == 200
    assert TOKEN in seen()
    for connection in (manager, data):
        connection.close()


@pytest.mark.parametrize("name", ["a b", "a+b", "a;b", "a&b=c", "é–ü", "%41", "A#b"])
def test_odd_names(place: Place, door: WebDAVStorage, name: str, tmp_path: Path) -> None:
    """XRootD 5.5 writes the path into Location as it is: raw UTF-8, a % of its own, a # as well."""
    place.put("A", DATA[::-1])
    path = place.put(name, DATA)
    assert fetched(door, path, len(DATA), tmp_path).read_bytes() == DATA


def test_nothing_there(place: Place, door: WebDAVStorage) -> None:
    with pytest.raises(NotFound):
        read(door, f"{place.at}/gone")


def test_describe_and_upload(
    place: Place, door: WebDAVStorage, seen: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "r.h5").write_bytes(DATA)
    upload_alone(door, tmp_path / "r.h5", f"{place.at}/r.h5")
    assert place.files() == {"r.h5": DATA}
    assert [e.name for e in door.list(place.at)] == ["r.h5"]
    assert door.stat(f"{place.at}/r.h5").size_bytes == len(DATA)
    door.remove(f"{place.at}/r.h5")
    assert place.files() == {}
    door.mkdir(f"{place.at}/new")
    assert (place.folder / "new").is_dir()
    for method in ("PROPFIND", "HEAD", "MOVE", "DELETE", "MKCOL"):
        assert f"{method} {place.at}" in seen(), method
    assert TOKEN not in seen()
