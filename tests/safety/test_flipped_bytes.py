"""A byte that flips on its way or on disk is found, named, fetched again once, then reported."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from commands import ctaflows as run
from ctaflows.transfer.fetch import Job, fetch
from ctaflows.transfer.range_journal import split
from littledoor import digest

from ctaflows.errors import ChecksumMismatch

if TYPE_CHECKING:
    from pathlib import Path

    from littledoor import Handler, LittleDoor

    from ctaflows.sandbox import Sandbox
    from ctaflows.storage.webdav import WebDAVStorage

pytestmark = pytest.mark.usefixtures("short_ranges")

SMALL = random.Random(1).randbytes(30_000)
MIDDLE = random.Random(2).randbytes(900_000)
LARGE = random.Random(3).randbytes(66 << 16)  # comes in several ranges, since they are short
FILES = {"/n/a.h5": SMALL, "/n/b.h5": MIDDLE, "/n/c.h5": LARGE}


def flipped(data: bytes, where: int) -> bytes:
    changed = bytearray(data)
    changed[where] ^= 0x10
    return bytes(changed)


def flip_in_transit(handler: Handler, path: str, where: int) -> bool:
    """Answer as a pool whose memory is bad: the digest is right, one byte is not."""
    data = handler.place.files[handler.name]
    if handler.name != path:
        return False
    sent = flipped(data, where)
    start, _, last = handler.headers.get("range", "bytes=0-").partition("=")[2].partition("-")
    first, end = int(start), int(last or len(data) - 1) + 1
    headers = {"Digest": digest(data)}
    if "range" not in handler.headers:
        return handler.reply(200, headers, sent)
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
    return handler.reply(206, headers, sent[first:end])


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def bodies(little: LittleDoor, path: str) -> int:
    """Count the bytes that the pool was asked for."""
    n_bytes = 0
    for heard in little.heard:
        if heard.origin == "pool" and heard.method == "GET" and heard.target.startswith(path):
            said = heard.values("range")
            first, _, last = (said[0] if said else "bytes=0-").partition("=")[2].partition("-")
            size = len(little.files[path])
            n_bytes += min(int(last or size - 1), size - 1) + 1 - int(first)
    return n_bytes


# -- on the way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES)
def test_once_it_is_fetched_again(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path, path: str
) -> None:
    little.files |= FILES
    rng = random.Random(path)
    size = len(FILES[path])
    places = [0, size - 1, rng.randrange(size)] if size < 1 << 20 else [rng.randrange(size)]
    for where in places:
        little.hooks.clear()
        times = 1 if size < 1 << 20 else len(split(size))  # the one request, or all ranges
        little.when(
            "GET", lambda h, w=where: flip_in_transit(h, path, w), origin="pool", times=times
        )
        done = fetch(door, Job(door.stat(path), tmp_path / "it.h5"))
        assert done.verified
        assert done.retries >= 1
        assert (tmp_path / "it.h5").read_bytes() == FILES[path]
        (tmp_path / "it.h5").unlink()
    assert bodies(little, path) == 2 * len(places) * size
    assert names(tmp_path) == ["little-ca.pem", "both.pem"] or not list(tmp_path.glob("**/.*part*"))


@pytest.mark.parametrize("path", FILES)
def test_twice_it_is_reported(little: LittleDoor, aimed: Path, path: str) -> None:
    """Exit code 7 for the one file, its path in the message, and no name for what is wrong."""
    little.files |= FILES
    where = len(FILES[path]) // 3
    little.when("GET", lambda h: flip_in_transit(h, path, where), origin="pool")
    done = run("get", path, "it.h5")
    assert done.code == 7
    assert path in done.err
    assert digest(FILES[path]).partition("=")[2] in done.err, "what was promised"
    assert names(aimed) == []
    assert bodies(little, path) == 2 * len(FILES[path]), "once more, and no more"
    little.hooks.clear()
    assert run("get", path, "it.h5").code == 0, "nothing of it stands in the way"
    assert (aimed / "it.h5").read_bytes() == FILES[path]


def test_one_of_many_is_reported_and_the_rest_is_done(little: LittleDoor, aimed: Path) -> None:
    little.files |= FILES
    little.when("GET", lambda h: flip_in_transit(h, "/n/b.h5", 5), origin="pool")
    done = run("get", "-r", "n", "here")
    assert done.code == 10
    assert "/n/b.h5" in done.err + done.out
    assert "/n/a.h5" not in done.err
    assert names(aimed) == ["here/n/a.h5", "here/n/c.h5", "here/n/manifest.jsonl"]
    little.hooks.clear()
    assert run("get", "-r", "n", "here").code == 0
    assert (aimed / "here/n/b.h5").read_bytes() == MIDDLE


@pytest.mark.parametrize("name", ["small", "middle"])
def test_an_upload(little: LittleDoor, aimed: Path, name: str) -> None:
    """What the pool holds is not what was sent: it never gets its name, and does not stay."""
    data = {"small": SMALL, "middle": MIDDLE}[name]
    (aimed / "up.h5").write_bytes(data)
    little.on_its_way = lambda data: flipped(data, len(data) // 2)
    done = run("put", "up.h5", "u/up.h5")
    assert done.code == 7
    assert "/u/" in done.err
    assert "up.h5" in done.err
    assert little.files == {}
    assert not [h for h in little.heard if h.method == "MOVE"]


def test_an_upload_into_a_tree(little: LittleDoor, aimed: Path) -> None:
    (aimed / "tree").mkdir()
    for name in ("a.h5", "b.h5", "c.h5"):
        (aimed / "tree" / name).write_bytes(SMALL + name.encode())
    bad = SMALL + b"b.h5"
    little.on_its_way = lambda data: flipped(data, 7) if data == bad else data
    done = run("put", "-r", "tree", "u")
    assert done.code == 10
    assert "b.h5" in done.err + done.out
    assert sorted(little.files) == ["/u/tree/a.h5", "/u/tree/c.h5"]


# -- on disk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/n/b.h5", "/n/c.h5"])
def test_in_the_part_between_two_runs(little: LittleDoor, aimed: Path, path: str) -> None:
    """The sum over the whole file finds it; then the whole file is fetched once more."""
    little.files |= FILES
    data = FILES[path]

    def broken_off(handler: Handler) -> bool:
        start = int(handler.headers.get("range", "bytes=0-")[6:].partition("-")[0])
        end = min(start + len(data) // 4, len(data))
        last = handler.headers.get("range", "").rpartition("-")[2]
        n_promised = (int(last) + 1 if last else len(data)) - start
        status = "206 Partial" if "range" in handler.headers else "200 OK"
        return handler.raw(
            f"HTTP/1.1 {status}\r\nContent-Length: {n_promised}\r\nDigest: {digest(data)}\r\n"
            f"Content-Range: bytes {start}-{start + n_promised - 1}/{len(data)}\r\n\r\n",
            [data[start:end]],
        )

    def away(handler: Handler) -> bool:
        return handler.reply(503)

    # each range gets some bytes once, then nothing more comes
    n_ranges = 1 if len(data) < 1 << 20 else 3
    little.when("GET", broken_off, origin="pool", times=n_ranges)
    little.when("GET", away, origin="pool")
    assert run("get", path, "it.h5", CTAFLOWS_ATTEMPTS="2").code in (8, 9)
    part = aimed / ".it.h5.part"
    with part.open("r+b") as stream:
        assert stream.seek(0, os.SEEK_END) > 1000
        stream.seek(0)
        kept = stream.read()
        # of which range bytes have come depends on the threads
        at = next(n for n in range(500, len(kept), 1000) if kept[n : n + 16] == data[n : n + 16])
        byte = kept[at : at + 1]
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 1]))
    little.hooks.clear()
    little.heard.clear()
    done = run("get", path, "it.h5", "-v")
    assert done.code == 0
    assert "not those the storage holds" in done.err, "it is said"
    assert (aimed / "it.h5").read_bytes() == data
    assert names(aimed) == ["it.h5"]
    assert len(data) < bodies(little, path) < 2 * len(data)


@pytest.fixture
def rotten(box: Sandbox, here: Path) -> Path:
    """A folder that was fetched, in one file of which a byte has flipped since."""
    for i in range(3):
        box.put(f"/n/{i}.h5", flipped(MIDDLE, i))
    assert run("get", "-r", "n", ".").code == 0
    file = here / "n/1.h5"
    about = file.stat()
    data = file.read_bytes()
    file.write_bytes(flipped(data, 333_333))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert file.stat().st_mtime_ns == about.st_mtime_ns
    return here / "n"


def test_in_a_file_that_is_done_verify_finds_it(box: Sandbox, rotten: Path) -> None:
    done = run("verify", "n")
    assert done.code == 7
    assert "1.h5" in done.out + done.err
    assert not [name for name in ("0.h5", "2.h5") if name in done.err]
    shutil.copy(box.storage / "n/1.h5", rotten / "1.h5")
    assert run("verify", "n").code == 0


def test_what_verify_finds_the_next_fetch_mends(rotten: Path) -> None:
    """`verify` says so: the command that fetched it fetches it again."""
    assert run("verify", "n").code == 7
    assert run("get", "-r", "n", ".").code == 0
    assert run("verify", "n").code == 0


def test_in_a_file_that_is_done_the_next_fetch_finds_it(box: Sandbox, rotten: Path) -> None:
    """Asked to compare checksums, it fetches that file alone."""
    box.requests.clear()
    done = run("get", "-r", "n", ".", "--check", "checksum")
    assert done.code == 0
    assert {p.name: p.read_bytes() for p in rotten.glob("*.h5")} == {
        f"{i}.h5": flipped(MIDDLE, i) for i in range(3)
    }
    assert {r.path.partition("?")[0] for r in box.requests if r.method == "GET"} == {"/n/1.h5"}
    assert run("verify", "n").code == 0


def test_a_file_that_rotted_at_the_storage_does_not_replace_a_good_one(
    box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage gives wrong bytes for ever, and what is here is of an older version: it stays."""
    box.put("/n/a.h5", MIDDLE)
    assert run("get", "n/a.h5", ".").code == 0
    box.put("/n/a.h5", MIDDLE[::-1])
    box.faults.add("flip", times=None, server="pool")
    assert run("get", "n/a.h5", ".").code == 7
    assert (here / "a.h5").read_bytes() == MIDDLE
    assert names(here) == ["a.h5"]


def test_the_library_says_it_as_an_error(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little.files |= FILES
    little.when("GET", lambda h: flip_in_transit(h, "/n/b.h5", 5), origin="pool")
    found: list[Any] = []
    with pytest.raises(ChecksumMismatch) as why:
        found.append(fetch(door, Job(door.stat("/n/b.h5"), tmp_path / "it.h5")))
    assert why.value.where == "/n/b.h5"
    assert why.value.exit_code == 7
    assert not list(tmp_path.glob(".it*"))
