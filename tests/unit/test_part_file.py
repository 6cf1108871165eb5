"""Files that are not whole yet."""

import errno
import fcntl
import io
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ctaflows.transfer.part_file import Part, tidy
from ctaflows.transfer.small import placed
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.errors import NoSpace, UsageError
from ctaflows.model import Checksum, Entry, Transfer

NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)
MD5, ADLER = Checksum("md5", "aa"), Checksum("adler32", "bb")


def done(path, **more):
    return Transfer(path, f"/data{path}", 5, 5, checksum=MD5, verified=True, mtime=NOON, **more)


ENTRY = Entry("/cta/a.h5", size_bytes=10, mtime=NOON, checksums=(MD5, ADLER), etag='"1"')


@pytest.fixture
def target(tmp_path):
    return tmp_path / "night" / "a.h5"


def names(target):
    return sorted(p.name for p in target.parent.iterdir())


def test_a_file_from_first_byte_to_final_name(target):
    with Part(target, ENTRY) as part:
        assert part.size_bytes == 0
        part.write([b"01234"])
        part.write([b""])
        part.write([b"56789"])
        assert part.size_bytes == 10
        assert names(target) == [".a.h5.part", ".a.h5.part.json"]
        part.finish(NOON.timestamp())
    assert target.read_bytes() == b"0123456789"
    assert target.stat().st_mtime == NOON.timestamp()
    assert stat.S_IMODE(target.stat().st_mode) & 0o133 == 0
    assert names(target) == ["a.h5"]


@pytest.mark.parametrize("mtime", [0.0, 1.5, 1731672000.0, 4e9])
def test_finish_sets_the_time(target, mtime):
    with Part(target, ENTRY) as part:
        part.finish(mtime)
    assert target.stat().st_mtime == mtime


def test_finish_without_a_time_leaves_the_present_one(target):
    with Part(target, ENTRY) as part:
        part.write([b"x"])
        before = part.path.stat().st_mtime
        part.finish(None)
    assert target.stat().st_mtime == before


def test_finish_replaces_an_older_file(target):
    target.parent.mkdir()
    target.write_bytes(b"old and longer")
    with Part(target, ENTRY) as part:
        part.write([b"new"])
        assert target.read_bytes() == b"old and longer"
        part.finish(None)
    assert target.read_bytes() == b"new"


def leave(target, data=b"01234", entry=ENTRY):
    """An earlier try that came this far."""
    with Part(target, entry) as part:
        part.write([data])


def test_bytes_of_the_same_source_are_kept(target):
    leave(target)
    with Part(target, replace(ENTRY, checksums=(ADLER, MD5), locality="ONLINE")) as part:
        assert part.size_bytes == 5
        part.write([b"56789"])
        part.finish(None)
    assert target.read_bytes() == b"0123456789"


CHANGES = {
    "path": "/cta/b.h5",
    "size_bytes": 11,
    "etag": '"2"',
    "mtime": NOON.replace(second=1),
    "checksums": (Checksum("md5", "cc"), ADLER),
}


@pytest.mark.parametrize("key", [*CHANGES, "no size"])
def test_bytes_of_another_source_are_thrown_away(key, target):
    leave(target)
    change = {"size_bytes": None} if key == "no size" else {key: CHANGES[key]}
    other = replace(ENTRY, **change)
    with Part(target, other) as part:
        assert part.size_bytes == 0
        assert part.path.stat().st_size == 0
        part.write([b"abc"])
    with Part(target, other) as part:  # the journal is of the new source now
        assert part.size_bytes == 3
    with Part(target, ENTRY) as part:
        assert part.size_bytes == 0


@pytest.mark.parametrize(
    "told", [{"etag": None}, {"mtime": None}, {"checksums": ()}, {"checksums": (MD5,)}], ids=str
)
@pytest.mark.parametrize("first", [False, True])
def test_what_is_told_at_one_time_only_throws_no_bytes_away(told, first, target):
    less = replace(ENTRY, **told)
    leave(target, entry=less if first else ENTRY)
    with Part(target, ENTRY if first else less) as part:
        assert part.size_bytes == 5


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {}),
        ({"mtime": NOON}, {"etag": '"1"'}),
        ({"checksums": (MD5,)}, {"checksums": (ADLER,)}),
    ],
    ids=str,
)
def test_where_nobody_can_tell_whether_the_source_is_the_same_bytes_are_thrown_away(
    before, now, target
):
    leave(target, entry=Entry("/cta/a.h5", size_bytes=10, **before))
    with Part(target, Entry("/cta/a.h5", size_bytes=10, **now)) as part:
        assert part.size_bytes == 0


@pytest.mark.parametrize(
    ("data", "kept"), [(b"", 0), (b"0", 1), (b"0" * 10, 10), (b"0" * 11, 0), (b"0" * 99, 0)]
)
def test_more_bytes_than_the_source_has_are_thrown_away(data, kept, target):
    leave(target, data)
    with Part(target, ENTRY) as part:
        assert part.size_bytes == kept


JOURNALS = [None, b"", b"{", b"{}", b"null", b"\xff", b"[]", b"[" * 200_000]


@pytest.mark.parametrize("journal", JOURNALS, ids=range(len(JOURNALS)))
def test_bytes_without_a_good_journal_are_thrown_away(journal, target):
    leave(target)
    file = target.with_name(".a.h5.part.json")
    if journal is None:
        file.unlink()
    else:
        file.write_bytes(journal)
    with Part(target, ENTRY) as part:
        assert part.size_bytes == 0


def test_a_journal_without_bytes_begins_at_zero(target):
    leave(target)
    target.with_name(".a.h5.part").unlink()
    with Part(target, ENTRY) as part:
        assert part.size_bytes == 0


def test_read_back_gives_the_bytes_and_stands_at_their_end(target):
    leave(target, b"01234")
    with Part(target, ENTRY) as part:
        assert b"".join(part.read_back()) == b"01234"
        part.write([b"56789"])
        assert b"".join(part.read_back()) == b"0123456789"
        part.finish(None)
    assert target.read_bytes() == b"0123456789"


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(0, 5))
@settings(max_examples=50)
def test_however_often_it_is_interrupted_the_bytes_are_the_same(pieces, n_first):
    import tempfile

    whole = b"".join(pieces)
    entry = Entry("/a", size_bytes=len(whole), etag="x")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "a"
        for n_done in (n_first, len(pieces)):
            with Part(target, entry) as part:
                while pieces[:n_done] and part.size_bytes < len(b"".join(pieces[:n_done])):
                    part.write([whole[part.size_bytes : len(b"".join(pieces[:n_done]))]])
        with Part(target, entry) as part:
            assert part.size_bytes == len(whole)
            part.finish(None)
        assert target.read_bytes() == whole


def test_restart_throws_the_bytes_away_and_goes_on(target):
    with Part(target, ENTRY) as part:
        part.write([b"wrong bytes"])
        part.restart()
        assert part.size_bytes == 0
        part.write([b"right"])
        part.finish(None)
    assert target.read_bytes() == b"right"


def test_discard_leaves_nothing(target):
    with Part(target, ENTRY) as part:
        part.write([b"01234"])
        part.discard()
        part.discard()
    assert names(target) == []
    with Part(target, ENTRY) as part:
        assert part.size_bytes == 0


def test_an_error_leaves_the_bytes_for_the_next_try(target):
    with pytest.raises(RuntimeError), Part(target, ENTRY) as part:  # noqa: PT012
        part.write([b"012"])
        raise RuntimeError
    with Part(target, ENTRY) as part:
        assert part.size_bytes == 3


@pytest.mark.parametrize("pieces", [[b"0123456789"], [b"0123", b"45", b"6789"], [b"x"] * 3000])
def test_short_writes_are_completed(target, monkeypatch, pieces):
    """A full disk takes a part of what it is given, and the system no more than 1024 pieces."""
    real, real_at = os.writev, os.pwritev
    monkeypatch.setattr(os, "writev", lambda fd, some: real(fd, [b"".join(some)[:3]]))
    monkeypatch.setattr(os, "pwritev", lambda fd, some, n: real_at(fd, [b"".join(some)[:3]], n))
    with Part(target, ENTRY) as part:
        part.write(pieces)
        assert part.size_bytes == len(b"".join(pieces))
        part.write_at(pieces, 5)
        assert b"".join(part.read_back()) == b"".join(pieces)[:5] + b"".join(pieces)


def test_many_small_pieces_are_written_in_one_call(target):
    with Part(target, ENTRY) as part:
        part.write([b"a", b"b"] * 2000)
        part.write_at([b"c", b"d"] * 2000, 4000)
        assert b"".join(part.read_back()) == b"ab" * 2000 + b"cd" * 2000


@pytest.mark.parametrize("name", ["x" * 244, "x" * 255, "é" * 127])
def test_the_longest_names_can_be_fetched(name, tmp_path):
    target = tmp_path / name
    with Part(target, ENTRY) as part:
        part.write([b"x"])
        part.finish(None)
    assert target.read_bytes() == b"x"


# one process at a time


def is_free(path):
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_a_part_is_held_until_it_is_closed(target):
    with Part(target, ENTRY) as part:
        assert not is_free(part.path)
    assert is_free(part.path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_files_come_all_the_same(target, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    leave(target)
    with Part(target, ENTRY) as part:
        assert (part.size_bytes, part.waited) == (5, False)
        part.write([b"56789"])
        part.finish(None)
    assert placed(b"small", target.with_name("b.h5"), ENTRY)
    leave(target)
    tidy(os.fspath(target))  # nobody knows whether another process is at it
    assert names(target) == [".a.h5.part", ".a.h5.part.json", "a.h5", "b.h5"]


def test_small_files_and_large_ones_have_the_mode_of_the_umask(target):
    before = os.umask(0o002)
    try:
        with Part(target, ENTRY) as part:
            part.finish(None)
        assert placed(b"small", target.with_name("b.h5"), ENTRY)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in target.parent.iterdir()} == {0o664}


def test_who_waited_for_a_part_that_was_finished_begins_a_new_one(target):
    with Part(target, ENTRY) as first, ThreadPoolExecutor(1) as pool:
        first.write([b"0123456789"])

        def second():
            with Part(target, ENTRY) as part:
                return part.size_bytes, part.path.stat().st_ino

        waiting = pool.submit(second)
        inode = first.path.stat().st_ino
        first.finish(None)
        first._stream.close()
        n_bytes, its_inode = waiting.result(timeout=60)
    assert n_bytes == 0
    assert its_inode != inode
    assert target.read_bytes() == b"0123456789"


def test_a_part_that_can_not_be_begun_is_not_held(target, monkeypatch):
    # whoever keeps the error (Prefect's states do) must not block the next try for ever
    def full(self, other):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(NoSpace) as kept:
            Part(target, ENTRY)
    assert is_free(target.with_name(".a.h5.part"))
    assert kept.value.__cause__ is not None


# faults of the local disk


def test_a_full_disk_is_no_space(target):
    with Part(target, ENTRY) as part:
        part.write([b"01234"])
        real, part._stream = part._stream, io.FileIO("/dev/full", "r+b")
        with pytest.raises(NoSpace) as caught:
            part.write([b"56789"])
        part._stream.close()
        part._stream = real
        assert part.size_bytes == 5
    assert caught.value.where == str(target)
    assert "No space left" in caught.value.said
    assert caught.value.hint
    with Part(target, ENTRY) as part:
        assert part.size_bytes == 5


@pytest.mark.parametrize("call", ["fsync", "utime"])
def test_a_fault_at_the_end_is_ours(call, target, monkeypatch):
    def broken(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Part(target, ENTRY) as part:
        monkeypatch.setattr(f"ctaflows.transfer.part_file.os.{call}", broken)
        with pytest.raises(NoSpace):
            part.finish(1.0)
    assert not target.exists()


@pytest.mark.parametrize("how", ["parent is a file", "above it is a file", "part is a folder"])
def test_a_place_that_can_not_be_written_is_a_usage_error(how, tmp_path):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "a.h5"
    if how == "above it is a file":
        target = tmp_path / "file" / "b" / "a.h5"
    elif how == "part is a folder":
        target = tmp_path / "a.h5"
        (tmp_path / ".a.h5.part").mkdir()
    with pytest.raises(UsageError) as caught:
        Part(target, ENTRY)
    assert caught.value.where == str(target)
    assert caught.value.hint


def test_a_folder_of_the_final_name_is_a_usage_error(target):
    target.mkdir(parents=True)
    with Part(target, ENTRY) as part:
        part.write([b"x"])
        with pytest.raises(UsageError):
            part.finish(None)
