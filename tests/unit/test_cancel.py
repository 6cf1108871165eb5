"""Work that is told to end: whom it reaches, and whom not."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from ctaflows import cancel
from ctaflows.errors import Stopped
from ctaflows.storage.listing import ListingPermit, ListingSemaphore
from ctaflows.thread_pool import run_concurrently

DEADLINE_S = 30


def test_all_that_is_heard_is_told_and_nothing_else() -> None:
    heard, other = threading.Event(), threading.Event()
    with cancel.link_child(heard):
        cancel.stop_all()
    assert heard.is_set()
    assert not other.is_set()


def test_what_is_over_is_not_told() -> None:
    over = threading.Event()
    with cancel.link_child(over):
        pass
    cancel.stop_all()
    assert not over.is_set()


def test_what_begins_later_is_not_concerned() -> None:
    before = cancel.current()
    cancel.stop_all()
    assert before.is_set()
    assert not cancel.current().is_set()


def test_work_of_a_stopped_scope_ends_at_once() -> None:
    stop, inner = threading.Event(), threading.Event()
    stop.set()
    with cancel.scope(stop):
        assert cancel.current() is stop
        with cancel.link_child(inner):
            assert inner.is_set()
        with pytest.raises(Stopped):
            run_concurrently(lambda _: pytest.fail("it has begun"), range(3), 2, threading.Event())
    assert cancel.current() is not stop


def test_who_stops_some_work_stops_its_parts_and_no_other() -> None:
    scope, crew, other = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def work(_: int) -> None:
        with cancel.link_child(inner := threading.Event()):
            seen.append(inner)
            cancel.stop_within(scope)

    with cancel.link_child(other), cancel.scope(scope), pytest.raises(Stopped):
        run_concurrently(work, range(3), 1, crew)
    assert crew.is_set()
    assert [inner.is_set() for inner in seen] == [True]
    assert not other.is_set()


def test_what_is_shielded_goes_to_its_end() -> None:
    stop = threading.Event()
    stop.set()
    with cancel.scope(stop), cancel.uncancellable():
        cancel.stop_all()
        assert not cancel.current().is_set()


def test_calls_in_a_crew_hear_of_its_end() -> None:
    stop = threading.Event()
    seen = []

    def work(_: int) -> None:
        seen.append(cancel.current())

    run_concurrently(work, range(3), 2, stop)
    assert seen == [stop] * 3


class Interruption(BaseException):
    """What a signal's handler raises."""


def test_a_signal_that_raises_ends_all_calls_before_it_goes_on() -> None:
    """`Thread.join` forgets a thread that is at work when its wait is interrupted."""
    stop, n_at_work = threading.Event(), []

    def interrupt(*_: object) -> None:
        raise Interruption

    def work(_: int) -> None:
        n_at_work.append(1)
        assert stop.wait(DEADLINE_S)
        time.sleep(0.05)
        n_at_work.pop()

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Interruption):
            run_concurrently(work, range(1), 1, stop)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert n_at_work == []


def test_a_wait_ends_with_the_first_event_or_the_time() -> None:
    first, second = threading.Event(), threading.Event()
    assert not cancel.wait(0.01, first, second)
    second.set()
    assert cancel.wait(DEADLINE_S, first, second)
    assert cancel.wait(DEADLINE_S, second)


def test_many_threads_come_and_go_while_all_is_stopped() -> None:
    """A signal handler may stop all at any moment, and takes no lock."""
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with cancel.link_child(threading.Event()):
                pass

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        cancel.stop_all()
    over.set()
    for thread in threads:
        thread.join()


def test_who_waits_for_a_listing_slot_is_told() -> None:
    slots, failures = ListingSemaphore(1), []
    slots.acquire(ListingPermit())
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        try:
            slots.acquire(ListingPermit())
        except Stopped as why:
            failures.append(why)

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(DEADLINE_S)
    while thread.is_alive():  # it may not wait yet when it is first told
        cancel.stop_all()
        thread.join(0.05)
    assert failures
