"""The sum of a file that comes in ranges keeps close behind what has come."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from ctaflows.transfer.part_file import Part
from ctaflows.transfer.range_journal import RangeJournal
from ctaflows.transfer.ranged import RangedCopy
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.errors import Truncated
from ctaflows.model import Checksum, Entry
from ctaflows.transfer import ranged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
RANGE_BYTES = 3 * MIB
DATA = os.urandom(8 * MIB + 5)  # three ranges


class Counted(ranged.sums.Hasher):
    """A sum that counts what it is of."""

    n_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        self.n_bytes += len(data)
        super().update(data)


@pytest.fixture(scope="module", autouse=True)
def few_ranges() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctaflows.transfer.range_journal._MIN_RANGE_BYTES", RANGE_BYTES)
        patch.setattr("ctaflows.transfer.range_journal._MAX_RANGE_BYTES", RANGE_BYTES)
        patch.setattr(ranged.sums, "Hasher", Counted)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sums")


def begun(folder: Path, checksums: tuple[Checksum, ...] = ()) -> RangedCopy:
    entry = Entry("/a.h5", size_bytes=len(DATA), checksums=checksums)
    part = Part(folder / "a.h5", entry)
    return RangedCopy(part, RangeJournal(part.ranges_path, len(DATA), 0), entry)


def come(copy: RangedCopy, index: int, n_bytes: int) -> None:
    """Let bytes of a range come."""
    part = copy.ledger.ranges[index]
    copy.write(part, [DATA[part.next : min(part.next + n_bytes, part.end)]])


def n_hashed(copy: RangedCopy) -> int:
    hasher = copy._hasher
    assert isinstance(hasher, Counted)
    return hasher.n_bytes


def test_all_that_has_come_without_a_gap_is_summed(folder: Path) -> None:
    copy = begun(folder)
    come(copy, 2, 7)
    assert not copy.hash_on()
    assert n_hashed(copy) == 0, "the first byte is not here"
    come(copy, 0, 1000)
    copy.hash_on()
    assert n_hashed(copy) == 1000, "half a range"
    come(copy, 0, RANGE_BYTES)
    copy.hash_on()
    assert n_hashed(copy) == RANGE_BYTES, "nothing of the second has come"
    come(copy, 1, RANGE_BYTES)
    copy.hash_on()
    assert n_hashed(copy) == 2 * RANGE_BYTES + 7, "two ranges and what has come of the third"
    come(copy, 2, RANGE_BYTES)
    ours, verified = copy.proof()
    assert (ours.value, verified) == (hashlib.sha256(DATA).hexdigest(), False)


def test_it_can_be_done_in_steps(folder: Path) -> None:
    copy = begun(folder)
    for index in range(3):
        come(copy, index, RANGE_BYTES)
    seen = []
    while copy.hash_on(2 * MIB):
        seen.append(n_hashed(copy))
    assert seen == [RANGE_BYTES, 2 * RANGE_BYTES, len(DATA)]
    assert n_hashed(copy) == len(DATA)
    assert copy.proof()[0].value == hashlib.sha256(DATA).hexdigest()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2 * MIB), st.booleans())), st.data())
def test_in_whatever_order_the_bytes_come(
    folder: Path, steps: list[tuple[int, int, bool]], data: st.DataObject
) -> None:
    algorithm = data.draw(st.sampled_from(["md5", "sha256"]))
    promised = Checksum(algorithm, hashlib.new(algorithm, DATA).hexdigest())
    copy = begun(folder, (promised,))
    for index, n_bytes, hash_too in [*steps, *((i, RANGE_BYTES, False) for i in range(3))]:
        come(copy, index, n_bytes)
        if hash_too:
            copy.hash_on(MIB)
    assert copy.proof() == (promised, True)
    copy.part.discard()


def test_a_part_that_somebody_cut_is_told(folder: Path) -> None:
    copy = begun(folder)
    come(copy, 0, RANGE_BYTES)
    os.truncate(copy.part.path, 1000)
    with pytest.raises(Truncated):
        copy.hash_on()
