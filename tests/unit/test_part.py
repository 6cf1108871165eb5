"""Files that are not whole yet: their bytes, their journals, their locks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import threading
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows import atomic_files
from ctaflows.errors import NoSpace, Stopped, UsageError
from ctaflows.model import Checksum, Entry
from ctaflows.transfer import part as parts
from ctaflows.transfer.part import Part, held_part, part_name, ranges_of, tidy

NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)
MD5, ADLER = Checksum("md5", "aa"), Checksum("adler32", "bb")
ENTRY = Entry("/cta/a.h5", size_bytes=10, mtime=NOON, checksums=(MD5, ADLER), etag='"1"')


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "night" / "a.h5"


def names(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir())


def begun(target: Path, entry: Entry = ENTRY) -> Part:
    """Return the part file as a download has it before the first request."""
    part = Part(str(target), entry)
    assert part.open()
    if part.is_new:
        part.cut(may_cut=True)
    else:
        part.resume(may_cut=True)
    return part


def write(part: Part, data: bytes) -> None:
    part.windows[0].write(data)


def finish(part: Part) -> None:
    part.sync()
    part.finish()


def leave(target: Path, data: bytes = b"01234", entry: Entry = ENTRY) -> None:
    """An earlier try that came this far."""
    part = begun(target, entry)
    write(part, data)
    part.leave(keep=True)


def kept_bytes(target: Path, entry: Entry = ENTRY) -> int:
    part = begun(target, entry)
    try:
        return part.resumed_bytes
    finally:
        part.close()


def test_a_file_from_first_byte_to_final_name(target: Path) -> None:
    part = begun(target)
    write(part, b"01234")
    write(part, b"56789")
    assert names(target) == [".a.h5.part"]
    finish(part)
    assert target.read_bytes() == b"0123456789"
    assert target.stat().st_mtime == NOON.timestamp()
    assert names(target) == ["a.h5"]


@pytest.mark.parametrize("mtime", [None, 0.0, 1.5, 1731672000.0, 4e9])
def test_it_gets_the_time_of_its_source(target: Path, mtime: float | None) -> None:
    time = None if mtime is None else datetime.fromtimestamp(mtime, UTC)
    part = begun(target, replace(ENTRY, size_bytes=1, mtime=time))
    write(part, b"x")
    before = Path(part.path).stat().st_mtime
    finish(part)
    assert target.stat().st_mtime == (before if mtime is None else mtime)


def test_it_replaces_an_older_file_at_the_end(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old and longer")
    part = begun(target, replace(ENTRY, size_bytes=3))
    write(part, b"new")
    assert target.read_bytes() == b"old and longer"
    finish(part)
    assert target.read_bytes() == b"new"


# -- resumed ---------------------------------------------------------------------------------------


def test_bytes_of_the_same_source_are_kept(target: Path) -> None:
    leave(target)
    part = begun(target, replace(ENTRY, checksums=(ADLER, MD5), locality="ONLINE"))
    assert part.resumed_bytes == 5
    assert part.windows[0].next == 5
    write(part, b"56789")
    assert part.checksum("adler32").value == f"{zlib.adler32(b'0123456789'):08x}"
    assert part.checksum("md5").value == hashlib.md5(b"0123456789").hexdigest()
    finish(part)
    assert target.read_bytes() == b"0123456789"


CHANGES = {
    "path": {"path": "/cta/b.h5"},
    "size": {"size_bytes": 11},
    "etag": {"etag": '"2"'},
    "time": {"mtime": NOON.replace(second=1)},
    "checksum": {"checksums": (Checksum("md5", "cc"), ADLER)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_bytes_of_another_source_are_thrown_away(target: Path, change: dict[str, object]) -> None:
    leave(target)
    other = replace(ENTRY, **change)
    part = begun(target, other)
    assert part.resumed_bytes == 0
    assert Path(part.path).stat().st_size == 0
    write(part, b"abc")
    part.leave(keep=True)
    assert kept_bytes(target, other) == 3
    assert kept_bytes(target) == 0


@pytest.mark.parametrize(
    "told", [{"etag": None}, {"mtime": None}, {"checksums": ()}, {"checksums": (MD5,)}], ids=str
)
@pytest.mark.parametrize("first", [False, True])
def test_what_is_told_at_one_time_only_throws_no_bytes_away(
    target: Path, told: dict[str, object], *, first: bool
) -> None:
    less = replace(ENTRY, **told)
    leave(target, entry=less if first else ENTRY)
    assert kept_bytes(target, ENTRY if first else less) == 5


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
    target: Path, before: dict[str, object], now: dict[str, object]
) -> None:
    leave(target, entry=Entry("/cta/a.h5", size_bytes=10, **before))
    assert kept_bytes(target, Entry("/cta/a.h5", size_bytes=10, **now)) == 0


@pytest.mark.parametrize(("n_bytes", "kept"), [(0, 0), (1, 1), (10, 10), (11, 0), (99, 0)])
def test_more_bytes_than_the_source_has_are_thrown_away(
    target: Path, n_bytes: int, kept: int
) -> None:
    leave(target)
    target.with_name(".a.h5.part").write_bytes(b"0" * n_bytes)
    assert kept_bytes(target) == kept


JOURNALS = [None, b"", b"{", b"{}", b"null", b"\xff", b"[]", b"[" * 200_000]


@pytest.mark.parametrize("journal", JOURNALS, ids=range(len(JOURNALS)))
def test_bytes_without_a_good_journal_are_thrown_away(target: Path, journal: bytes | None) -> None:
    leave(target)
    file = target.with_name(".a.h5.part.json")
    if journal is None:
        file.unlink()
    else:
        file.write_bytes(journal)
    assert kept_bytes(target) == 0


def test_a_journal_of_another_version_is_gone_before_the_next_bytes(target: Path) -> None:
    """Else they would be taken for that version's, should it come back."""
    leave(target)
    other = begun(target, replace(ENTRY, etag='"2"', checksums=()))
    write(other, b"abcdefg")
    os.close(other.descriptor or 0)  # as a kill would
    assert kept_bytes(target) == 0


def test_a_file_that_is_made_has_no_journal_of_a_download(target: Path) -> None:
    leave(target)
    with held_part(target, ENTRY) as part:
        Path(part.path).write_bytes(b"abcdefg")
        assert names(target) == [".a.h5.part"]


def test_a_journal_without_bytes_begins_at_zero(target: Path) -> None:
    leave(target)
    target.with_name(".a.h5.part").unlink()
    assert kept_bytes(target) == 0


def test_the_ranges_of_the_first_version_are_begun_anew(target: Path) -> None:
    """Its part file has gaps, which a journal in another format tells."""
    leave(target)
    target.with_name(".a.h5.part.ranges").write_text(f"{5:020d}\n")
    part = begun(target)
    assert part.resumed_bytes == 0
    write(part, b"0123456789")
    finish(part)
    assert names(target) == ["a.h5"]


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(0, 5))
@settings(max_examples=50)
def test_however_often_it_is_interrupted_the_bytes_are_the_same(
    pieces: list[bytes], n_first: int
) -> None:
    whole = b"".join(pieces)
    entry = Entry("/a", size_bytes=len(whole), etag="x")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "a"
        for n_done in (n_first, len(pieces)):
            part = begun(target, entry)
            for piece in [whole[part.resumed_bytes : len(b"".join(pieces[:n_done]))]]:
                write(part, piece)
            part.leave(keep=True)
        part = begun(target, entry)
        assert part.resumed_bytes == len(whole)
        assert part.checksum("adler32").value == f"{zlib.adler32(whole):08x}"
        finish(part)
        assert target.read_bytes() == whole


def test_it_begins_anew_with_another_version(target: Path) -> None:
    leave(target)
    part = begun(target)
    newer = replace(ENTRY, size_bytes=5, checksums=(), etag='"2"')
    part.begin_anew(newer)
    assert (part.size_bytes, part.promised, part.resumed_bytes) == (5, None, 0)
    write(part, b"right")
    finish(part)
    assert target.read_bytes() == b"right"
    assert names(target) == ["a.h5"]


def test_what_may_not_be_kept_leaves_nothing(target: Path) -> None:
    leave(target)
    part = begun(target)
    part.leave(keep=False)
    part.leave(keep=False)
    assert names(target) == []


def test_a_part_without_bytes_leaves_nothing(target: Path) -> None:
    begun(target).leave(keep=True)
    assert names(target) == []


# -- ranges ----------------------------------------------------------------------------------------


@pytest.fixture
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "RANGES_FROM_BYTES", 8)
    for name in ("_MIB", "_NOTED_BYTES"):
        monkeypatch.setattr(parts, name, 1)
    for name in ("_LEAST_RANGE_BYTES", "_MOST_RANGE_BYTES"):
        monkeypatch.setattr(parts, name, 4)


@given(st.integers(0, 1 << 40))
@settings(max_examples=200)
def test_ranges_follow_each_other_without_gaps(size_bytes: int) -> None:
    ranges = ranges_of(size_bytes)
    assert [start for start, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[-1][1] == size_bytes
    lengths = [end - start for start, end in ranges]
    if len(ranges) > 1:
        assert sorted(lengths[:-1], reverse=True) == lengths[:-1]
        assert all(4 << 20 <= n <= 64 << 20 for n in lengths[:-1])
    else:
        assert size_bytes < 64 << 20


@pytest.mark.usefixtures("short_ranges")
def test_ranges_are_resumed_each_from_where_it_was(target: Path) -> None:
    part = begun(target)
    assert [(w.start, w.end) for w in part.windows] == [(0, 4), (4, 8), (8, 10)]
    part.windows[1].write(b"45")
    part.windows[2].write(b"89")
    part.windows[1].write(b"6")
    os.close(part.descriptor or 0)  # as a kill would
    again = begun(target)
    assert [w.next for w in again.windows] == [0, 7, 10]
    assert again.resumed_bytes == 5
    assert [w.start for w in again.missing()] == [0, 4]
    again.windows[0].write(b"0123")
    again.windows[1].write(b"7")
    assert again.checksum("adler32").value == f"{zlib.adler32(b'0123456789'):08x}"
    assert again.checksum("sha256").value == hashlib.sha256(b"0123456789").hexdigest()
    finish(again)
    assert target.read_bytes() == b"0123456789"
    assert names(target) == ["a.h5"]


@pytest.mark.usefixtures("short_ranges")
def test_what_a_second_run_brought_of_ranges_survives_a_kill_too(target: Path) -> None:
    for data in (b"0", b"12"):
        part = begun(target)
        part.windows[0].write(data)
        os.close(part.descriptor or 0)  # as a kill would
    assert kept_bytes(target) == 3


@pytest.mark.usefixtures("short_ranges")
def test_what_came_in_one_piece_is_gone_on_with_in_ranges(target: Path) -> None:
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(parts, "RANGES_FROM_BYTES", 1 << 30)
        leave(target)
    part = begun(target)
    assert [(w.start, w.next, w.end) for w in part.windows] == [(0, 4, 4), (4, 5, 8), (8, 8, 10)]
    part.close()


@pytest.mark.usefixtures("short_ranges")
@pytest.mark.parametrize(
    "lines",  # the first: more than the part file has
    [[0, 8, 8], [5, 4, 8], [0, 4], [0, 4, 11], ["x", 4, 8], [0, 3, 8], [-1, 4, 8]],
    ids=str,
)
def test_ranges_that_make_no_sense_are_thrown_away(target: Path, lines: list[object]) -> None:
    part = begun(target)
    part.windows[0].write(b"0123")
    part.leave(keep=True)
    journal = target.with_name(".a.h5.part.json")
    header = json.loads(journal.read_text().partition("\n")[0])
    journal.write_text(json.dumps(header) + "\n" + "".join(f"{n}\n" for n in lines))
    assert kept_bytes(target) == 0


def test_hashing_goes_on_where_it_was(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = begun(target)
    write(part, b"01234")
    part.hash_on("sha256")
    read: list[int] = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: read.append(at) or real(fd, n, at))
    write(part, b"56789")
    assert part.checksum("sha256").value == hashlib.sha256(b"0123456789").hexdigest()
    assert read == [5]
    part.close()


# -- one process at a time -------------------------------------------------------------------------


def test_a_part_is_held_until_it_is_closed(target: Path) -> None:
    first, second = begun(target), Part(str(target), ENTRY)
    assert not second.open()
    first.close()
    assert second.open()
    second.close()


def test_a_part_that_was_finished_meanwhile_is_begun_anew(target: Path) -> None:
    first = begun(target)
    write(first, b"0123456789")
    second = Part(str(target), ENTRY)
    assert not second.open()
    finish(first)
    assert second.open()
    assert second.is_new
    second.leave(keep=True)
    assert names(target) == ["a.h5"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_files_come_all_the_same(
    target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    leave(target)
    part = begun(target)
    assert part.resumed_bytes == 5
    write(part, b"56789")
    finish(part)
    leave(target)
    tidy(os.fspath(target))  # nobody knows whether another process is at it
    assert names(target) == [".a.h5.part", ".a.h5.part.json", "a.h5"]


@pytest.mark.parametrize("what", ["longer", "shorter", "another file", "written over"])
def test_what_somebody_else_wrote_gets_no_name(target: Path, what: str) -> None:
    """Another computer, whose locks this one does not see."""
    part = begun(target)
    write(part, b"0123456789")
    part.sync()
    other = Path(part.path)
    if what == "longer":
        with other.open("ab") as stream:
            stream.write(b"x")
    elif what == "shorter":
        os.truncate(other, 9)
    elif what == "another file":
        (other.parent / "new").write_bytes(b"9876543210")
        (other.parent / "new").replace(other)
    else:
        with other.open("r+b") as stream:
            stream.write(b"x")
    with pytest.raises(UsageError, match="can't be written"):
        part.finish()
    assert not target.exists()
    part.leave(keep=False)


def test_files_have_the_mode_of_the_umask(target: Path) -> None:
    before = os.umask(0o002)
    try:
        part = begun(target)
        write(part, b"0123456789")
        finish(part)
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o664


def test_a_made_file_waits_for_another_and_can_be_stopped(target: Path) -> None:
    first, stop = begun(target), threading.Event()
    stop.set()
    with pytest.raises(Stopped), held_part(target, ENTRY, stop):
        pass
    first.close()
    with held_part(target, ENTRY) as part:
        Path(part.path).write_bytes(b"made")
        part.size_bytes = 4
        part.sync()
        part.finish()
    assert target.read_bytes() == b"made"


# -- faults of the local disk ----------------------------------------------------------------------


def test_short_writes_are_completed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes a part of what it is given."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))
    part = begun(target)
    write(part, b"0123456789")
    finish(part)
    assert target.read_bytes() == b"0123456789"


def test_a_full_disk_is_no_space(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = begun(target)
    write(part, b"01234")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(NoSpace) as caught:
            write(part, b"56789")
    assert caught.value.where == str(target)
    assert "No space left" in (caught.value.said or "")
    assert caught.value.hint
    part.leave(keep=True)
    assert kept_bytes(target) == 5


@pytest.mark.parametrize("call", ["fsync", "utime"])
def test_a_fault_at_the_end_is_ours(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    part = begun(target)
    write(part, b"0123456789")
    monkeypatch.setattr(os, call, broken)
    with pytest.raises(NoSpace):
        finish(part)
    assert not target.exists()
    part.close()


def test_a_file_system_that_can_t_sync_is_a_warning(
    target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(atomic_files, "_warned_of_sync", set())
    monkeypatch.setattr(os, "fsync", refused)
    for _ in range(2):
        part = begun(target)
        write(part, b"0123456789")
        finish(part)
    assert target.read_bytes() == b"0123456789"
    assert sum("power cut may lose what" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("how", ["parent is a file", "above it is a file", "part is a folder"])
def test_a_place_that_can_not_be_written_is_a_usage_error(tmp_path: Path, how: str) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "a.h5"
    if how == "above it is a file":
        target = tmp_path / "file" / "b" / "a.h5"
    elif how == "part is a folder":
        target = tmp_path / "a.h5"
        (tmp_path / ".a.h5.part").mkdir()
    with pytest.raises(UsageError) as caught:
        Part(str(target), ENTRY).open()
    assert caught.value.hint


def test_a_folder_of_the_final_name_is_a_usage_error(target: Path) -> None:
    target.mkdir(parents=True)
    part = begun(target)
    write(part, b"0123456789")
    with pytest.raises(UsageError):
        finish(part)
    part.close()


@pytest.mark.parametrize("name", ["x" * 244, "x" * 255, "é" * 127])
def test_the_longest_names_can_be_fetched(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    assert len(os.fsencode(Path(part_name(str(target))).name + ".json.new")) <= 255
    part = begun(target)
    write(part, b"0123456789")
    finish(part)
    assert target.read_bytes() == b"0123456789"
