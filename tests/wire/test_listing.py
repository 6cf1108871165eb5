"""Listings over sockets: few at a time, taken up again, ended when they are to end."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from commands import ctaflows

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import ListingUnreadable, NetworkError, Refused, Stopped
from ctaflows.storage.walk import files_below, walk
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.tasks import list_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

DEADLINE_S = 60


@pytest.fixture
def door(box: Sandbox) -> Iterator[WebDAVStorage]:
    with open_door(box) as door:
        yield door


@contextlib.contextmanager
def open_door(box: Sandbox, **changes: Any) -> Iterator[WebDAVStorage]:
    settings = box.settings(**changes)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        yield door


def fill(box: Sandbox, n_dirs: int, n_files: int, above: str = "/t") -> set[str]:
    paths = set()
    for d in range(n_dirs):
        folder = box.storage / above.strip("/") / f"d{d:03}"
        folder.mkdir(parents=True)
        paths.add(f"{above}/d{d:03}")
        for f in range(n_files):
            (folder / f"f{f:03}").write_bytes(b"x")
            paths.add(f"{above}/d{d:03}/f{f:03}")
    return paths


def helpers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "ctaflows-listing"]


def wait_for(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Counter:
    """How many listings are open at the same time, from the request to the end of the answer."""

    def __init__(self, door: WebDAVStorage) -> None:
        self.now = self.most = self.n_all = 0
        self._lock = threading.Lock()
        self._listing = door._lister._listing
        door._lister._listing = self.listing  # type: ignore[method-assign]

    def listing(self, url: str, sink: Any) -> Any:
        with self._lock:
            self.now += 1
            self.n_all += 1
            self.most = max(self.most, self.now)
        try:
            return (yield from self._listing(url, sink))
        finally:
            with self._lock:
                self.now -= 1


def test_a_walk_finds_all_and_lists_each_directory_once(box: Sandbox, door: WebDAVStorage) -> None:
    paths = fill(box, 12, 5)
    counter = Counter(door)
    assert {e.path for e in walk(door, "t")} == paths
    assert counter.n_all == 13
    assert counter.most == 2
    assert not helpers()


@pytest.mark.parametrize("listings", [1, 2, 3])
def test_all_that_use_a_door_share_its_listings(box: Sandbox, listings: int) -> None:
    paths = fill(box, 6, 3)
    with open_door(box, listings=listings) as door:
        counter = Counter(door)
        found: list[set[str]] = []

        def work() -> None:
            found.append({e.path for e in walk(door, "t")})

        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert found == [paths] * 5
        assert counter.most == listings


def test_listing_while_listing(box: Sandbox) -> None:
    """A consumer that lists for each entry, deeper than there are slots, waits not for itself."""
    fill(box, 3, 3)
    with open_door(box, listings=1) as door:
        found = [
            inner.path
            for outer in door.list("t")
            for middle in walk(door, outer.path)
            for inner in door.list(middle.path)
        ]
    assert sorted(found) == [f"/t/d{d:03}/f{f:03}" for d in range(3) for f in range(3)]


def test_consumers_that_stay_away_give_way(box: Sandbox, door: WebDAVStorage) -> None:
    paths = fill(box, 4, 60)
    away = [door.list("t/d000"), door.list("t/d001"), walk(door, "t/d002")]
    for entries in away:
        next(entries)
    assert {e.path for e in walk(door, "t")} == paths
    assert [len(list(entries)) for entries in away] == [59] * 3


def test_a_walk_that_is_left_early_leaves_nothing(box: Sandbox, door: WebDAVStorage) -> None:
    fill(box, 20, 20)
    counter = Counter(door)
    entries = walk(door, "t")
    for _ in range(25):
        next(entries)
    entries.close()
    assert not helpers()
    assert counter.now == 0
    assert counter.n_all < 21
    assert len(list(door.list("t"))) == 20


def test_a_door_that_falls_silent_does_not_hold_up_the_end(box: Sandbox) -> None:
    fill(box, 6, 2)
    with open_door(box, listing_timeout_s=5.0, attempts=1) as door:
        for directory in [e.path for e in door.list("t")][2:]:
            how = {"method": "PROPFIND", "path": f"{directory}*", "hang_s": DEADLINE_S}
            box.faults.add("hang", times=None, **how)
        entries = walk(door, "t")
        for _ in range(7):
            next(entries)
        began = time.monotonic()
        entries.close()
        assert time.monotonic() - began < 4.5, "the end waited for the silent door"
        wait_for(lambda: not helpers())


def test_a_listing_may_take_longer_to_begin_than_a_file(box: Sandbox) -> None:
    fill(box, 2, 1)
    box.faults.add("hang", times=1, method="PROPFIND", hang_s=2.0)
    with open_door(box, stall_timeout_s=0.5, listing_timeout_s=60, attempts=1) as door:
        with pytest.raises(NetworkError) as why:
            list(door.list("t"))
        assert "silent" not in str(why.value), "the door ended it, not we"
    box.faults.add("hang", times=1, method="PROPFIND", hang_s=DEADLINE_S)
    impatient = {"stall_timeout_s": 60, "listing_timeout_s": 0.5, "attempts": 1}
    with open_door(box, **impatient) as door, pytest.raises(NetworkError, match="silent"):
        list(door.list("t"))


def test_an_error_below_is_raised_and_the_rest_stopped(box: Sandbox) -> None:
    fill(box, 30, 2)
    box.faults.add("403", times=None, method="PROPFIND", path="/t/d001*")
    with open_door(box) as door:
        counter = Counter(door)
        found = []

        def consume() -> None:
            for entry in walk(door, "t", ordered=True):
                found.append(entry.path)  # noqa: PERF401  what came before the error counts

        with pytest.raises(Refused):
            consume()
        assert found[30:] == ["/t/d000/f000", "/t/d000/f001"]
        wait_for(lambda: not helpers())
        assert counter.now == 0
        assert counter.n_all < 31


def test_directories_that_show_nothing_are_told(box: Sandbox, door: WebDAVStorage) -> None:
    fill(box, 2, 1)
    (box.storage / "t/empty").mkdir()
    fill(box, 1, 1, "/t/secret")
    box.deny("/t/secret")
    doubtful: list[str] = []
    found = {e.path for e in walk(door, "t", on_empty=doubtful.append)}
    assert {"/t/secret", "/t/empty"} < found
    assert sorted(doubtful) == ["/t/empty", "/t/secret"]
    assert not any(p.startswith("/t/secret/") for p in found)


def test_an_empty_directory_that_is_removed_meanwhile_is_no_failure(
    box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (box.storage / "t/gone").mkdir(parents=True)
    box.put("/t/b.h5", b"x")
    asked = WebDAVStorage.confirm_empty

    def removed(self: WebDAVStorage, path: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            (box.storage / path.strip("/")).rmdir()
        return asked(self, path)

    monkeypatch.setattr(WebDAVStorage, "confirm_empty", removed)
    done = ctaflows("ls", "-r", "t")
    assert (done.code, done.out.split()) == (0, ["b.h5", "gone/"])
    (box.storage / "t/gone").mkdir()
    tree = list_tree("t")
    assert (list(tree.empty), list(tree.unread)) == (["gone"], [])
    (box.storage / "t/gone").mkdir()
    done = ctaflows("rm", "-r", "-y", "t")
    assert done.code == 0, done.err
    assert not (box.storage / "t").exists()


def test_left_out_directories_are_not_asked_for(box: Sandbox, door: WebDAVStorage) -> None:
    fill(box, 3, 2)
    fill(box, 2, 2, "/t/datacheck")
    found = list(files_below(door, "t", exclude=["datacheck", "d001"]))
    assert [e.path for e in found] == [
        "/t/d000/f000", "/t/d000/f001", "/t/d002/f000", "/t/d002/f001",
    ]  # fmt: skip
    asked = {r.path.rstrip("/") for r in box.requests if r.method == "PROPFIND"}
    assert asked == {"/t", "/t/d000", "/t/d002"}


@pytest.mark.parametrize("fault", ["reset", "truncate"])
def test_listings_that_break_off_go_on_in_a_walk(
    box: Sandbox, door: WebDAVStorage, fault: str
) -> None:
    paths = fill(box, 8, 40)
    box.faults.add(fault, times=4, method="PROPFIND", path="/t/d00*")
    found = [e.path for e in walk(door, "t")]
    assert len(found) == len(paths)
    assert set(found) == paths


def test_a_listing_that_is_told_to_stop(box: Sandbox, door: WebDAVStorage) -> None:
    fill(box, 1, 5000)
    stop = threading.Event()
    batches = door.batches("t/d000", stop=stop)
    next(batches)
    stop.set()
    with pytest.raises(Stopped):
        list(batches)
    with pytest.raises(Stopped):
        list(door.batches("t/d000", stop=stop))
    assert len(list(door.list("t/d000"))) == 5000


@pytest.mark.parametrize("fault", ["garbage_xml", "empty207"])
def test_a_broken_listing_below_is_never_an_empty_one(
    box: Sandbox, door: WebDAVStorage, fault: str
) -> None:
    fill(box, 3, 1)
    box.faults.add(fault, times=None, method="PROPFIND", path="/t/d001*")
    doubtful: list[str] = []
    if fault == "garbage_xml":
        with pytest.raises(ListingUnreadable):
            list(walk(door, "t", on_empty=doubtful.append))
    else:
        list(walk(door, "t", on_empty=doubtful.append))
        assert doubtful == ["/t/d001"]
