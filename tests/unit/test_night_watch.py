"""What a watch decides: which night, what is complete and new, when to look, when it is over."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.dl1.night_watch import (
    MIN_INTERVAL_S,
    FileHistory,
    PollResult,
    PollSchedule,
    WaitTimes,
    WatchState,
    night_of,
    poll,
)
from ctaflows.errors import UsageError
from ctaflows.model import Entry

NOW = datetime(2024, 11, 15, 9, tzinfo=UTC)
SETTLE_S = 600.0
PATIENCE = WaitTimes(SETTLE_S, 3600.0)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


# which night -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "now", "night"),
    [
        ("20241114", NOW, "20241114"),
        ("2024-11-14", NOW, "20241114"),
        ("last-night", datetime(2024, 11, 15, 2, tzinfo=UTC), "20241114"),
        ("last-night", datetime(2024, 11, 15, 8, tzinfo=UTC), "20241114"),
        (" Last-Night", datetime(2024, 11, 15, 20, tzinfo=UTC), "20241114"),
        ("last-night", datetime(2024, 1, 1, 0, 30, tzinfo=UTC), "20231231"),
        ("tonight", datetime(2024, 11, 15, 2, tzinfo=UTC), "20241114"),
        ("tonight", datetime(2024, 11, 15, 11, 59, tzinfo=UTC), "20241114"),
        ("tonight", datetime(2024, 11, 15, 12, tzinfo=UTC), "20241115"),
        ("tonight", datetime(2024, 11, 15, 23, tzinfo=UTC), "20241115"),
        # 23:30 in Hawaii is 9:30 UTC of the next day
        ("tonight", datetime.fromisoformat("2024-11-14T23:30-10:00"), "20241114"),
    ],
)
def test_which_night(text, now, night):
    assert night_of(text, now) == night


@pytest.mark.parametrize("text", ["", "yesterday", "20241314", "last night", "2024"])
def test_what_is_no_night(text):
    with pytest.raises(UsageError) as why:
        night_of(text, NOW)
    assert "tonight" in why.value.hint
    assert "last-night" in why.value.hint


# which files -------------------------------------------------------------------------------------

AT = "/cta/DL1/20241114/v0.1/dl1_LST-1.Run11111.0000.h5"


def entry(size=10, mtime=None, etag=None, path=AT):
    return Entry(path, size_bytes=size, mtime=mtime, etag=etag)


@pytest.mark.parametrize(
    ("before", "looks", "is_ready"),
    [
        ("seen once, old", [entry(mtime=ago(9999))], False),
        ("seen twice, old", [entry(mtime=ago(9999))] * 2, True),
        ("seen twice, young", [entry(mtime=ago(599))] * 2, False),
        ("seen twice, just old enough", [entry(mtime=ago(600))] * 2, True),
        ("grown", [entry(9, ago(9999)), entry(10, ago(9999))], False),
        ("touched", [entry(mtime=ago(9999)), entry(mtime=ago(9000))], False),
        ("replaced", [entry(etag="a", mtime=ago(9999)), entry(etag="b", mtime=ago(9999))], False),
        ("grown, then still", [entry(9, ago(9999)), *[entry(10, ago(9999))] * 2], True),
        ("without a size", [entry(None, ago(9999))] * 3, False),
        ("without a time", [entry()] * 3, False),
        ("from the future", [entry(mtime=ago(-9999))] * 3, False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_complete(before, looks, is_ready):
    memory = WatchState()
    for one in looks:
        memory = memory.after([one], NOW)
    look = poll(memory, [looks[-1]], NOW, PATIENCE)
    assert look.ready == ((looks[-1],) if is_ready else ())
    assert look.waiting == (() if is_ready else (looks[-1],))
    assert look.n_done == 0


@pytest.mark.parametrize("mtime", [None, ago(-99999)])
def test_without_a_time_to_believe_it_is_our_own_clock_that_counts(mtime):
    one = entry(mtime=mtime)
    memory = WatchState().after([one], ago(599)).after([one], NOW)
    assert poll(memory, [one], NOW, PATIENCE).waiting == (one,)
    memory = WatchState().after([one], ago(600)).after([one], NOW)
    assert poll(memory, [one], NOW, PATIENCE).ready == (one,)


def test_what_was_dealt_with_is_not_dealt_with_again_unless_it_changes():
    old = entry(mtime=ago(9999))
    memory = WatchState().after([old], NOW).after([old], NOW).having_done([AT])
    memory = memory.after([old], NOW)
    assert poll(memory, [old], NOW, PATIENCE) == PollResult((), (), 1, ago(9999))
    new = entry(11, ago(5000))
    memory = memory.after([new], NOW)
    assert poll(memory, [new], NOW, PATIENCE).waiting == (new,)
    memory = memory.after([new], NOW)
    assert poll(memory, [new], NOW, PATIENCE).ready == (new,)


def test_what_is_told_at_some_looks_only_is_no_change():
    told = [entry(mtime=ago(9999)), entry(mtime=ago(9999), etag="a"), entry(mtime=ago(9999))]
    memory = WatchState().after([told[0]], NOW).after([told[0]], NOW).having_done([AT])
    for one in told:
        memory = memory.after([one], NOW)
        assert poll(memory, [one], NOW, PATIENCE).n_done == 1
    memory = memory.after([entry(mtime=ago(9999), etag="b")], NOW)  # "a" was told once
    assert poll(memory, [told[0]], NOW, PATIENCE).n_done == 0


def test_a_look_at_which_a_file_can_not_be_described_changes_nothing():
    good, unknown = entry(mtime=ago(9999)), Entry(AT, error="403 Forbidden")
    memory = WatchState().after([unknown], NOW)
    assert poll(memory, [unknown], NOW, PATIENCE).waiting == (unknown,)
    memory = WatchState().after([good], NOW).after([unknown], NOW)
    assert poll(memory, [unknown], NOW, PATIENCE).waiting == (unknown,)
    memory = memory.after([good], NOW)
    assert poll(memory, [unknown], NOW, PATIENCE).waiting == (unknown,)
    assert poll(memory, [good], NOW, PATIENCE).ready == (good,)
    memory = memory.having_done([AT]).after([unknown], NOW)
    assert poll(memory, [unknown], NOW, PATIENCE).n_done == 1


def test_what_is_not_shown_for_a_while_is_not_forgotten():
    """A door may show a directory that it can't read as an empty one."""
    old = entry(mtime=ago(9999))
    memory = WatchState().after([old], NOW).after([old], NOW).having_done([AT]).after([], NOW)
    assert poll(memory, [], NOW, PATIENCE) == PollResult()
    memory = memory.after([old], NOW)
    assert poll(memory, [old], NOW, PATIENCE).n_done == 1


SIZES = st.none() | st.integers(0, 3)
AGES = st.none() | st.sampled_from([-100.0, 0.0, 300.0, 2000.0])
HISTORIES = st.lists(
    st.tuples(st.sampled_from([1.0, 299.0, 300.0, 601.0]), SIZES, AGES, st.booleans()),
    min_size=1,
    max_size=8,
)


@given(HISTORIES)
def test_any_history(history):
    """The same decision, made from the whole history and not from what is remembered of it."""
    memory, alike, is_done = WatchState(), [], False
    now = ago(10_000)
    for step_s, size, age_s, acts in history:
        now += timedelta(seconds=step_s)
        mtime = None if age_s is None else ago(10_000 + age_s)
        shown = entry(size, mtime)
        memory, is_whole = WatchState.from_text(memory.after([shown], now).to_text())
        assert is_whole
        look = poll(memory, [shown], now, PATIENCE)

        told = next((one.mtime for _, one in alike if one.mtime), None)
        before = told or (alike[0][0] if alike else now)  # a time that is told late was before that
        is_later = mtime is not None and (mtime != told if told else mtime > before)
        if alike and (alike[0][1].size_bytes != size or is_later):
            alike, told, is_done = [], None, False
        alike.append((now, shown))
        since, told = alike[0][0], told or mtime
        changed = min(since, told) if told else since
        is_old = (now - changed).total_seconds() >= SETTLE_S
        if is_done:
            assert look == PollResult((), (), 1, changed)
        elif size is not None and len(alike) >= 2 and is_old:
            assert look == PollResult((shown,), (), 0, changed)
            if acts:
                memory, is_done = memory.having_done([AT]), True
        else:
            assert look == PollResult((), (shown,), 0, changed)


# when it is over ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "missing", "is_whole"),
    [
        (PollResult(n_done=2, last_change=ago(3600)), [], True),
        (PollResult(n_done=2, last_change=ago(3599)), [], False),
        (PollResult(n_done=2, last_change=ago(3600)), ["Run11111.0003"], False),
        (PollResult(waiting=(entry(),), last_change=ago(9999)), [], False),
        (PollResult(ready=(entry(),), last_change=ago(9999)), [], False),
        (PollResult(), [], False),
    ],
)
def test_when_a_night_is_complete(look, missing, is_whole):
    assert look.is_whole(missing, NOW, PATIENCE) is is_whole


@pytest.mark.parametrize(
    ("rhythm", "n_looks", "elapsed_s", "asked_s", "pause"),
    [
        (PollSchedule(300, 3600), 1, 0, 0, 300),
        (PollSchedule(300, 3600), 99, 0, 0, 300),
        (PollSchedule(300, 3600), 1, 3400, 0, 200),
        (PollSchedule(300, 3600), 1, 3600, 0, None),
        (PollSchedule(300, 3600), 1, 9999, 0, None),
        (PollSchedule(300, 0), 1, 0, 0, None),
        (PollSchedule(300, 3600, polls=1), 1, 0, 0, None),
        (PollSchedule(300, 3600, polls=2), 1, 0, 0, 300),
        (PollSchedule(300, 3600, polls=2), 2, 0, 0, None),
        (PollSchedule(300, 3600), 1, 0, 1000, 1000),
        (PollSchedule(300, 3600), 1, 0, 9999, 3600),
        (PollSchedule(1, 3600), 1, 0, 0, 1),
    ],
)
def test_when_to_look_again(rhythm, n_looks, elapsed_s, asked_s, pause):
    assert rhythm.pause_s(n_looks, elapsed_s, 0.5, asked_s) == pause


@given(
    interval_s=st.floats(MIN_INTERVAL_S, 1e6),
    deadline_s=st.floats(0, 1e6),
    polls=st.none() | st.integers(1, 10),
    chances=st.lists(st.floats(0, 1), min_size=30, max_size=30),
)
def test_a_watch_is_polite_and_ends(interval_s, deadline_s, polls, chances):
    rhythm, elapsed_s = PollSchedule(interval_s, deadline_s, polls), 0.0
    for n_looks, chance in enumerate(chances, 1):
        pause = rhythm.pause_s(n_looks, elapsed_s, chance)
        if pause is None:
            assert n_looks == polls or elapsed_s >= deadline_s
            return
        is_last = math.isclose(elapsed_s + pause, deadline_s)
        assert is_last or pause >= max(0.9 * interval_s, MIN_INTERVAL_S) * (1 - 1e-9)
        assert pause <= max(1.1 * interval_s, MIN_INTERVAL_S) * (1 + 1e-9)
        elapsed_s += pause
        assert elapsed_s <= deadline_s * (1 + 1e-9)
    assert polls is None


def test_watches_do_not_look_all_at_once():
    rhythm = PollSchedule(300, 3600)
    assert {round(rhythm.pause_s(1, 0, chance)) for chance in (0, 0.5, 1)} == {270, 300, 330}


@pytest.mark.parametrize(
    "values",
    [(0.5, 1), (-1, 1), (math.nan, 1), (300, -1), (300, math.nan), (300, 1, 0), (300, 1, -1)],
)
def test_what_is_no_rhythm(values):
    with pytest.raises(UsageError):
        PollSchedule(*values)


# what is remembered ------------------------------------------------------------------------------

TIMES = st.integers(0, 1 << 53).map(lambda us: datetime.fromtimestamp(us / 1e6, UTC))
SIGHTINGS = st.builds(
    FileHistory,
    st.none() | st.integers(0, 1 << 60),
    st.none() | TIMES,
    st.none() | st.text(max_size=9),
    TIMES,
    st.integers(1, 99),
    st.booleans(),
)
NAMES = st.text("a/é\u2603\udcff\x1b\n", max_size=20)
MEMORIES = st.builds(WatchState, st.dictionaries(NAMES, SIGHTINGS, max_size=5))


@given(MEMORIES)
def test_it_is_read_as_it_was_written(memory):
    text = memory.to_text()
    assert WatchState.from_text(text.encode("ascii").decode()) == (memory, True)
    done = memory.having_done(list(memory.sightings)[:2])
    assert WatchState.from_text(text + done.lines(list(memory.sightings)[:2])) == (done, True)


@given(MEMORIES, st.data())
def test_a_damaged_one_is_forgotten_not_believed(memory, data):
    text = memory.to_text()
    where = data.draw(st.integers(0, len(text)))
    found, is_whole = WatchState.from_text(text[:where])
    assert found.sightings.items() <= memory.sightings.items()
    assert is_whole == (where > 0 and text[where - 1] == "\n")
    spoilt = text[:where] + data.draw(st.characters(max_codepoint=127)) + text[where + 1 :]
    found, _ = WatchState.from_text(spoilt)
    poll(found, [entry(path=path) for path in found.sightings], NOW, PATIENCE)
    assert WatchState.from_text(found.to_text()) == (found, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from(list(FileHistory.__slots__)), JSON), JSON, MEMORIES)
def test_one_bad_record_spoils_no_other(record, other, memory):
    lines = memory.to_text().splitlines()
    lines.insert(1, json.dumps({**record, "path": "bad"}))
    lines.insert(1 + len(lines) // 2, json.dumps(other))
    found, _ = WatchState.from_text("\n".join([*lines, ""]))
    kept = {path: seen for path, seen in found.sightings.items() if path != "bad"}
    assert kept == memory.sightings


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "\n", '{"format": 2}\n', "[" * 99999 + "\n"]
)
def test_what_is_no_memory(text):
    assert WatchState.from_text(text) == (WatchState(), False)
