"""Listing, describing, making, moving and removing: alike at every storage, whatever its ways."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sinkkit import read
from targets import DATA

from ctaflows import tasks
from ctaflows.errors import AlreadyExists, CtaflowsError, NotFound, UsageError
from ctaflows.storage.walk import walk

if TYPE_CHECKING:
    from targets import Place
    from ways import Ways

    from ctaflows.storage.protocol import Storage

SIZE = 10_000
#: The greatest clock difference between this machine and a storage's that a site would bear.
CLOCKS = timedelta(hours=1)


@pytest.fixture
def changing(storage: Storage) -> None:
    """Skips a test of what a download service refuses, see `test_what_it_can_not_is_said`."""
    if not storage.can_rename:
        pytest.skip(f"the {storage.title} makes no directories, moves and removes nothing")


# -- looking ---------------------------------------------------------------------------------------


def test_a_listing_tells_name_size_kind_and_time(shelf: Place) -> None:
    path = shelf.kept(SIZE)
    file = next(entry for entry in shelf.storage.list(shelf.at) if entry.path == path)
    assert (file.name, file.size_bytes, file.is_dir) == (f"{SIZE}.h5", SIZE, False)
    assert file.mtime is not None
    assert abs(datetime.now(UTC) - file.mtime) < CLOCKS


def test_a_file_lists_itself(shelf: Place) -> None:
    path = shelf.kept(SIZE)
    assert [entry.path for entry in shelf.storage.list(path)] == [path]


def test_a_path_is_described(shelf: Place) -> None:
    path = shelf.kept(SIZE)
    entry = shelf.storage.stat(path)
    assert (entry.path, entry.size_bytes, entry.is_dir) == (path, SIZE, False)
    assert shelf.storage.exists(path) == entry
    for directory in (shelf.at, f"{shelf.at}/"):
        there = shelf.storage.stat(directory)
        assert (there.path, there.is_dir) == (shelf.at, True)


def test_a_file_tells_its_checksums_by_one_of_the_ways(shelf: Place, ways: Ways) -> None:
    entry = tasks.stat(shelf.kept(SIZE))
    told = {checksum.algorithm for checksum in entry.checksums}
    assert told <= set(ways.checksums)
    assert bool(told) is bool(ways.checksums)


def test_nothing_there_is_not_found(shelf: Place) -> None:
    shelf.kept(SIZE)  # so that a download service has the directory
    gone = f"{shelf.at}/gone"
    assert shelf.storage.exists(gone) is None
    for ask in (shelf.storage.stat, lambda path: list(shelf.storage.list(path))):
        with pytest.raises(NotFound):
            ask(gone)


@pytest.mark.usefixtures("changing")
def test_nothing_there_is_not_removed_moved_or_measured(shelf: Place) -> None:
    gone = f"{shelf.at}/gone"
    for ask in (shelf.storage.remove, shelf.storage.checksums):
        with pytest.raises(NotFound):
            ask(gone)
    with pytest.raises(NotFound):
        shelf.storage.move(gone, f"{shelf.at}/elsewhere")


# -- changing --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("changing")
def test_many_threads_make_the_same_directories(place: Place, ways: Ways) -> None:
    """Their parents too; what is there is not made again unasked."""
    a = f"{place.at}/a"
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda p: place.storage.mkdir(p, parents=True, exist_ok=True), [a] * 3))
    assert [entry.path for entry in walk(place.storage, place.at)] == [a]
    if ways.mkcol_again == "201":  # the server does not tell
        place.storage.mkdir(a)
    else:
        with pytest.raises(AlreadyExists):
            place.storage.mkdir(a)
    assert list(place.storage.list(a)) == []


@pytest.mark.usefixtures("changing")
def test_no_directory_takes_a_file_s_place(shelf: Place, ways: Ways) -> None:
    path = shelf.kept(SIZE)
    refused = AlreadyExists if ways.mkcol_onto_file == "405" else CtaflowsError
    with pytest.raises(refused):
        shelf.storage.mkdir(path, exist_ok=True)
    assert read(shelf.storage, path) == DATA[:SIZE]


@pytest.mark.usefixtures("changing")
def test_a_directory_without_its_parent_is_not_found(place: Place, ways: Ways) -> None:
    new = f"{place.at}/dir"
    if ways.mkcol_into_missing == "201":  # the server makes it unasked
        place.storage.mkdir(new)
        assert place.storage.stat(new).is_dir
    else:
        with pytest.raises(NotFound):
            place.storage.mkdir(new)
        assert place.storage.exists(place.at) is None


@pytest.mark.usefixtures("changing")
def test_a_move_replaces_nothing_unasked(place: Place) -> None:
    one, two = place.put("one", b"1"), place.put("two", b"2")
    with pytest.raises(AlreadyExists):
        place.storage.move(one, two)
    assert read(place.storage, two) == b"2"
    place.storage.move(one, f"{place.at}/three")
    place.storage.move(f"{place.at}/three", two, overwrite=True)
    assert place.files() == {"two": b"1"}


@pytest.mark.usefixtures("changing")
def test_a_directory_is_moved_with_what_is_in_it(place: Place, ways: Ways) -> None:
    place.put("from/a", b"1")
    if ways.move_directory == "400":
        with pytest.raises(CtaflowsError):
            tasks.move(f"{place.at}/from", f"{place.at}/to")
        assert place.files() == {"from/a": b"1"}
    else:
        assert tasks.move(f"{place.at}/from", f"{place.at}/to") == f"{place.at}/to"
        assert place.files() == {"to/a": b"1"}


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


def test_a_tree_is_walked_and_removed_as_it_was_shown(place: Place) -> None:
    for name in ("other", "x/a", "x/y/b"):
        place.put(name, b"1")
    found = {e.path.removeprefix(f"{place.at}/"): e for e in walk(place.storage, place.at)}
    assert {name: (e.name, e.is_dir, e.size_bytes) for name, e in found.items()} == {
        "other": ("other", False, 1),
        "x": ("x", True, None),
        "x/a": ("a", False, 1),
        "x/y": ("y", True, None),
        "x/y/b": ("b", False, 1),
    }
    if not place.storage.can_remove:
        return
    place.storage.remove(f"{place.at}/x/y/b")
    with pytest.raises(UsageError):
        place.storage.remove(f"{place.at}/x")
    results = tasks.remove(f"{place.at}/x", recursive=True)
    assert all(result.ok for result in results)
    assert [r.path.removeprefix(f"{place.at}/") for r in results] == ["x/a", "x/y", "x"]
    assert place.files() == {"other": b"1"}
