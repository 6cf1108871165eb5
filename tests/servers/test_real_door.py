"""The door's operations on real servers. Where one can't do a thing, its quirk is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import storedsums
from serverplace import settings_for
from sinkkit import read

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import (
    CtaflowsError,
    NotFound,
    ProtocolSurprise,
)
from ctaflows.storage.namespace import move, plan_removal, remove_all
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.uploads import upload_alone

if TYPE_CHECKING:
    from pathlib import Path

    from serverplace import Place

    from ctaflows.settings import Settings

DATA = bytes(range(256)) * 400
ODD_NAMES = [
    "a b", "100%", "%41", "a#b", "a+b", "a&b", "é–ü", "星", "a?b", "a;b", "a=b", "a:b", "a@b",
    "'a'", "[a]", "a~", "a\\b", "a<b>", '"a"', " a", "a ", "a,b", "-a", ".a", "$a", "(a)", "a!b*",
    "a|b",
]  # fmt: skip
#: XRootD 5.5 writes names into listings as they are, so that one that looks encoded is decoded, and
#: an outer space is taken for layout; and it cuts a path at a question mark, encoded or not.
UNREADABLE_ON_XROOTD = {"%41", "a ", " a", "a?b"}
#: XRootD 5.5 does not decode the Destination of a MOVE, and cuts it at these characters.
UNNAMEABLE_ON_XROOTD = {"a?b", "a ", "é–ü", "星"}


def test_a_large_directory(place: Place, door: WebDAVStorage) -> None:
    for i in range(2000):
        (place.folder / f"{i:04}.h5").write_bytes(b"")
    assert sorted(e.name for e in door.list(place.at)) == [f"{i:04}.h5" for i in range(2000)]


def test_nothing_there_to_read(place: Place, door: WebDAVStorage) -> None:
    """XRootD answers 500 to a GET with Want-Digest of no file, until 5.6 (xrootd #2018)."""
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
    moved = {}
    for name in ODD_NAMES:
        plain = place.put("plain", name.encode())
        if place.server.name == "xrootd" and name in UNNAMEABLE_ON_XROOTD:
            with pytest.raises(ProtocolSurprise, match="this name"):
                door.move(plain, f"{place.at}/{name}")
            (place.folder / "plain").unlink()
        else:
            door.move(plain, f"{place.at}/{name}")
            moved[name] = name.encode()
    assert place.files() == moved


def test_a_file_that_may_not_be_read_is_an_error(place: Place, settings: Settings) -> None:
    path = f"{place.at}/loop"
    (place.folder / "loop").symlink_to("loop")
    once = settings.replace(attempts=1)  # XRootD 5.5.3 calls it 500, which is tried for minutes
    with WebDAVStorage(once, TokenProvider(once)) as door, pytest.raises(CtaflowsError):
        read(door, path)


@pytest.mark.uploads
def test_a_door_with_a_path(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a storage area of StoRM, or a directory of EOS: it is the root."""
    root = place.folder / "sto rm/x"
    root.mkdir(parents=True)
    (root / "n").mkdir()
    (root / "n/a.h5").write_bytes(DATA)
    storedsums.store(root / "n/a.h5")
    url = f"{place.server.url}{place.at}/sto%20rm/x/"
    settings = settings_for(place.server, monkeypatch, url)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        assert [e.path for e in door.list("/")] == ["/n"]
        assert [e.path for e in door.list(f"{url}n")] == ["/n/a.h5"]
        assert read(door, "n/a.h5") == DATA
        (tmp_path / "b.h5").write_bytes(b"b")
        upload_alone(door, tmp_path / "b.h5", "/new/b.h5")
        move(door, door.stat("/new/b.h5"), "/n/c.h5")
        assert (root / "n/c.h5").read_bytes() == b"b"
        doomed = plan_removal(door, [door.stat("/n"), door.stat("/new")])
        assert all(outcome.ok for batch in remove_all(door, doomed) for outcome in batch)
    assert list(root.iterdir()) == []
