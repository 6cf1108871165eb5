"""Repeating: how often, after which pause, and when no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.errors import (
    DoorBusy,
    NetworkError,
    NoSpace,
    NotFound,
    NotTheFile,
    ProtocolSurprise,
    RateLimited,
    Refused,
    TokenExpired,
    Truncated,
)
from ctaflows.retry import Retries
from ctaflows.settings import Settings


def pause_s(error, attempt, settings):
    """Return the pause after so many tries in a row have failed."""
    retries = Retries(settings)
    for _ in range(attempt - 1):
        retries.pause_s(NetworkError("an earlier one"))
    return retries.pause_s(error)


def rules(**changes):
    return Settings(attempts=5, backoff_s=0.5, busy_s=20.0).replace(**changes)


@pytest.fixture
def jitter(monkeypatch):
    """Jitter of a chosen size, from 0 (least) to 1 (most)."""

    def choose(share):
        monkeypatch.setattr("ctaflows.retry.random.uniform", lambda a, b: a + share * (b - a))

    choose(0.5)
    return choose


@pytest.mark.parametrize(
    "error", [DoorBusy("x"), RateLimited("x"), NetworkError("x"), DoorBusy("x", retry_after_s=1)]
)
def test_tries_are_counted(error):
    assert [pause_s(error, n, rules()) is None for n in range(1, 8)] == [False] * 4 + [True] * 3
    assert pause_s(error, 1, rules(attempts=1)) is None


@pytest.mark.parametrize(
    "error", [NotFound("x"), Refused("x"), NoSpace("x"), ProtocolSurprise("x"), TokenExpired("x")]
)
def test_what_does_not_mend_itself_is_not_tried_again(error):
    assert pause_s(error, 1, rules()) is None
    error.retry_after_s = 1
    assert pause_s(error, 1, rules()) is None


def test_an_error_that_is_marked_as_final_is_not_tried_again():
    error = NetworkError("bad certificate")
    error.retryable = False
    assert pause_s(error, 1, rules()) is None


def test_pauses_double_up_to_twenty_seconds(jitter):
    pauses = [pause_s(DoorBusy("x"), n, rules(attempts=99)) for n in range(1, 12)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 20, 20, 20, 20, 20]


def test_jitter_is_a_quarter_either_way(jitter):
    jitter(0)
    assert pause_s(DoorBusy("x"), 1, rules()) == 0.375
    jitter(1)
    assert pause_s(DoorBusy("x"), 1, rules()) == 0.625


def test_jitter_differs():
    assert len({pause_s(DoorBusy("x"), 1, rules()) for _ in range(20)}) > 1


@pytest.mark.parametrize("attempt", [1025, 2_000])
@pytest.mark.parametrize("backoff_s", [0.0, 0.5])
def test_very_many_tries_are_possible(attempt, backoff_s, jitter):
    pause = pause_s(DoorBusy("x"), attempt, rules(attempts=10**6, backoff_s=backoff_s))
    assert pause == (20 if backoff_s else 0)


def test_a_429_without_retry_after_waits_a_second_and_then_until_a_block_is_over(jitter):
    pauses = [pause_s(RateLimited("x"), n, rules(attempts=99)) for n in range(1, 8)]
    assert pauses == [1, 2, 4, 8, 16, 20, 20]
    assert pause_s(RateLimited("x"), 8, rules(busy_s=90.0, attempts=99)) == 90
    assert pause_s(RateLimited("x"), 1, rules(busy_s=0.5)) == 0.5


@pytest.mark.parametrize("kind", [DoorBusy, RateLimited, NetworkError])
@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [(0.0, 1.0, 1.1), (1.0, 2.0, 2.2), (120.0, 121.0, 133.1), (160.0, 161.0, 177.1)],
)
def test_retry_after_is_honoured(kind, asked, least, most, jitter):
    error = kind("x", retry_after_s=asked)
    jitter(0)
    # a second later than asked: dCache 12.0.1 rounds down, and says 0 in the last one
    assert pause_s(error, 4, rules()) == least
    jitter(1)
    assert pause_s(error, 4, rules()) == pytest.approx(most)


@pytest.mark.parametrize("asked", [180.1, 3600.0, 1e9])
def test_a_retry_after_that_is_too_long_ends_it(asked):
    assert pause_s(RateLimited("x", retry_after_s=asked), 1, rules()) is None


@given(
    st.sampled_from([DoorBusy, RateLimited, NetworkError]),
    st.integers(1, 60),
    st.none() | st.floats(0, 1000),
    st.floats(0, 100),
)
def test_a_pause_is_never_negative_and_never_shorter_than_asked(kind, attempt, asked, backoff_s):
    error = kind("x", retry_after_s=asked)
    pause = pause_s(error, attempt, rules(attempts=50, backoff_s=backoff_s))
    if pause is not None:
        assert attempt < 50
        assert pause >= (asked or 0)
        assert pause <= 25 or asked


@pytest.mark.parametrize("error", [RateLimited, DoorBusy])
def test_one_that_asks_for_too_long_a_pause_is_told_so(error):
    why = error("x", retry_after_s=3600.0)
    with pytest.raises(error) as raised:
        Retries(rules()).pause_or_raise(why)
    assert "3600 s" in raised.value.hint


def test_a_try_that_brought_something_is_the_first_in_a_row(jitter):
    retries = Retries(rules())
    pauses = [retries.pause_s(NetworkError("x"), progress=n % 3 == 2) for n in range(30)]
    assert pauses == [0.5, 1, *[0.5, 1, 2] * 9, 0.5]
    assert retries.n_failed == 30


def test_an_error_may_pass_in_one_place_and_not_in_another():
    assert Retries(rules()).pause_s(ProtocolSurprise("x")) is None
    retries = Retries(rules(), also=(ProtocolSurprise,))
    assert [retries.pause_s(ProtocolSurprise("x")) is None for _ in range(5)] == [
        *[False] * 4,
        True,
    ]


# -- the two budgets -------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that passes while somebody waits."""
    now = [1000.0]
    monkeypatch.setattr("ctaflows.retry.time.monotonic", lambda: now[0])
    return now


def waited_s(retries, error, clock, progress=()):
    """Return how long is waited in all until there is no further try."""
    began, n = clock[0], 0
    while (pause := retries.pause_s(error, progress=n in progress)) is not None:
        clock[0] += pause
        n += 1
    return clock[0] - began


def test_what_may_pass_is_tried_for_three_minutes(clock):
    assert 150 < waited_s(Retries(Settings()), DoorBusy("x"), clock) <= 180


def test_the_time_of_a_request_that_waits_counts_but_does_not_cut_it(clock):
    retries = Retries(Settings())
    assert retries.pause_s(NetworkError("silent")) is not None
    clock[0] += 170
    assert retries.pause_s(NetworkError("silent")) is not None
    clock[0] += 170
    assert retries.pause_s(NetworkError("silent")) is None


def test_progress_and_success_begin_anew(clock):
    assert 200 < waited_s(Retries(Settings()), DoorBusy("x"), clock, progress={9}) <= 360
    retries = Retries(Settings())
    waited_s(retries, DoorBusy("x"), clock)
    retries.succeeded()
    assert waited_s(retries, DoorBusy("x"), clock) > 150


def test_wrong_answers_are_counted(clock):
    retries = Retries(Settings(), also=(Truncated,))
    pauses = [retries.pause_s(kind("x")) for kind in (NotTheFile, Truncated, NotTheFile, Truncated)]
    assert [pause is None for pause in pauses] == [False, False, False, True]


def test_no_time_no_second_try():
    assert Retries(Settings(retry_s=0.0)).pause_s(DoorBusy("x")) is None


def test_requests_at_once_have_a_row_each_and_share_their_progress(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("ctaflows.retry.time.monotonic", lambda: clock[0])
    whole = Retries(Settings(attempts=3, retry_s=100.0, backoff_s=0.5))
    stuck, other = whole.of_one(), whole.of_one()
    assert stuck.pause_s(NetworkError("x")) is not None
    assert [other.pause_s(NetworkError("x")) is None for _ in range(3)] == [False, False, True]
    clock[0] += 90
    other.pause_s(NetworkError("x"), progress=True)
    clock[0] += 50
    assert stuck.pause_s(NetworkError("x")) is not None, "the file is under way"
    clock[0] += 60
    assert whole.of_one().pause_s(NetworkError("x")) is not None
    assert stuck.pause_s(NetworkError("x")) is None
    assert whole.n_failed == 8
