"""Requests, listings and walks in other threads end soon after all work was stopped."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows import cancel
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import NetworkError, Stopped
from ctaflows.sandbox import faults
from ctaflows.storage.walk import walk
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.uploads import upload_many
from ctaflows.transport import driver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

#: Far less than what is waited for, and more than a busy machine needs.
SOON_S = 15.0
LONG_S = 60


def stopped(work: Callable[[], Any], is_waiting: Callable[[], bool]) -> BaseException | None:
    """Begin work in a thread, stop all when it waits, and give what it raised."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            raised.append(None)
        except BaseException as why:
            raised.append(why)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 30
    while not is_waiting():
        assert time.monotonic() < deadline, "it does not wait"
        assert thread.is_alive(), raised
        time.sleep(0.005)
    began = time.monotonic()
    cancel.stop_all()
    thread.join(LONG_S)
    seconds = time.monotonic() - began
    assert seconds < SOON_S, f"{seconds:.1f} s"
    return raised[0]


def n_asked(box: Sandbox, method: str) -> int:
    return [request.method for request in box.requests].count(method)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a request that is not answered has come in, and the client waits for its answer."""
    begun, waits = threading.Event(), threading.Event()
    real, look, wait = faults.response_instead, cancel.raise_if_cancelled, driver._Run._wait

    def instead(*args: Any) -> Any:
        begun.set()
        return real(*args)

    def looking(*args: Any) -> None:
        if begun.is_set():  # it knows by now which event ends the wait
            waits.set()
        look(*args)

    def waiting(*args: Any) -> None:
        if begun.is_set():
            waits.set()
        wait(*args)

    monkeypatch.setattr(faults, "response_instead", instead)
    monkeypatch.setattr(cancel, "raise_if_cancelled", looking)
    monkeypatch.setattr(driver._Run, "_wait", waiting)
    return waits


def test_a_pause_before_the_next_try(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a", b"x")
    box.faults.add("503", times=None, retry_after_s=LONG_S)
    why = stopped(lambda: door.checksums("/a"), lambda: n_asked(box, "HEAD") > 0)
    assert isinstance(why, Stopped)


def test_a_pause_before_something_is_changed(box: Sandbox, door: WebDAVStorage) -> None:
    box.faults.add("429", times=None, method="MKCOL", retry_after_s=LONG_S)
    why = stopped(lambda: door.mkdir("/new"), lambda: n_asked(box, "MKCOL") > 0)
    assert isinstance(why, Stopped)


def test_a_listing_of_a_silent_door(box: Sandbox, silent: threading.Event) -> None:
    box.put("/d/a", b"x")
    settings = box.settings(listing_timeout_s=2 * LONG_S)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        box.faults.add("hang", times=None, method="PROPFIND", hang_s=2 * LONG_S)
        why = stopped(lambda: list(door.list("/d")), silent.is_set)
    assert isinstance(why, Stopped)


def test_a_walk_whose_reader_takes_its_time(box: Sandbox, door: WebDAVStorage) -> None:
    for n in range(20):
        box.put(f"/tree/{n:02}/a", b"x")
    seen: list[str] = []
    first, go_on = threading.Event(), threading.Event()

    def work() -> None:
        for entry in walk(door, "/tree"):
            seen.append(entry.path)
            first.set()
            assert go_on.wait(30)

    def is_waiting() -> bool:
        return first.is_set()

    stopper = threading.Timer(0.2, go_on.set)
    stopper.start()
    why = stopped(work, is_waiting)
    stopper.join()
    assert isinstance(why, Stopped)
    assert len(seen) < 40


def test_an_answer_to_a_change_is_waited_for(box: Sandbox, silent: threading.Event) -> None:
    """It may hold what is lost with it, such as the next refresh token."""
    settings = box.settings(attempts=1, stall_timeout_s=2 * LONG_S)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        box.put("/a", b"x")
        door.stat("/a")
        box.faults.add("hang", times=1, method="MOVE", hang_s=2.0)
        why = stopped(lambda: door.move("/a", "/b"), silent.is_set)
    assert isinstance(why, NetworkError), why


@pytest.mark.parametrize("size_bytes", [50_000, 3_000_000])
def test_an_upload_leaves_nothing_behind(
    box: Sandbox, door: WebDAVStorage, tmp_path: Path, silent: threading.Event, size_bytes: int
) -> None:
    source = tmp_path / "a.h5"
    source.write_bytes(b"x" * size_bytes)
    box.faults.add("lost", times=None, server="pool", method="PUT")  # all arrives, unheard
    box.faults.add("429", times=1, server="door", method="DELETE", retry_after_s=1)
    why = stopped(lambda: upload_many(door, [(source, "/a.h5")]), silent.is_set)
    assert isinstance(why, Stopped)
    assert not [p for p in box.storage.rglob("*") if p.is_file()]
