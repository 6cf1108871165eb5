"""The door's operations on real servers. Where one can't do a thing, its quirk is named."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import storedsums
from serverplace import settings_for
from sinkkit import read

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import (
    AlreadyExists,
    CtaflowsError,
    NotFound,
    ProtocolSurprise,
    UsageError,
)
from ctaflows.model import Checksum
from ctaflows.storage.namespace import move, plan_removal, remove_all
from ctaflows.storage.walk import files_below, walk
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.upload import upload

if TYPE_CHECKING:
    from pathlib import Path

    from serverplace import Place

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


def test_list(place: Place, door: WebDAVStorage) -> None:
    place.put("a.h5", DATA)
    place.put("sub/b.h5", b"b")
    found = {e.name: e for e in door.list(place.at)}
    assert set(found) == {"a.h5", "sub"}
    file = found["a.h5"]
    assert (file.path, file.size_bytes, file.is_dir) == (f"{place.at}/a.h5", len(DATA), False)
    assert file.mtime is not None
    assert file.mtime.timestamp() == int((place.folder / "a.h5").stat().st_mtime)
    assert found["sub"].is_dir
    assert found["sub"].size_bytes is None


def test_an_empty_directory_and_a_file_list_right(place: Place, door: WebDAVStorage) -> None:
    (place.folder / "empty").mkdir()
    path = place.put("a.h5", b"x")
    assert list(door.list(f"{place.at}/empty")) == []
    assert [e.path for e in door.list(path)] == [path]


def test_a_large_directory(place: Place, door: WebDAVStorage) -> None:
    for i in range(2000):
        (place.folder / f"{i:04}.h5").write_bytes(b"")
    assert sorted(e.name for e in door.list(place.at)) == [f"{i:04}.h5" for i in range(2000)]


def test_stat(place: Place, door: WebDAVStorage) -> None:
    path = place.put("a.h5", DATA)
    entry = door.stat(path)
    assert (entry.path, entry.size_bytes, entry.is_dir) == (path, len(DATA), False)
    assert door.stat(place.at).is_dir
    assert door.stat(place.at + "/").is_dir
    assert door.stat("/").is_dir


def test_nothing_there(place: Place, door: WebDAVStorage) -> None:
    gone = f"{place.at}/gone"
    assert door.exists(gone) is None
    for ask in (door.stat, door.remove, door.checksums, lambda p: list(door.list(p))):
        with pytest.raises(NotFound):
            ask(gone)


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


@pytest.mark.uploads
def test_put_odd_names(place: Place, door: WebDAVStorage) -> None:
    names = ["a b", "100%", "%41", "a#b", "é–ü", "a;b", "a+b&c=d"]
    for name in names:
        door.put(f"{place.at}/{name}", name.encode())
    assert place.files() == {name: name.encode() for name in names}


@pytest.mark.parametrize(
    ("start", "end"), [(0, 10), (5, 17), (100, None), (len(DATA) - 1, None), (0, len(DATA))]
)
def test_ranges(place: Place, door: WebDAVStorage, start: int, end: int | None) -> None:
    path = place.put("a.h5", DATA)
    assert read(door, path, start=start, end=end) == DATA[start:end]


def test_checksums(place: Place, door: WebDAVStorage) -> None:
    path = place.put("a.h5", DATA)
    said = door.checksums(path)
    if place.server.name == "xrootd":
        assert said == (Checksum("adler32", f"{zlib.adler32(DATA):08x}"),)
    else:  # nginx 1.22 and Apache 2.4 know no Want-Digest
        assert said == ()


def test_mkdir(place: Place, door: WebDAVStorage) -> None:
    new = f"{place.at}/x"
    door.mkdir(new)
    assert (place.folder / "x").is_dir()
    door.mkdir(new, exist_ok=True)
    door.mkdir(f"{place.at}/a/b/c", parents=True)
    assert (place.folder / "a/b/c").is_dir()
    door.mkdir(f"{place.at}/a/b/c", parents=True, exist_ok=True)


def test_mkdir_of_what_is_there(place: Place, door: WebDAVStorage) -> None:
    door.mkdir(f"{place.at}/x")
    if place.server.name == "xrootd":  # XRootD 5.5 answers 201 where the mode is the same
        door.mkdir(f"{place.at}/x")
    else:
        with pytest.raises(AlreadyExists):
            door.mkdir(f"{place.at}/x")
    path = place.put("file", b"x")
    # Apache 2.4 answers 400 to a file's name with a slash
    refused = CtaflowsError if place.server.name == "apache" else AlreadyExists
    with pytest.raises(refused):
        door.mkdir(path, exist_ok=True)
    assert place.files() == {"file": b"x"}


def test_mkdir_without_parents(place: Place, door: WebDAVStorage) -> None:
    if place.server.name == "xrootd":  # XRootD 5.5 makes them unasked
        door.mkdir(f"{place.at}/no/such/dir")
        assert (place.folder / "no/such/dir").is_dir()
    else:
        with pytest.raises(NotFound):
            door.mkdir(f"{place.at}/no/such/dir")
        assert not (place.folder / "no").exists()


def test_move(place: Place, door: WebDAVStorage) -> None:
    one, two = place.put("one", b"1"), place.put("two", b"2")
    door.move(one, f"{place.at}/three")
    assert place.files() == {"three": b"1", "two": b"2"}
    door.move(f"{place.at}/three", two, overwrite=True)
    assert place.files() == {"two": b"1"}
    with pytest.raises(NotFound):
        door.move(one, f"{place.at}/four")
    assert place.files() == {"two": b"1"}


def test_move_does_not_replace_unasked(place: Place, door: WebDAVStorage) -> None:
    one, two = place.put("one", b"1"), place.put("two", b"2")
    with pytest.raises(AlreadyExists):
        door.move(one, two)
    assert place.files() == {"one": b"1", "two": b"2"}


def test_move_into_a_missing_directory(place: Place, door: WebDAVStorage) -> None:
    one = place.put("one", b"1")
    if place.server.name in ("nginx", "xrootd"):  # nginx 1.22 and XRootD 5.5 make it
        door.move(one, f"{place.at}/no/such/one")
        assert place.files() == {"no/such/one": b"1"}
        return
    with pytest.raises(CtaflowsError):  # Apache 2.4 answers 500
        door.move(one, f"{place.at}/no/such/one")
    assert place.files() == {"one": b"1"}


def test_remove(place: Place, door: WebDAVStorage) -> None:
    place.put("b", b"2")
    (place.folder / "empty").mkdir()
    door.remove(place.put("a", b"1"))
    door.delete(f"{place.at}/empty", is_dir=True)
    assert [p.name for p in place.folder.iterdir()] == ["b"]


def test_remove_a_tree(place: Place, door: WebDAVStorage) -> None:
    place.put("x/a", b"a")
    place.put("x/y/b", b"b")
    with pytest.raises(UsageError):
        door.remove(f"{place.at}/x")
    assert set(place.files()) == {"x/a", "x/y/b"}
    doomed = plan_removal(door, [door.stat(f"{place.at}/x")])
    assert all(outcome.ok for batch in remove_all(door, doomed) for outcome in batch)
    assert list(place.folder.iterdir()) == []


def test_put_nothing(place: Place, door: WebDAVStorage) -> None:
    path = place.put("a.h5", b"old")
    door.put(path, b"")
    assert place.files() == {"a.h5": b""}


@pytest.mark.uploads
@pytest.mark.parametrize("data", [b"x", DATA])
def test_put(place: Place, door: WebDAVStorage, data: bytes) -> None:
    door.put(f"{place.at}/a.h5", data)
    assert place.files() == {"a.h5": data}
    door.put(f"{place.at}/a.h5", b"new")
    assert place.files() == {"a.h5": b"new"}


@pytest.mark.uploads
def test_put_into_a_missing_directory(place: Place, door: WebDAVStorage) -> None:
    path = f"{place.at}/no/such/a.h5"
    if place.server.name == "apache":  # mod_dav answers 409, RFC 4918 §9.7.1
        with pytest.raises(CtaflowsError):
            door.put(path, b"x")
        assert not (place.folder / "no").exists()
    else:
        door.put(path, b"x")
        assert place.files() == {"no/such/a.h5": b"x"}


def test_walk(place: Place, door: WebDAVStorage) -> None:
    names = [f"{a}/{b}/{c}.h5" for a in "xyz" for b in "pq" for c in "12"]
    for name in names:
        place.put(name, name.encode())
    (place.folder / "x/empty").mkdir()
    found = [e.path.removeprefix(place.at + "/") for e in files_below(door, place.at)]
    assert sorted(found) == names
    directories = [e.name for e in walk(door, place.at) if e.is_dir]
    assert sorted(directories) == ["empty", *"pppqqqxyz"]


def test_a_file_that_may_not_be_read_is_an_error(place: Place, door: WebDAVStorage) -> None:
    path = f"{place.at}/loop"
    (place.folder / "loop").symlink_to("loop")
    with pytest.raises(CtaflowsError):
        read(door, path)


def test_many_threads_share_a_door(place: Place, door: WebDAVStorage) -> None:
    paths = [place.put(f"{i}", bytes([i]) * 5000) for i in range(40)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda p: read(door, p), paths))
    assert found == [bytes([i]) * 5000 for i in range(40)]


def test_many_threads_make_the_same_directories(place: Place, door: WebDAVStorage) -> None:
    def make(path: str) -> None:
        door.mkdir(path, parents=True, exist_ok=True)

    wanted = [f"{place.at}/{i}/a/b" for i in range(20) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, wanted))
    assert all((place.folder / f"{i}/a/b").is_dir() for i in range(20))


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
        upload(door, tmp_path / "b.h5", "/new/b.h5")
        move(door, door.stat("/new/b.h5"), "/n/c.h5")
        assert (root / "n/c.h5").read_bytes() == b"b"
        doomed = plan_removal(door, [door.stat("/n"), door.stat("/new")])
        assert all(outcome.ok for batch in remove_all(door, doomed) for outcome in batch)
    assert list(root.iterdir()) == []
