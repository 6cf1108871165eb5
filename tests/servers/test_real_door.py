"""Real servers with what others put into their folders: many files, odd names, a broken link."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from serverplace import known_bug
from sinkkit import read

from ctaflows.errors import CtaflowsError, NotFound

if TYPE_CHECKING:
    from serverplace import Place

    from ctaflows.storage.webdav import WebDAVStorage

DATA = bytes(range(256)) * 400
ODD_NAMES = [
    "a b", "100%", "%41", "a#b", "a+b", "a&b", "é–ü", "星", "a?b", "a;b", "a=b", "a:b", "a@b",
    "'a'", "[a]", "a~", "a\\b", "a<b>", '"a"', " a", "a ", "a,b", "-a", ".a", "$a", "(a)", "a!b*",
    "a|b",
]  # fmt: skip
#: XRootD 5.5 writes names into listings as they are, so that one that looks encoded is decoded, and
#: an outer space is taken for layout; and it cuts a path at a question mark, encoded or not.
UNREADABLE_ON_XROOTD = {"%41", "a ", " a", "a?b"}


def test_a_large_directory(place: Place, door: WebDAVStorage) -> None:
    for i in range(2000):
        (place.folder / f"{i:04}.h5").write_bytes(b"")
    assert sorted(e.name for e in door.list(place.at)) == [f"{i:04}.h5" for i in range(2000)]


def test_nothing_there_to_read(
    place: Place, door: WebDAVStorage, request: pytest.FixtureRequest
) -> None:
    if place.server.name == "xrootd":  # xrootd #2018, until 5.6
        known_bug(request, "a 500 of XRootD to GET with Want-Digest of no file is told as busy")
    with pytest.raises(NotFound):
        read(door, f"{place.at}/gone")


def test_odd_names(place: Place, door: WebDAVStorage) -> None:
    names = set(ODD_NAMES)
    if place.server.name == "xrootd":
        names -= UNREADABLE_ON_XROOTD
    paths = {name: place.put(name, name.encode()) for name in names}
    listed = {e.path for e in door.list(place.at)}
    if place.server.name == "nginx":  # nginx-dav-ext 3.0 hides such, and finds them by name
        listed.add(paths[".a"])
    assert listed == set(paths.values())
    for name, path in paths.items():
        assert door.stat(path).size_bytes == len(name.encode()), name
        assert read(door, path) == name.encode(), name
        door.mkdir(f"{path}.d")
        (place.folder / f"{name}.d" / "x").write_bytes(b"x")
        assert [e.path for e in door.list(f"{path}.d")] == [f"{path}.d/x"]
        door.remove(path)
    assert set(place.files()) == {f"{name}.d/x" for name in names}


def test_move_to_odd_names(place: Place, door: WebDAVStorage) -> None:
    for name in ODD_NAMES:
        door.move(place.put("plain", name.encode()), f"{place.at}/{name}")
    # XRootD 5.5 does not decode the Destination
    there = quote if place.server.name == "xrootd" else str
    assert place.files() == {there(name): name.encode() for name in ODD_NAMES}


def test_a_file_that_may_not_be_read_is_an_error(place: Place, door: WebDAVStorage) -> None:
    path = f"{place.at}/loop"
    (place.folder / "loop").symlink_to("loop")
    with pytest.raises(CtaflowsError):
        read(door, path)
