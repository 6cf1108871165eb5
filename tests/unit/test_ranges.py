"""Ranges, ledgers, throttles, crews, mirrors and verdicts, without a network."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.cli.options import Rate
from ctaflows.errors import NotFound, Stopped, UsageError
from ctaflows.model import Checksum, Transfer
from ctaflows.storage.checksum import joined_adler32
from ctaflows.transfer import crew, throttle
from ctaflows.transfer.copy import Gather
from ctaflows.transfer.crew import Pace, at_once
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.ranges import Ledger, cut
from ctaflows.transfer.sync import files_here, remove_here, superfluous
from ctaflows.transfer.verify import verify

DEADLINE_S = 60
MIB = 1 << 20
SIZES = st.integers(0, 1 << 42) | st.integers(0, 600 * MIB)


# -- how a file is cut ------------------------------------------------------------------------


@given(SIZES, st.floats(0, 1))
def test_ranges_have_no_gaps_and_hold_what_is_here(size_bytes: int, share: float) -> None:
    here = int(size_bytes * share)
    ranges = cut(size_bytes, here)
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
    ranges = cut(size_bytes)
    assert all(32 * MIB <= r.end - r.start <= 256 * MIB for r in ranges[:-1])
    assert len(ranges) <= max(17, size_bytes // (256 * MIB) + 1)


@pytest.mark.parametrize(
    ("size_bytes", "n"),
    [(0, 0), (1, 1), (32 * MIB, 1), (32 * MIB + 1, 2), (512 * MIB, 16), (8192 * MIB, 32)],
)
def test_so_many_ranges(size_bytes: int, n: int) -> None:
    assert len(cut(size_bytes)) == n


# -- the ledger -------------------------------------------------------------------------------

SIZE = 100 * MIB


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ledger"


def nexts(file, size_bytes=SIZE, here_bytes=0):
    with Ledger(file, size_bytes, here_bytes) as ledger:
        return [r.next for r in ledger.ranges]


def test_a_ledger_is_made_and_nothing_else(file) -> None:
    assert nexts(file) == [r.start for r in cut(SIZE)]
    assert file.exists()
    assert list(file.parent.iterdir()) == [file]


def test_what_is_noted_is_read_back(file) -> None:
    with Ledger(file, SIZE, 0) as ledger:
        for part, n_bytes in zip(ledger.ranges, [5, 0, 32 * MIB, 1], strict=True):
            part.next += n_bytes
            ledger.note(part)
            assert nexts(file, here_bytes=SIZE) == [r.next for r in ledger.ranges], (
                "a kill loses nothing"
            )
    assert nexts(file, here_bytes=SIZE) == [5, 32 * MIB, 96 * MIB, 96 * MIB + 1]


def test_the_order_of_notes_does_not_matter(file) -> None:
    with Ledger(file, SIZE, 0) as ledger:
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
    assert nexts(file, here_bytes=40 * MIB) == [r.start for r in cut(SIZE)]
    assert file.stat().st_size == 4 * 21


def test_a_ledger_of_another_size_promises_nothing(file) -> None:
    assert nexts(file, 50 * MIB, here_bytes=50 * MIB) == [32 * MIB, 50 * MIB]
    assert nexts(file, here_bytes=SIZE) == [r.start for r in cut(SIZE)]


def test_a_ledger_that_can_not_be_made(tmp_path) -> None:
    with pytest.raises(UsageError, match="can't be written"):
        Ledger(tmp_path / "no" / "ledger", SIZE, 0)


# -- a sum of sums ----------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200)))
def test_joined_sums_are_the_sum_of_the_whole(parts: list[bytes]) -> None:
    sums = [(zlib.adler32(part), len(part)) for part in parts]
    assert joined_adler32(sums) == zlib.adler32(b"".join(parts))


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 200_000)), max_size=4))
def test_joined_sums_of_long_parts(parts: list[tuple[int, int]]) -> None:
    blocks = [bytes([value]) * n_bytes for value, n_bytes in parts]
    sums = [(zlib.adler32(block), len(block)) for block in blocks]
    assert joined_adler32(sums) == zlib.adler32(b"".join(blocks))


# -- gathered pieces --------------------------------------------------------------------------

PIECES = st.integers(0, 40_000) | st.sampled_from([0, 1, 16_383, 16_384, 16_385])


@given(st.lists(PIECES, max_size=12), st.none() | st.integers(0, 10 << 20))
def test_gathered_pieces_are_the_same_bytes(lengths: list[int], size_bytes: int | None) -> None:
    pieces = [bytes([i + 1]) * n for i, n in enumerate(lengths)]
    blocks: list[bytes] = []
    gather = Gather(lambda block: blocks.append(bytes(block)), size_bytes)
    for piece in pieces:
        gather.take(piece)
    gather.flush()
    assert b"".join(blocks) == b"".join(pieces)
    assert all(blocks)
    n_blocks = len(blocks)
    gather.flush()
    assert len(blocks) == n_blocks, "a second flush has nothing to write"


def test_small_pieces_become_large_blocks() -> None:
    blocks: list[int] = []
    gather = Gather(lambda block: blocks.append(len(block)), 1 << 30)
    for _ in range(1000):
        gather.take(b"x" * 16_384)
    gather.flush()
    assert len(blocks) == 16
    assert max(blocks) == MIB


def test_a_write_that_fails_loses_nothing_twice() -> None:
    written: list[bytes] = []

    def write(block: memoryview) -> None:
        if not written:
            written.append(b"")
            raise UsageError("full")
        written.append(bytes(block))

    gather = Gather(write, None)
    gather.take(b"abc")
    with pytest.raises(UsageError):
        gather.flush()
    gather.flush()
    assert written == [b""], "the block that could not be written does not come again"


# -- a mirror ---------------------------------------------------------------------------------

HERE = ["a.h5", "b.h5", "x/c.h5", "x/y/d.h5", "z/e.h5"]


@pytest.mark.parametrize(
    ("there", "empty", "patterns", "extra", "protected"),
    [
        (HERE, [], {}, [], []),
        (["a.h5"], [], {}, ["b.h5", "x/c.h5", "x/y/d.h5", "z/e.h5"], []),
        ([], [""], {}, [], HERE),
        (["a.h5"], ["x"], {}, ["b.h5", "z/e.h5"], ["x/c.h5", "x/y/d.h5"]),
        (["a.h5", "x/c.h5"], ["x/y"], {}, ["b.h5", "z/e.h5"], ["x/y/d.h5"]),
        (["a.h5"], ["x/y/d.h5", "a", "y", "z/e"], {}, ["b.h5", "x/c.h5", "x/y/d.h5", "z/e.h5"], []),
        ([], [], {"exclude": ["x"]}, ["a.h5", "b.h5", "z/e.h5"], []),
        ([], [], {"exclude": ["*.h5"]}, [], []),
        ([], [], {"include": ["b*", "z/*"]}, ["b.h5", "z/e.h5"], []),
        ([], ["z"], {"include": ["b*", "z/*"], "exclude": ["b*"]}, [], ["z/e.h5"]),
    ],
)  # fmt: skip
def test_what_a_mirror_holds_too_much(there, empty, patterns, extra, protected) -> None:
    assert superfluous(HERE, there, empty, **patterns) == (extra, protected)


@pytest.mark.parametrize("folder", ["", "x/", "x/y/"])
@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("manifest.jsonl", True),
        (".a.h5.part", True),
        (".a.h5.part.json", True),
        (".a.h5.part.ranges", True),
        (".a.h5.part.ranges.new", True),
        ("a.h5.part", False),
        (".hidden", False),
        ("my-manifest.jsonl", False),
        (".part", True),
        ("part", False),
    ],
)
def test_our_own_files_stay(folder: str, name: str, is_ours: bool) -> None:
    extra, protected = superfluous([folder + name], [], [])
    assert protected == []
    assert extra == ([] if is_ours else [folder + name])


def test_files_here_and_their_removal(tmp_path) -> None:
    folder = tmp_path / "mirror"
    assert list(files_here(folder)) == []
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").touch()
    for name in HERE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "link").symlink_to(outside)
    assert sorted(files_here(folder)) == HERE
    remove_here(folder, ["x/y/d.h5", "z/e.h5", "gone.h5"])
    assert sorted(files_here(folder)) == ["a.h5", "b.h5", "x/c.h5"]
    assert sorted(p.name for p in folder.iterdir()) == ["a.h5", "b.h5", "link", "x"]
    assert not (folder / "x/y").exists()
    remove_here(folder, ["a.h5", "b.h5", "x/c.h5"])
    assert folder.is_dir()
    assert (outside / "f").exists()


# -- a rate -----------------------------------------------------------------------------------


class Clock:
    """A clock that only sleep() moves."""

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
    monkeypatch.setattr(throttle, "time", clock)
    return clock


def test_bytes_take_as_long_as_the_rate_says(clock: Clock) -> None:
    limit = throttle.Throttle(1000.0)
    for _ in range(50):
        limit.pay(100)
    assert clock.now == pytest.approx(1005.0)
    assert clock.naps == pytest.approx([0.1] * 50)


def test_all_that_come_at_once_queue_up(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "sleep", clock.naps.append)  # each sleeps in a thread of its own
    limit = throttle.Throttle(1000.0)
    for _ in range(4):
        limit.pay(500)
    assert clock.naps == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_a_stream_that_is_slow_anyway_does_not_wait(clock: Clock) -> None:
    limit = throttle.Throttle(1000.0)
    for _ in range(10):
        clock.now += 0.2
        limit.pay(100)
    assert clock.naps == []


def test_a_long_pause_saves_up_little(clock: Clock) -> None:
    limit = throttle.Throttle(1000.0)
    clock.now += 3600
    limit.pay(10_000)
    assert clock.naps == [pytest.approx(9.5)]


def test_without_a_limit_nothing_waits(clock: Clock) -> None:
    throttle.Throttle().pay(1 << 60)
    throttle.current().pay(1 << 60)
    assert clock.naps == []


def test_a_limit_holds_within_and_is_shared_by_threads(clock: Clock) -> None:
    before = throttle.current()
    with throttle.limited_to(1000.0):
        at_once(lambda _: throttle.current().pay(500), range(8), 4, threading.Event())
        assert sum(clock.naps) >= 4.0
        with throttle.limited_to(None):
            n_naps = len(clock.naps)
            throttle.current().pay(1 << 60)
            assert len(clock.naps) == n_naps
    assert throttle.current() is before


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
    with pytest.raises(click.BadParameter, match="is no rate such as 50M"):
        Rate().convert(text, None, None)


# -- many at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 3, 100])
def test_all_results_in_order(n_threads: int) -> None:
    items = list(range(50))
    assert at_once(lambda n: n * n, items, n_threads, threading.Event()) == [n * n for n in items]
    assert at_once(lambda n: n, [], n_threads, threading.Event()) == []


def test_an_error_ends_the_rest_and_is_raised() -> None:
    stop = threading.Event()
    done: list[int] = []

    def work(n: int) -> None:
        if n == 3:
            raise ValueError("third")
        done.append(n)

    with pytest.raises(ValueError, match="third"):
        at_once(work, range(1000), 1, stop)
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
        at_once(work, range(2), 2, stop)
    assert ended == [1]


def test_a_stop_is_told() -> None:
    stop = threading.Event()
    done: list[int] = []

    def work(n: int) -> None:
        done.append(n)
        if n == 2:
            stop.set()

    with pytest.raises(Stopped):
        at_once(work, range(1000), 1, stop)
    assert done == [0, 1, 2]


def test_all_work_can_be_stopped_at_once() -> None:
    begun = threading.Event()

    def work(_: int) -> None:
        begun.set()
        assert stop.wait(DEADLINE_S)

    stop = threading.Event()
    stopper = threading.Thread(target=lambda: begun.wait(DEADLINE_S) and crew.stop_all())
    stopper.start()
    with pytest.raises(Stopped):
        at_once(work, range(3), 2, stop)
    stopper.join()


@pytest.mark.parametrize(
    ("busy", "most", "expected"),
    [
        ([0.0] * 5, 8, [2, 4, 8, 8, 8]),
        ([0.0] * 4, 5, [2, 4, 5, 5]),
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
    monkeypatch.setattr(crew.time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(crew.time, "monotonic", lambda: now["clock"])
    pace, n_now, seen = Pace(most), 0, []
    for share in busy:
        now["clock"] += 0.02
        now["cpu"] += 0.02 * share
        n_now = pace.n_wanted(n_now)
        seen.append(n_now)
    assert seen == expected


# -- verdicts ---------------------------------------------------------------------------------


@pytest.fixture
def night(tmp_path):
    """Four files and their manifest; the fourth did not come."""
    folder = tmp_path / "night"
    manifest = Manifest(folder / "manifest.jsonl")
    for i, name in enumerate(["a.h5", "x/b.h5", "c.h5"]):
        data = os.urandom(1000 + i)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        checksum = Checksum("adler32", f"{zlib.adler32(data):08x}")
        if name == "c.h5":
            checksum = Checksum("sha256", hashlib.sha256(data).hexdigest())
        manifest.append(
            Transfer(f"/n/{name}", str(folder / name), len(data), checksum=checksum, verified=True)
        )
    manifest.append(Transfer("/n/d.h5", str(folder / "d.h5"), 7, error="Nearline: on tape"))
    return folder


def verdicts(where):
    return {v.path.removeprefix("/n/"): v.verdict for v in verify(where)}


GOOD = {"a.h5": "intact", "x/b.h5": "intact", "c.h5": "intact", "d.h5": "failed"}


def flip(file) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])


def test_what_is_intact_and_what_never_came(night) -> None:
    found = verify(night)
    assert {v.path.removeprefix("/n/"): v.verdict for v in found} == GOOD
    assert [v.path for v in found] == ["/n/a.h5", "/n/x/b.h5", "/n/c.h5", "/n/d.h5"]
    assert [v.ok for v in found] == [True, True, True, False]
    assert found[3].said == "Nearline: on tape"
    assert found[0].to_dict()["checksum"].startswith("adler32:")
    assert verdicts(night / "manifest.jsonl") == GOOD


@pytest.mark.parametrize("name", ["a.h5", "x/b.h5", "c.h5"])
def test_what_is_not_intact(night, name: str) -> None:
    flip(night / name)
    assert verdicts(night) == GOOD | {name: "damaged"}
    with (night / name).open("ab") as stream:
        stream.write(b"more")
    damaged = next(v for v in verify(night) if v.verdict == "damaged")
    assert damaged.local == str(night / name)
    assert "in the manifest" in (damaged.said or "")
    assert "bytes" in (damaged.said or "")
    (night / name).unlink()
    assert verdicts(night) == GOOD | {name: "missing"}
    (night / name).mkdir()
    assert verdicts(night)[name] in ("damaged", "unreadable")


def test_a_folder_that_was_moved_takes_its_proofs_along(night, tmp_path, monkeypatch) -> None:
    moved = night.rename(tmp_path / "elsewhere")
    assert verdicts(moved) == GOOD
    monkeypatch.chdir(moved)
    assert verdicts(moved.relative_to(moved)) == GOOD
    assert verdicts(tmp_path) == GOOD, "a manifest further below is found"
    flip(moved / "x/b.h5")
    assert verdicts(moved)["x/b.h5"] == "damaged"


def test_a_proof_without_a_checksum_says_so(night) -> None:
    manifest = Manifest(night / "manifest.jsonl")
    manifest.append(replace(manifest.proofs["/n/a.h5"], checksum=None, verified=False))
    first = verify(night)[0]
    assert first.ok
    assert first.said == "the manifest holds no checksum"


def test_no_manifest(tmp_path) -> None:
    with pytest.raises(NotFound, match=r"no manifest\.jsonl"):
        verify(tmp_path)
    with pytest.raises(NotFound):
        verify(tmp_path / "nothing")


@pytest.mark.parametrize("where", ["proofs", "absolute"])
def test_a_manifest_in_another_folder_than_its_files(tmp_path, monkeypatch, where: str) -> None:
    """As of `ctaflows get -r n there --manifest proofs/n.jsonl`."""
    monkeypatch.chdir(tmp_path)
    folder = Path("proofs") if where == "proofs" else tmp_path / "proofs"
    Path("there").mkdir()
    Path("there/a.h5").write_bytes(b"a")
    Manifest(folder / "n.jsonl").append(Transfer("/n/a.h5", "there/a.h5", 1))
    assert verdicts(folder / "n.jsonl") == {"a.h5": "intact"}
