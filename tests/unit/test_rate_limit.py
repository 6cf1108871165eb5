"""How many at once, and how fast."""

from __future__ import annotations

import threading

import click
import pytest
from hypothesis import strategies as st

from ctaflows import cancel, thread_pool
from ctaflows.cli.options import Rate
from ctaflows.errors import Stopped, UsageError
from ctaflows.thread_pool import ConcurrencyController, run_concurrently
from ctaflows.transfer import progress

DEADLINE_S = 60
MIB = 1 << 20
SIZES = st.integers(0, 1 << 42) | st.integers(0, 600 * MIB)


class Clock:
    """A clock that only a wait moves."""

    def __init__(self) -> None:
        self.now, self.naps = 1000.0, []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress.cancel, "wait", lambda seconds, *_: clock.sleep(seconds))
    return clock


def test_bytes_take_as_long_as_the_rate_says(clock: Clock) -> None:
    limit = progress.RateLimiter(1000.0)
    for _ in range(50):
        limit.consume(100)
    assert clock.now == pytest.approx(1005.0)
    assert clock.naps == pytest.approx([0.1] * 50)


def test_all_that_come_at_once_queue_up(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "sleep", clock.naps.append)  # each sleeps in a thread of its own
    limit = progress.RateLimiter(1000.0)
    for _ in range(4):
        limit.consume(500)
    assert clock.naps == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_a_stream_that_is_slow_anyway_does_not_wait(clock: Clock) -> None:
    limit = progress.RateLimiter(1000.0)
    for _ in range(10):
        clock.now += 0.2
        limit.consume(100)
    assert clock.naps == []


def test_a_long_pause_saves_up_little(clock: Clock) -> None:
    limit = progress.RateLimiter(1000.0)
    clock.now += 3600
    limit.consume(10_000)
    assert clock.naps == [pytest.approx(9.5)]


def test_a_stop_ends_the_wait() -> None:
    stop, limit = threading.Event(), progress.RateLimiter(1.0)
    stop.set()
    with cancel.scope(stop):
        limit.consume(1000)  # would take a quarter of an hour


def test_without_a_limit_nothing_waits(clock: Clock) -> None:
    progress.RateLimiter().consume(1 << 60)
    progress.rate_limiter().consume(1 << 60)
    assert clock.naps == []


def test_a_limit_holds_within_and_is_shared_by_threads(clock: Clock) -> None:
    before = progress.rate_limiter()
    with progress.limited_to(1000.0):
        run_concurrently(
            lambda _: progress.rate_limiter().consume(500), range(8), 4, threading.Event()
        )
        assert sum(clock.naps) >= 4.0
        with progress.limited_to(None):
            n_naps = len(clock.naps)
            progress.rate_limiter().consume(1 << 60)
            assert len(clock.naps) == n_naps
    assert progress.rate_limiter() is before


@pytest.mark.parametrize(
    ("text", "rate"),
    [("50M", 5e7), ("500k", 5e5), ("500K", 5e5), ("1G", 1e9), ("1.5M", 1.5e6), ("123", 123.0),
     ("50MB", 5e7), ("50MB/s", 5e7), ("50M/s", 5e7), (" 7k ", 7e3), (1000, 1000.0), (2.5, 2.5)],
)  # fmt: skip
def test_rates(text: object, rate: float) -> None:
    assert Rate().convert(text, None, None) == rate


@pytest.mark.parametrize(
    "text", ["", "M", "fast", "0", "-5M", "nan", "inf", "1e400", "0.5", "5T", "5 M M", "5Mb"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a rate such as 50M"):
        Rate().convert(text, None, None)


@pytest.mark.parametrize("n_threads", [1, 3, 100])
def test_all_results_in_order(n_threads: int) -> None:
    items = list(range(50))
    assert run_concurrently(lambda n: n * n, items, n_threads, threading.Event()) == [
        n * n for n in items
    ]
    assert run_concurrently(lambda n: n, [], n_threads, threading.Event()) == []


def test_an_error_ends_the_rest_and_is_raised() -> None:
    stop = threading.Event()
    done: list[int] = []

    def work(n: int) -> None:
        if n == 3:
            raise ValueError("third")
        done.append(n)

    with pytest.raises(ValueError, match="third"):
        run_concurrently(work, range(1000), 1, stop)
    assert done == [0, 1, 2]
    assert stop.is_set()


def test_the_first_error_is_raised_and_what_runs_ends_first() -> None:
    stop, ended = threading.Event(), []
    both = threading.Barrier(2, timeout=DEADLINE_S)

    def work(n: int) -> None:
        both.wait()
        if n == 0:
            raise ValueError("first")
        assert stop.wait(DEADLINE_S)
        ended.append(n)
        raise ValueError("second")

    with pytest.raises(ValueError, match="first"):
        run_concurrently(work, range(2), 2, stop)
    assert ended == [1]


@pytest.mark.parametrize("n_threads", [0, 1, 2])
def test_where_no_more_threads_can_be_started_those_there_are_do_the_work(
    monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    left, begin = iter(range(n_threads)), threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    done_by: set[int] = set()

    def work(n: int) -> int:
        done_by.add(threading.get_ident())
        return -n

    found = run_concurrently(work, range(100), 8, threading.Event())
    assert found == [-n for n in range(100)]
    assert len(done_by) <= max(1, n_threads)
    assert (threading.get_ident() in done_by) is (n_threads == 0)


def test_a_thread_without_which_nothing_can_be_done_is_asked_for_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(UsageError, match="can't start new thread") as caught:
        thread_pool.start(threading.Thread(target=print))
    assert "ulimit" in (caught.value.hint or "")


def test_a_stop_is_told() -> None:
    stop = threading.Event()
    done: list[int] = []

    def work(n: int) -> None:
        done.append(n)
        if n == 2:
            stop.set()

    with pytest.raises(Stopped):
        run_concurrently(work, range(1000), 1, stop)
    assert done == [0, 1, 2]


def test_all_work_can_be_stopped_at_once() -> None:
    begun = threading.Event()

    def work(_: int) -> None:
        begun.set()
        assert stop.wait(DEADLINE_S)

    stop = threading.Event()
    stopper = threading.Thread(target=lambda: begun.wait(DEADLINE_S) and thread_pool.stop_all())
    stopper.start()
    with pytest.raises(Stopped):
        run_concurrently(work, range(3), 2, stop)
    stopper.join()


@pytest.mark.parametrize(
    ("busy", "most", "expected"),
    [
        ([0.0] * 3, 8, [2, 8, 8]),
        ([0.19] * 3, 8, [2, 8, 8]),
        ([0.21] * 5, 8, [2, 4, 8, 8, 8]),
        ([0.3] * 4, 5, [2, 4, 5, 5]),
        ([1.0] * 4, 8, [2, 2, 2, 2]),
        ([1.9] * 3, 8, [2, 2, 2]),
        ([0.0, 0.7, 0.5, 0.7], 16, [2, 2, 4, 4]),
        ([0.0] * 2, 1, [1, 1]),
    ],
)
def test_threads_are_added_only_where_the_process_is_idle(
    monkeypatch: pytest.MonkeyPatch, busy: list[float], most: int, expected: list[int]
) -> None:
    now = {"cpu": 5.0, "clock": 100.0}
    monkeypatch.setattr(thread_pool.time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(thread_pool.time, "thread_time", lambda: 0.25)
    monkeypatch.setattr(thread_pool.time, "monotonic", lambda: now["clock"])
    pace, n_now, seen = ConcurrencyController(most), 0, []
    for share in busy:
        now["clock"] += 0.021
        now["cpu"] += 0.021 * share
        n_now = pace.n_wanted(n_now)
        seen.append(n_now)
    assert seen == expected


def test_what_the_caller_does_meanwhile_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"cpu": 5.0, "own": 0.25, "clock": 100.0}
    monkeypatch.setattr(thread_pool.time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(thread_pool.time, "thread_time", lambda: now["own"])
    monkeypatch.setattr(thread_pool.time, "monotonic", lambda: now["clock"])
    pace = ConcurrencyController(8)
    n_now = pace.n_wanted(0)
    for name in now:  # it sums what an earlier run left, and the others wait for the network
        now[name] += 0.021
    assert (n_now, pace.n_wanted(n_now)) == (2, 8)


def test_who_was_busy_for_long_is_not_found_idle_by_a_short_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = {"cpu": 5.0, "clock": 100.0}
    monkeypatch.setattr(thread_pool.time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(thread_pool.time, "thread_time", lambda: 0.25)
    monkeypatch.setattr(thread_pool.time, "monotonic", lambda: now["clock"])
    pace = ConcurrencyController(8)
    n_now = pace.n_wanted(0)
    for n in range(200):  # 4 s, another program takes the CPU for 20 ms of each 200
        now["clock"] += 0.021
        now["cpu"] += 0.0 if n % 10 == 9 else 0.021
        n_now = pace.n_wanted(n_now)
    assert n_now == 2
    for _ in range(200):  # then the network is the limit
        now["clock"] += 0.021
        n_now = pace.n_wanted(n_now)
    assert n_now == 8
