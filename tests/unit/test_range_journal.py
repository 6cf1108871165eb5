"""Files that come in ranges: cut, noted, summed, gathered."""

from __future__ import annotations

import zlib

import pytest
from ctaflows.transfer.range_journal import RangeJournal, split
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.errors import UsageError
from ctaflows.storage.checksum import joined_adler32

DEADLINE_S = 60
MIB = 1 << 20
SIZES = st.integers(0, 1 << 40) | st.integers(0, 600 * MIB)


@given(SIZES, st.floats(0, 1))
def test_ranges_have_no_gaps_and_hold_what_is_here(size_bytes: int, share: float) -> None:
    here = int(size_bytes * share)
    ranges = split(size_bytes, here)
    edges = [0, *(r.end for r in ranges)]
    assert [r.index for r in ranges] == list(range(len(ranges)))
    assert [r.start for r in ranges] == edges[:-1]
    assert edges[-1] == size_bytes
    assert all(r.start <= r.next <= r.end and r.start < r.end for r in ranges)
    assert sum(r.next - r.start for r in ranges) == here
    assert all(r.next == (r.end if r.end <= here else max(r.start, here)) for r in ranges)
    assert sum(r.is_complete for r in ranges) == sum(r.end <= here for r in ranges)


@given(SIZES)
def test_ranges_are_neither_short_nor_long(size_bytes: int) -> None:
    lengths = [r.end - r.start for r in split(size_bytes)]
    assert all(4 * MIB <= n <= 64 * MIB and n % MIB == 0 for n in lengths[:-1])
    assert len(lengths) <= size_bytes // (64 * MIB) + 41


@given(SIZES)
def test_ranges_become_shorter_toward_the_end(size_bytes: int) -> None:
    ranges = split(size_bytes)
    lengths = [r.end - r.start for r in ranges]
    assert lengths == sorted(lengths, reverse=True)
    for part, length in zip(ranges, lengths, strict=True):
        left = size_bytes - part.start
        assert length <= max(8 * MIB, left // 3 + 2 * MIB), "after it comes at least twice as much"


@pytest.mark.parametrize(
    ("size_bytes", "in_mib"),
    [
        (0, []),
        (1, [1 / MIB]),
        (4 * MIB, [4]),
        (4 * MIB + 1, [4, 1 / MIB]),
        (64 * MIB, [8] * 8),
        (72 * MIB, [7] * 8 + [4] * 4),
        (512 * MIB, [48] * 8 + [12] * 8 + [4] * 8),
        (2048 * MIB, [64] * 24 + [48] * 8 + [12] * 8 + [4] * 8),
    ],
)
def test_lengths(size_bytes: int, in_mib: list[float]) -> None:
    assert [(r.end - r.start) / MIB for r in split(size_bytes)] == in_mib


@given(st.integers(64 * MIB, 1 << 40))
def test_a_ledger_of_an_older_release_has_fewer_lines(size_bytes: int) -> None:
    """It had ranges of one length, and what does not fit promises nothing."""
    length = min(max(size_bytes // 16, 32 * MIB), 256 * MIB)
    assert len(split(size_bytes)) > -(-size_bytes // length)


SIZE = 100 * MIB


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A ledger, where ranges are of 32 MiB each."""
    monkeypatch.setattr("ctaflows.transfer.range_journal._MIN_RANGE_BYTES", 32 * MIB)
    monkeypatch.setattr("ctaflows.transfer.range_journal._MAX_RANGE_BYTES", 32 * MIB)
    return tmp_path / "ledger"


def nexts(file, size_bytes=SIZE, here_bytes=0):
    with RangeJournal(file, size_bytes, here_bytes) as ledger:
        return [r.next for r in ledger.ranges]


def test_a_ledger_is_made_and_nothing_else(file) -> None:
    assert nexts(file) == [r.start for r in split(SIZE)]
    assert file.exists()
    assert list(file.parent.iterdir()) == [file]


def test_what_is_noted_is_read_back(file) -> None:
    with RangeJournal(file, SIZE, 0) as ledger:
        for part, n_bytes in zip(ledger.ranges, [5, 0, 32 * MIB, 1], strict=True):
            part.next += n_bytes
            ledger.note(part)
            assert nexts(file, here_bytes=SIZE) == [r.next for r in ledger.ranges], (
                "a kill loses nothing"
            )
    assert nexts(file, here_bytes=SIZE) == [5, 32 * MIB, 96 * MIB, 96 * MIB + 1]


def test_the_order_of_notes_does_not_matter(file) -> None:
    with RangeJournal(file, SIZE, 0) as ledger:
        for n_bytes in (9, 10, 10_000_000):  # more digits each time
            for part in reversed(ledger.ranges[:3]):
                part.next = part.start + n_bytes
                ledger.note(part)
    assert nexts(file, here_bytes=SIZE) == [n * 32 * MIB + 10_000_000 for n in range(3)] + [
        96 * MIB
    ]


def test_a_prefix_that_came_in_one_piece_is_taken_over(file) -> None:
    expected = [32 * MIB, 40 * MIB, 64 * MIB, 96 * MIB]
    assert nexts(file, here_bytes=40 * MIB) == expected
    assert nexts(file, here_bytes=SIZE) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"x\n" * 4, b"\0" * 84, b"5\n", b"1\n2\n3\n4\n", b"\xff\xfe\n", b"0\n0\n0\n0\n0\n",
     b"-1\n33554432\n67108864\n100663296\n", b"33554433\n33554432\n67108864\n100663296\n",
     b"0\n33554432\n67108864\n104857601\n"],
)  # fmt: skip
def test_an_unfit_ledger_promises_nothing(file, content: bytes) -> None:
    file.write_bytes(content)
    assert nexts(file, here_bytes=40 * MIB) == [r.start for r in split(SIZE)]
    assert file.stat().st_size == 4 * 21


def test_a_ledger_of_another_size_promises_nothing(file) -> None:
    assert nexts(file, 50 * MIB, here_bytes=50 * MIB) == [32 * MIB, 50 * MIB]
    assert nexts(file, here_bytes=SIZE) == [r.start for r in split(SIZE)]


def test_a_ledger_that_can_not_be_made(tmp_path) -> None:
    with pytest.raises(UsageError, match="can't be written"):
        RangeJournal(tmp_path / "no" / "ledger", SIZE, 0)


@given(st.lists(st.binary(max_size=200)))
def test_joined_sums_are_the_sum_of_the_whole(parts: list[bytes]) -> None:
    sums = [(zlib.adler32(part), len(part)) for part in parts]
    assert joined_adler32(sums) == zlib.adler32(b"".join(parts))


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 200_000)), max_size=4))
def test_joined_sums_of_long_parts(parts: list[tuple[int, int]]) -> None:
    blocks = [bytes([value]) * n_bytes for value, n_bytes in parts]
    sums = [(zlib.adler32(block), len(block)) for block in blocks]
    assert joined_adler32(sums) == zlib.adler32(b"".join(blocks))
