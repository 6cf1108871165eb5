"""Listing, describing, making, moving and removing: alike at every storage, whatever its ways."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ctaflows import tasks
from ctaflows.errors import AlreadyExists, CtaflowsError, NotFound, UsageError
from ctaflows.storage.walk import walk

if TYPE_CHECKING:
    from targets import Place
    from ways import Ways

    from ctaflows.storage.protocol import Storage

DATA = bytes(range(256)) * 40
#: The greatest clock difference between this machine and a storage's that a site would bear.
CLOCKS = timedelta(hours=1)


@pytest.fixture
def changing(storage: Storage) -> None:
    """Skips a test of what a download service refuses, see `test_what_it_can_not_is_said`."""
    if not storage.can_rename:
        pytest.skip(f"the {storage.title} makes no directories, moves and removes nothing")


# -- looking ---------------------------------------------------------------------------------------


def test_a_listing_tells_name_size_kind_and_time(place: Place) -> None:
    place.put("a.h5", DATA)
    place.put("sub/b.h5", b"b")
    found = {entry.name: entry for entry in place.storage.list(place.at)}
    assert set(found) == {"a.h5", "sub"}
    file = found["a.h5"]
    assert (file.path, file.size_bytes, file.is_dir) == (f"{place.at}/a.h5", len(DATA), False)
    assert file.mtime is not None
    assert abs(datetime.now(UTC) - file.mtime) < CLOCKS
    assert (found["sub"].is_dir, found["sub"].size_bytes) == (True, None)


@pytest.mark.usefixtures("changing")
def test_an_empty_directory_lists_nothing(place: Place) -> None:
    assert list(place.storage.list(place.at)) == []


def test_a_file_lists_itself(place: Place) -> None:
    path = place.put("a.h5")
    assert [entry.path for entry in place.storage.list(path)] == [path]


def test_a_path_is_described(place: Place) -> None:
    path = place.put("a.h5", DATA)
    entry = place.storage.stat(path)
    assert (entry.path, entry.size_bytes, entry.is_dir) == (path, len(DATA), False)
    assert place.storage.exists(path) == entry
    for directory in (place.at, f"{place.at}/"):
        assert (place.storage.stat(directory).path, place.storage.stat(directory).is_dir) == (
            place.at, True,
        )  # fmt: skip


def test_a_file_tells_its_checksums_by_one_of_the_ways(place: Place, ways: Ways) -> None:
    entry = tasks.stat(place.put("a.h5", DATA))
    told = {checksum.algorithm for checksum in entry.checksums}
    assert told <= set(ways.checksums)
    assert bool(told) is bool(ways.checksums)


def test_nothing_there_is_not_found(place: Place) -> None:
    place.put("a.h5")
    gone = f"{place.at}/gone"
    assert place.storage.exists(gone) is None
    for ask in (place.storage.stat, lambda path: list(place.storage.list(path))):
        with pytest.raises(NotFound):
            ask(gone)


@pytest.mark.usefixtures("changing")
def test_nothing_there_is_not_removed_moved_or_measured(place: Place) -> None:
    gone = f"{place.at}/gone"
    for ask in (place.storage.remove, place.storage.checksums):
        with pytest.raises(NotFound):
            ask(gone)
    with pytest.raises(NotFound):
        place.storage.move(gone, f"{place.at}/elsewhere")


def test_a_directory_of_many_files(place: Place) -> None:
    names = [f"{i:02}.h5" for i in range(30)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: place.put(name, b""), names))
    found = [*place.storage.list(place.at)]
    assert sorted(entry.name for entry in found) == names
    assert {entry.size_bytes for entry in found} == {0}


def test_a_tree_is_walked(place: Place) -> None:
    names = [f"{a}/{b}/{c}.h5" for a in "xy" for b in "pq" for c in "1"]
    for name in names:
        place.put(name)
    assert place.names() == names
    directories = [entry.name for entry in walk(place.storage, place.at) if entry.is_dir]
    assert sorted(directories) == [*"ppqqxy"]


# -- changing --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("changing")
def test_a_directory_is_made_with_its_parents(place: Place) -> None:
    place.storage.mkdir(f"{place.at}/a/b/c", parents=True)
    assert [e.path for e in walk(place.storage, place.at)] == [
        f"{place.at}/a", f"{place.at}/a/b", f"{place.at}/a/b/c",
    ]  # fmt: skip
    place.storage.mkdir(f"{place.at}/a/b/c", parents=True, exist_ok=True)


@pytest.mark.usefixtures("changing")
def test_a_directory_that_is_there_is_not_made_again_unasked(place: Place, ways: Ways) -> None:
    place.storage.mkdir(f"{place.at}/x")
    place.storage.mkdir(f"{place.at}/x", exist_ok=True)
    if ways.mkcol_again == "201":  # the server does not tell
        place.storage.mkdir(f"{place.at}/x")
    else:
        with pytest.raises(AlreadyExists):
            place.storage.mkdir(f"{place.at}/x")


@pytest.mark.usefixtures("changing")
def test_no_directory_takes_a_file_s_place(place: Place, ways: Ways) -> None:
    path = place.put("file")
    refused = AlreadyExists if ways.mkcol_onto_file == "405" else CtaflowsError
    with pytest.raises(refused):
        place.storage.mkdir(path, exist_ok=True)
    assert place.files() == {"file": b"x"}


@pytest.mark.usefixtures("changing")
def test_a_directory_without_its_parent_is_not_found(place: Place, ways: Ways) -> None:
    new = f"{place.at}/no/such/dir"
    if ways.mkcol_into_missing == "201":  # the server makes it unasked
        place.storage.mkdir(new)
        assert place.storage.stat(new).is_dir
    else:
        with pytest.raises(NotFound):
            place.storage.mkdir(new)
        assert place.storage.exists(f"{place.at}/no") is None


@pytest.mark.usefixtures("changing")
def test_many_threads_make_the_same_directories(place: Place) -> None:
    wanted = [f"{place.at}/{i}/a" for i in range(2) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda p: place.storage.mkdir(p, parents=True, exist_ok=True), wanted))
    made = [entry.path for entry in walk(place.storage, place.at) if entry.name == "a"]
    assert sorted(made) == sorted(set(wanted))


@pytest.mark.usefixtures("changing")
def test_a_file_is_moved(place: Place) -> None:
    one, two = place.put("one", b"1"), place.put("two", b"2")
    place.storage.move(one, f"{place.at}/three")
    assert place.files() == {"three": b"1", "two": b"2"}
    place.storage.move(f"{place.at}/three", two, overwrite=True)
    assert place.files() == {"two": b"1"}


@pytest.mark.usefixtures("changing")
def test_a_directory_is_moved_with_what_is_in_it(place: Place, ways: Ways) -> None:
    place.put("from/sub/a", b"1")
    if ways.move_directory == "400":
        with pytest.raises(CtaflowsError):
            tasks.move(f"{place.at}/from", f"{place.at}/to")
        assert place.files() == {"from/sub/a": b"1"}
    else:
        assert tasks.move(f"{place.at}/from", f"{place.at}/to") == f"{place.at}/to"
        assert place.files() == {"to/sub/a": b"1"}


@pytest.mark.usefixtures("changing")
def test_a_move_replaces_nothing_unasked(place: Place) -> None:
    one, two = place.put("one", b"1"), place.put("two", b"2")
    with pytest.raises(AlreadyExists):
        place.storage.move(one, two)
    assert place.files() == {"one": b"1", "two": b"2"}


@pytest.mark.usefixtures("changing")
def test_a_move_into_a_missing_directory_loses_nothing(place: Place, ways: Ways) -> None:
    one = place.put("one", b"1")
    if (ways.move_into_missing or "").endswith("done"):  # the server makes it
        place.storage.move(one, f"{place.at}/no/such")
        assert place.files() == {"no/such": b"1"}
    else:
        with pytest.raises(CtaflowsError):
            place.storage.move(one, f"{place.at}/no/such")
        assert place.files() == {"one": b"1"}


@pytest.mark.usefixtures("changing")
def test_a_file_is_removed_and_a_directory_is_not(place: Place) -> None:
    path = place.put("x/a")
    place.put("x/b", b"b")
    place.storage.remove(path)
    with pytest.raises(UsageError):
        place.storage.remove(f"{place.at}/x")
    assert place.files() == {"x/b": b"b"}


@pytest.mark.usefixtures("changing")
def test_a_tree_is_removed_as_it_was_shown(place: Place) -> None:
    place.put("x/a")
    place.put("x/y/b")
    place.put("other")
    results = tasks.remove(f"{place.at}/x", recursive=True)
    assert all(result.ok for result in results)
    assert [r.path.removeprefix(f"{place.at}/") for r in results] == ["x/a", "x/y/b", "x/y", "x"]
    assert [entry.name for entry in place.storage.list(place.at)] == ["other"]
