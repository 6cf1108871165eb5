"""What is drawn from a line is given once, whoever asks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.transfer.twin import Line, SharedLine

if TYPE_CHECKING:
    from collections.abc import Iterable

PLACES = st.lists(st.integers(0, 1 << 40), max_size=300, unique=True)


@given(PLACES, st.integers(1, 40))
def test_all_are_given_in_order(places: list[int], at_once: int) -> None:
    assert list(Line(places)) == places
    with contextlib.closing(SharedLine(places, at_once)) as line:
        assert list(line) == places
        assert list(line) == [], "once"


def test_very_many_fit_into_a_pipe() -> None:
    places = range(1_000_000)
    with contextlib.closing(SharedLine(places)) as line:
        assert list(line) == list(places)


def drawn(line: Iterable[int], n_threads: int) -> list[int]:
    got: list[int] = []
    start = threading.Barrier(n_threads)

    def draw() -> None:
        start.wait()
        got.extend(line)

    threads = [threading.Thread(target=draw) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


@pytest.mark.parametrize("kind", [Line, SharedLine])
def test_threads_get_different_ones(kind: type) -> None:
    line = kind(range(5000))
    assert sorted(drawn(line, 6)) == list(range(5000))
    if isinstance(line, SharedLine):
        line.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_get_different_ones() -> None:
    with contextlib.closing(SharedLine(range(2000), 16)) as line:
        back, theirs = os.pipe()
        if os.fork() == 0:
            try:
                got = list(line)
                os.write(theirs, b"".join(n.to_bytes(4, "big") for n in got))
            finally:
                os._exit(0)
        os.close(theirs)
        ours = list(line)
        with os.fdopen(back, "rb") as stream:
            raw = stream.read()
        others = [int.from_bytes(raw[i : i + 4], "big") for i in range(0, len(raw), 4)]
        os.wait()
    assert sorted(ours + others) == list(range(2000))


def test_a_pipe_that_is_too_small_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux gives small ones to who has many; nobody reads yet, so a write would wait for ever."""
    real = os.pipe

    def small() -> tuple[int, int]:
        ends = real()
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
        return ends

    monkeypatch.setattr(os, "pipe", small)
    with pytest.raises(OSError, match="too small"):
        SharedLine(range(5000))
    with contextlib.closing(SharedLine(range(5000), 16)) as line:
        assert list(line) == list(range(5000))
