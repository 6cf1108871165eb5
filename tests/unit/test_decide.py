"""What is to be done with each file, and in which batches."""

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.model import Checksum, Entry, Transfer
from ctaflows.transfer.decide import Action, LocalState, batches, decide

NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)
MD5, ADLER, OTHER = Checksum("md5", "aa"), Checksum("adler32", "bb"), Checksum("md5", "cc")

SIZES = {"same": (5, 5), "smaller": (4, 5), "larger": (6, 5), "unknown": (5, None), "empty": (0, 0)}
TIMES = {
    "unknown": None,
    "equal": 0.0,
    "0.9 s later": 0.9,
    "0.9 s earlier": -0.9,
    "1 s later": 1.0,
    "1 s earlier": -1.0,
    "a year": 3e7,
}
CHECKSUMS = {"none": (), "one": (MD5,), "two": (MD5, ADLER)}
PROOFS = {
    "none": None,
    "agrees": Transfer("/a", "a", 5, checksum=MD5, verified=True),
    "agrees by the second": Transfer("/a", "a", 5, checksum=ADLER, verified=True),
    "of another": Transfer("/a", "a", 5, checksum=OTHER, verified=True),
    "unverified": Transfer("/a", "a", 5, checksum=MD5),
    "failed": Transfer("/a", "a", 5, error="Lost: gone"),
    "of nothing": Transfer("/a", "a", 5, verified=True),
}
SAME_TIMES = {"equal", "0.9 s later", "0.9 s earlier"}


def entry_and_here(size, time, sums):
    n_here, n_there = SIZES[size]
    shift = TIMES[time]
    mtime = None if shift is None else NOON
    entry = Entry("/a", size_bytes=n_there, mtime=mtime, checksums=CHECKSUMS[sums])
    return entry, LocalState(n_here, NOON.timestamp() + (shift or 0.0))


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("size", SIZES)
def test_the_whole_truth_table(size, time):
    agreeing = {("agrees", "one"), ("agrees", "two"), ("agrees by the second", "two")}
    for sums, proof in itertools.product(CHECKSUMS, PROOFS):
        entry, here = entry_and_here(size, time, sums)
        action, why = decide(entry, here, PROOFS[proof])
        if size in ("smaller", "larger", "unknown"):
            expected = Action.FETCH
        elif sums == "none":
            expected = Action.SKIP if time in SAME_TIMES else Action.FETCH
        elif (proof, sums) in agreeing and time in SAME_TIMES and size == "same":
            expected = Action.SKIP  # the proofs are of a file of that size
        else:
            expected = Action.COMPARE
        assert action is expected, (sums, proof)
        assert why


@pytest.mark.parametrize(("sums", "proof"), list(itertools.product(CHECKSUMS, PROOFS)))
def test_what_is_not_here_is_fetched(sums, proof):
    entry, _ = entry_and_here("same", "equal", sums)
    assert decide(entry, None, PROOFS[proof]) == (Action.FETCH, "not here")


@pytest.mark.parametrize(
    ("size", "time", "sums", "proof", "action", "words"),
    [
        ("same", "equal", "one", "agrees", Action.SKIP, "verified, by its line in the manifest"),
        ("same", "equal", "one", "none", Action.COMPARE, "checksum to be compared"),
        ("same", "a year", "one", "agrees", Action.COMPARE, "checksum to be compared"),
        ("same", "equal", "none", "none", Action.SKIP, "no checksum"),
        ("same", "unknown", "none", "none", Action.FETCH, "time differs"),
        ("same", "1 s later", "none", "agrees", Action.FETCH, "time differs"),
        ("smaller", "equal", "one", "agrees", Action.FETCH, "4 here, 5 there"),
        ("unknown", "equal", "none", "none", Action.FETCH, "5 here"),
    ],
)
def test_the_reasons(size, time, sums, proof, action, words):
    entry, here = entry_and_here(size, time, sums)
    got, why = decide(entry, here, PROOFS[proof])
    assert got is action
    assert words in why


def test_the_proof_is_optional():
    entry, here = entry_and_here("same", "equal", "one")
    assert decide(entry, here)[0] is Action.COMPARE


def test_a_time_of_another_zone_is_the_same_time():
    moved = NOON.astimezone(timezone(timedelta(hours=-7)))
    entry = Entry("/a", size_bytes=5, mtime=moved)
    assert decide(entry, LocalState(5, NOON.timestamp()))[0] is Action.SKIP


# batches

entries = st.lists(
    st.builds(Entry, st.just("/a"), size_bytes=st.none() | st.integers(0, 30)), max_size=30
)


@given(entries, st.integers(1, 6), st.integers(0, 40))
def test_batches_keep_order_lose_nothing_and_respect_the_limits(files, max_files, max_bytes):
    files = [Entry(f"/{i}", size_bytes=f.size_bytes) for i, f in enumerate(files)]
    cut = batches(iter(files), max_files=max_files, max_bytes=max_bytes)
    assert [e for batch in cut for e in batch] == files
    sizes = [[e.size_bytes or 0 for e in batch] for batch in cut]
    for batch in sizes:
        assert 1 <= len(batch) <= max_files
        assert sum(batch) <= max_bytes or len(batch) == 1
    for batch, following in itertools.pairwise(sizes):  # none ends sooner than it must
        assert len(batch) == max_files or sum(batch) + following[0] > max_bytes


@pytest.mark.parametrize(
    ("sizes", "limits", "expected"),
    [
        ([], {}, []),
        ([1], {}, [[1]]),
        ([1] * 5, {"max_files": 2}, [[1, 1], [1, 1], [1]]),
        ([3, 3, 3], {"max_bytes": 6}, [[3, 3], [3]]),
        ([9, 1, 9], {"max_bytes": 5}, [[9], [1], [9]]),
        ([9, None, None], {"max_bytes": 9}, [[9, None, None]]),
        ([None, 9], {"max_bytes": 5}, [[None], [9]]),
        ([5, 0, 1], {"max_bytes": 5}, [[5, 0], [1]]),
    ],
)
def test_batches(sizes, limits, expected):
    files = [Entry(f"/{i}", size_bytes=s) for i, s in enumerate(sizes)]
    cut = batches(files, **limits)
    assert [[e.size_bytes for e in batch] for batch in cut] == expected


def test_the_usual_limits_suit_a_night():
    assert [len(b) for b in batches([Entry("/a", size_bytes=1000)] * 250)] == [100, 100, 50]
    assert [len(b) for b in batches([Entry("/a", size_bytes=3 << 30)] * 5)] == [2, 2, 1]
