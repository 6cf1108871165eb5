"""The manifest: a line of proof for each file."""

import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctaflows.errors import CtaflowsError, NoSpace, NotFound, UsageError
from ctaflows.model import Checksum, Transfer
from ctaflows.transfer.manifest import NAME, Manifest
from ctaflows.transfer.verify import verify

NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)
MD5, ADLER = Checksum("md5", "aa"), Checksum("adler32", "bb")


def done(path, **more):
    return Transfer(path, f"/data{path}", 5, 5, checksum=MD5, verified=True, mtime=NOON, **more)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "night" / NAME


@pytest.mark.parametrize("content", [b"", os.urandom(999), b"{}\n"])
def test_a_manifest_without_a_record_verifies_nothing(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(NotFound, match="No file is recorded"):
        verify(file.parent)


def test_a_manifest_reads_what_was_written(file):
    manifest = Manifest(file)
    assert manifest.proofs == {}
    assert not file.exists()
    manifest.append(done("/a"))
    manifest.append(done("/b", note="naïve “…” 日本"))
    assert manifest.proofs == {"/a": done("/a"), "/b": done("/b", note="naïve “…” 日本")}
    assert Manifest(file).proofs == manifest.proofs
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["/a", "/b"]


def test_the_last_line_of_a_path_counts(file):
    manifest = Manifest(file)
    manifest.append(done("/a", error="Lost: gone"))
    manifest.append(done("/b"))
    manifest.append(done("/a"))
    assert manifest.proofs["/a"].ok
    assert Manifest(file).proofs == manifest.proofs
    assert len(file.read_text().splitlines()) == 3


def test_eight_threads_write_whole_lines(file):
    manifest = Manifest(file)
    start = threading.Barrier(8)

    def work(n):
        start.wait()
        for i in range(100):
            manifest.append(done(f"/{n}/{i}", note="x" * (i * 50)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    paths = [json.loads(line)["path"] for line in file.read_text().splitlines()]
    assert sorted(paths) == sorted(f"/{n}/{i}" for n in range(8) for i in range(100))
    assert Manifest(file).proofs == manifest.proofs


@given(st.integers(0, 400))
def test_a_last_line_that_was_cut_is_passed_over(n_cut):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / NAME
        manifest = Manifest(file)
        manifest.append(done("/a"))
        n_first = file.stat().st_size
        manifest.append(done("/b"))
        n_all = file.stat().st_size
        os.truncate(file, max(n_first, n_all - n_cut))
        left = Manifest(file).proofs
        assert left["/a"] == done("/a")
        assert set(left) == ({"/a", "/b"} if n_cut <= 1 else {"/a"})


def test_after_a_line_that_was_cut_the_next_one_counts(file):
    manifest = Manifest(file)
    manifest.append(done("/a"))
    manifest.append(done("/b"))
    os.truncate(file, file.stat().st_size - 20)
    again = Manifest(file)
    again.append(done("/c"))
    again.append(done("/d"))
    assert set(Manifest(file).proofs) == {"/a", "/c", "/d"}


def test_a_write_that_fails_does_not_take_the_next_line_along(file, monkeypatch):
    Manifest(file).append(done("/a"))
    os.truncate(file, file.stat().st_size - 20)
    manifest = Manifest(file)

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ctaflows.transfer.manifest.os.write", full)
        with pytest.raises(NoSpace):
            manifest.append(done("/b"))
    manifest.append(done("/c"))
    assert set(Manifest(file).proofs) == {"/c"}


def test_a_line_written_in_part_is_completed_or_said_and_the_next_one_counts(file, monkeypatch):
    # what a disk does that fills up, or a quota
    manifest = Manifest(file)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(
            "ctaflows.transfer.manifest.os.write",
            lambda d, data: real(d, data[: -(-len(data) // 2)]),
        )
        try:
            manifest.append(done("/a"))
        except CtaflowsError:
            assert "/a" not in manifest.proofs
    manifest.append(done("/b"))
    assert Manifest(file).proofs == manifest.proofs
    assert "/b" in manifest.proofs


RUBBISH = [
    b"",
    b"\n\n",
    b"rubbish",
    b"{}",
    b"[]",
    b"null",
    b"5",
    b'{"path": "/x"}',
    b'{"path": "/x", "local": "x", "checksum": 5}',
    b'{"path": "/x", "local": "x", "mtime": 5}',
    b'{"path": "/x", "local": "x", "mtime": "noon"}',
    b'{"path": "/x", "local": "x", "mtime": "9999-12-31T23:59:59-12:00"}',
    b'{"path": ["/x"], "local": "x"}',
    b'{"path": {"a": 1}, "local": "x"}',
    b"\xff\xfe\x00",
    b"[" * 200_000,
    b"\0" * 100,
]


@pytest.mark.parametrize("line", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_between_lines_is_passed_over(line, file):
    manifest = Manifest(file)
    manifest.append(done("/a"))
    with file.open("ab") as stream:
        stream.write(line + b"\n")
    manifest.append(done("/b"))
    assert Manifest(file).proofs == {"/a": done("/a"), "/b": done("/b")}


@given(st.text(min_size=1, max_size=20))
@example("a\u2028b")
@example("a\x85b")
@example("a\nb\r\x0b\x0c\x1c")
@example("a\udce9b")
def test_any_name_is_read_back(name):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(Path(folder) / NAME)
        manifest.append(done(f"/{name}", note=name))
        assert Manifest(manifest.file).proofs == {f"/{name}": done(f"/{name}", note=name)}
        # RFC 8259 §8.1: other programs refuse what is no UTF-8
        assert json.loads(manifest.file.read_bytes().decode("utf-8"))["path"] == f"/{name}"


def test_a_line_of_an_older_release_that_is_no_utf8_is_read(file):
    old = json.dumps(done("/caf\udce9").to_dict(), ensure_ascii=False) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(old.encode("utf-8", "surrogateescape"))
    assert list(Manifest(file).proofs) == ["/caf\udce9"]


def test_a_destination_under_a_file_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        Manifest(tmp_path / "file" / NAME).append(done("/a"))


def test_a_folder_in_place_of_the_manifest_is_a_usage_error(file):
    file.mkdir(parents=True)
    with pytest.raises(UsageError):
        Manifest(file).append(done("/a"))


def test_a_disk_that_is_full_for_the_manifest_is_no_space(file, monkeypatch):
    manifest = Manifest(file)

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ctaflows.transfer.manifest.os.write", full)
    with pytest.raises(NoSpace):
        manifest.append(done("/a"))
    assert "/a" not in manifest.proofs


@pytest.mark.parametrize(
    ("known", "found", "is_news"),
    [
        (None, {"skipped": True}, True),
        ({}, {"skipped": True}, False),
        ({}, {}, True),  # it moved
        ({"error": "Lost: gone"}, {"skipped": True}, True),
        ({"error": "Lost: gone", "verified": False}, {"skipped": True, "verified": False}, True),
        ({"verified": False}, {"skipped": True}, True),
        ({}, {"skipped": True, "verified": False, "checksum": None}, True),
        ({"checksum": None, "verified": False}, {"skipped": True, "verified": False}, True),
        (
            {"verified": False},
            {"skipped": True, "verified": False, "checksum": None},
            False,
        ),
        ({}, {"skipped": True, "checksum": Checksum("md5", "aa")}, False),
        (
            {"verified": False},
            {"skipped": True, "verified": False, "checksum": Checksum("md5", "aa")},
            True,
        ),
    ],
)
def test_a_line_is_written_where_it_says_something_new(
    tmp_path: Path, known: dict[str, Any] | None, found: dict[str, Any], is_news: bool
) -> None:
    file = tmp_path / "manifest.jsonl"
    base = {"checksum": Checksum("adler32", "00000001"), "verified": True}
    if known is not None:
        Manifest(file).append(Transfer("/a", "a", 1, **{**base, **known}))
    n_before = len(file.read_text().splitlines()) if file.exists() else 0
    manifest = Manifest(file)
    manifest.record(Transfer("/a", str(tmp_path / "a"), 1, **{**base, **found}))
    assert len(file.read_text().splitlines()) - n_before == is_news
