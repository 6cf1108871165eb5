"""What is asked for and what is kept of a remote file: pure decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ctaflows.storage import block_cache
from ctaflows.storage.block_cache import BlockCache, ReadPlanner, joined_spans

if TYPE_CHECKING:
    import pytest

B = 1000
MB = 1_000_000


def planner(size: int = 100 * MB, cap: int = 32 * MB) -> ReadPlanner:
    return ReadPlanner(size, cap, block_bytes=B)


def none(_number: int) -> bool:
    return False


def test_a_read_asks_for_whole_blocks() -> None:
    assert planner().request(2500, 2600, none) == (2000, 3000)
    assert planner().request(2500, 3001, none) == (2000, 4000)
    assert planner(size=2700).request(2500, 2600, none) == (2000, 2700)


def test_one_who_goes_on_gets_twice_as_much_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_cache, "_MAX_AHEAD_BYTES", 8 * B)
    plan, at, sizes = planner(), 0, []
    for _ in range(7):
        start, end = plan.request(at, at + 10, none)
        assert start == at
        sizes.append((end - start) // B)
        at = end
    assert sizes == [1, 2, 3, 5, 9, 9, 9]
    assert plan.request(50 * B, 50 * B + 1, none) == (50 * B, 51 * B)  # he jumps
    assert plan.request(51 * B, 51 * B + 1, none) == (51 * B, 53 * B)  # and begins anew


def test_what_is_read_ahead_fits_into_half_the_cache() -> None:
    plan, at = planner(cap=8 * B), 0
    for _ in range(6):
        start, end = plan.request(at, at + 1, none)
        assert end - start <= 5 * B
        at = end


def test_reading_ahead_stops_at_what_is_there() -> None:
    plan = planner()
    plan.request(0, 10, none)
    plan.request(B, B + 1, none)
    assert plan.request(3 * B, 3 * B + 1, lambda n: n == 5) == (3 * B, 5 * B)


def test_missing_blocks_around_one_that_is_there_come_in_one_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_cache, "_MAX_GAP_BYTES", 2 * B)
    there = {3, 4}
    assert planner().request(2 * B, 6 * B, there.__contains__) == (2 * B, 6 * B)
    there = {3, 4, 5}
    assert planner().request(2 * B, 7 * B, there.__contains__) == (2 * B, 3 * B)
    there = {4, 5}
    assert planner().request(2 * B, 6 * B, there.__contains__) == (2 * B, 4 * B)


def test_a_request_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_cache, "MAX_REQUEST_BYTES", 4 * B)
    assert planner().request(500, 90 * B, none) == (0, 4 * B)


def test_what_is_expected_close_by_comes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_cache, "_MAX_GAP_BYTES", 2 * B)
    plan = planner()
    plan.expect([(9500, 9600), (10 * B, 10_100), (12_050, 12_100), (20 * B, 21 * B)])
    assert plan.request(9500, 9600, none) == (9 * B, 13 * B)
    assert plan.request(20 * B, 20_010, none) == (20 * B, 21 * B)
    assert plan.request(15 * B, 15_010, none) == (15 * B, 16 * B)  # nothing is expected there
    assert plan.request(10 * B, 10_100, lambda n: n == 11) == (10 * B, 11 * B)


def test_what_is_expected_is_bounded_by_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planner(cap=8 * B)
    plan.expect([(n * B, n * B + 10) for n in range(50)])
    assert plan.request(0, 10, none) == (0, 4 * B)
    plan.expect([(0, 50 * B)])
    assert plan.request(0, 10, none) == (0, 4 * B)


def test_what_is_expected_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_cache, "_MAX_GAP_BYTES", B)
    monkeypatch.setattr(block_cache, "_SHARE_BYTES", 4 * B)
    plan = planner(size=29_500)
    plan.expect([(0, 10), (5500, 14_500), (16_100, 16_200), (29_100, 29_400)])
    there = {7}
    assert plan.expected(6000, there.__contains__) == [
        (6 * B, 10 * B), (10 * B, 14 * B), (14 * B, 17 * B), (29 * B, 29_500),
    ]  # fmt: skip
    assert plan.expected(20 * B, none) == []
    assert plan.expected(5, none)[0] == (0, B)
    small = planner(cap=6 * B)
    small.expect([(0, 50 * B)])
    assert small.expected(10 * B, none) == [(10 * B, 13 * B)]


@given(
    st.integers(1, 40 * B),
    st.lists(st.tuples(st.integers(0, 40 * B), st.integers(1, 5 * B)), max_size=20),
    st.sets(st.integers(0, 40)),
    st.lists(st.tuples(st.integers(0, 40 * B), st.integers(0, 40 * B)), max_size=5),
)
def test_a_request_always_holds_what_is_missing(size, reads, there, expected) -> None:
    plan = planner(size=size, cap=20 * B)
    plan.expect(expected)
    for start, n_bytes in reads:
        if start >= size or start // B in there:
            continue
        first, last = plan.request(start, min(start + n_bytes, size), there.__contains__)
        assert first <= start < last <= size
        assert first % B == 0
        assert last % B == 0 or last == size


def test_spans_are_joined() -> None:
    assert joined_spans([(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)]) == [(0, 3), (5, 9)]
    assert joined_spans([(0, 2), (4, 5), (9, 10)], gap_bytes=2) == [(0, 5), (9, 10)]
    assert joined_spans([]) == []


def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    cache = BlockCache(3 * B)
    for number in range(3):
        cache.put(number, bytes(B))
    assert cache.get(0)
    cache.put(3, bytes(B))
    assert [n in cache for n in range(4)] == [True, False, True, True]
    assert cache.held_bytes == 3 * B
    assert cache.get(1) is None


def test_a_block_that_is_put_again_counts_once() -> None:
    cache = BlockCache(3 * B)
    cache.put(0, bytes(B))
    cache.put(0, bytes(10))
    assert (len(cache), cache.held_bytes) == (1, 10)
    cache.drop(0)
    cache.drop(0)
    assert (len(cache), cache.held_bytes) == (0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 500)), max_size=60), st.integers(1, 2000)
)
def test_the_cache_keeps_to_its_cap(puts, cap) -> None:
    cache = BlockCache(cap)
    for number, n_bytes in puts:
        cache.put(number, bytes(n_bytes))
        assert cache.held_bytes <= cap or len(cache) == 1
        assert cache.get(number) == bytes(n_bytes)
