"""The source is replaced while its bytes come, or between two runs: never a mixture of both."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest
from ctaflows.transfer.fetch import Job, fetch

from ctaflows.errors import CtaflowsError

if TYPE_CHECKING:
    from pathlib import Path

    from littledoor import Handler, LittleDoor

    from ctaflows.storage.webdav import WebDAVStorage

pytestmark = pytest.mark.usefixtures("short_ranges")

PATH = "/n/a.h5"
SIZES = {"one piece": 900_000, "ranges": 66 << 16}


def content(seed: int, size: int) -> bytes:
    block = random.Random(seed).randbytes(1 << 20)
    return (block * (size // len(block) + 1))[:size]


class Replaced:
    """Gives some of the old version, breaks off, and from then on has the new one.

    Parameters
    ----------
    little : LittleDoor
        Whose pool it is.
    old, new : bytes
        What the file is before and after.
    n_answers : int
        How many requests are answered from the old one, each with its first quarter.
    """

    def __init__(self, little: LittleDoor, old: bytes, new: bytes, n_answers: int) -> None:
        self.little, self.old, self.new = little, old, new
        self.left = n_answers
        self.n_sent, self.n_answers, self.all_sent = 0, n_answers, threading.Event()
        self._lock = threading.Lock()
        little.files[PATH] = old
        little.when("GET", self.answer, origin="pool")

    def answer(self, handler: Handler) -> bool:
        with self._lock:
            if not self.left:
                return False
            self.left -= 1
            is_last = not self.left
        said = handler.headers.get("range", "bytes=0-")[6:].partition("-")
        start, end = int(said[0]), int(said[2] or len(self.old) - 1) + 1
        stops = start + max(1, (end - start) // 4)
        status = "206 Partial Content" if "range" in handler.headers else "200 OK"
        head = [
            f"HTTP/1.1 {status}",
            f"Content-Length: {end - start}",
            f"Content-Range: bytes {start}-{end - 1}/{len(self.old)}",
            *(f"{k}: {v}" for k, v in self.little.digest(PATH).items()),
        ]
        if is_last:
            self.little.files[PATH] = self.new
        handler.raw("\r\n".join([*head, "\r\n"]), [self.old[start:stops]])
        with self._lock:
            self.n_sent += 1
            if self.n_sent == self.n_answers:
                self.all_sent.set()
        return True


def is_as(file: Path, data: bytes) -> bool:
    """A plain answer: pytest would look for the differences of 66 MiB for hours."""
    return file.read_bytes() == data


def versions(size: int, change: str) -> tuple[bytes, bytes]:
    old = content(1, size)
    new = {"same size": size, "longer": size + 70_000, "shorter": size - 70_000}[change]
    return old, content(2, new)


CHANGES = ("same size", "longer", "shorter")
SUMS = {True: "sums", False: "no sums"}
#: Library, change, size of the file, are there checksums?
CASES = [
    *(("libcurl", change, "one piece", sums) for change in CHANGES for sums in SUMS),
    *(("httpx", "same size", "one piece", sums) for sums in SUMS),
    *(("libcurl", change, "ranges", True) for change in CHANGES[:2]),
    *(("libcurl", change, "ranges", False) for change in CHANGES[:2]),
]
cases = pytest.mark.parametrize(
    ("wire", "change", "size", "sums"), CASES, indirect=["wire"],
    ids=[" ".join([*case[:3], SUMS[case[3]]]) for case in CASES],
)  # fmt: skip


@cases
def test_between_two_runs(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path, change: str, size: str, sums: bool
) -> None:
    """The time of last change stays the same: the ETag, the checksum or the size tells."""
    little.has_sums = sums
    old, new = versions(SIZES[size], change)
    little.files[PATH] = old
    replaced = Replaced(little, old, old, n_answers=1 if size == "one piece" else 3)

    def busy(handler: Handler) -> bool:
        """Answer 503 once the others have their bytes."""
        assert replaced.all_sent.wait(60)
        return handler.reply(503)

    little.when("GET", busy, origin="pool")
    file = tmp_path / "here/it.h5"
    with pytest.raises(CtaflowsError):
        fetch(door, Job(door.stat(PATH), file))
    assert replaced.left == 0
    assert (file.parent / ".it.h5.part").stat().st_size > 10_000
    little.files[PATH] = new
    little.hooks.clear()
    fetch(door, Job(door.stat(PATH), file))
    assert is_as(file, new)
    assert [p.name for p in file.parent.iterdir()] == ["it.h5"]


@cases
def test_within_one_run(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path, change: str, size: str, sums: bool
) -> None:
    """What comes after the break is of another version: the new one is fetched, or an error told.

    Without checksums only the door's ETag can tell: a pool gives none.
    """
    little.has_sums = sums
    old, new = versions(SIZES[size], change)
    replaced = Replaced(little, old, new, n_answers=1 if size == "one piece" else 2)
    file = tmp_path / "it.h5"
    try:
        fetch(door, Job(door.stat(PATH), file))
    except CtaflowsError as why:
        assert PATH in str(why)
        assert not file.exists()
    else:
        assert is_as(file, new)
    assert replaced.left == 0
    little.hooks.clear()
    fetch(door, Job(door.stat(PATH), file))
    assert is_as(file, new)
