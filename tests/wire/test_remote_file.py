"""A file at the door as a file object: never a wrong byte, whatever happens on the way."""

from __future__ import annotations

import io
import os
import random
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import (
    CtaflowsError,
    DoorBusy,
    Nearline,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    Refused,
    SourceChanged,
    Stopped,
    UsageError,
)
from ctaflows.sandbox import Fault, Sandbox
from ctaflows.storage.block_cache import BLOCK_BYTES
from ctaflows.storage.range_reader import NoRanges
from ctaflows.storage.remote_file import RemoteFile
from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = random.Random(1).randbytes(3_000_001)
PATH = "/a/run.h5"


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Sandbox, WebDAVStorage]]:
    """A sandbox that many short examples share."""
    with Sandbox() as box:
        box.put(PATH, DATA)
        with WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door:
            yield box, door


def opened(door: WebDAVStorage, path: str = PATH, **options) -> RemoteFile:
    return RemoteFile(door, door.stat(path), **options)


def asked(box: Sandbox, server: str = "pool", method: str = "GET") -> list:
    return [r for r in box.requests if r.server == server and r.method == method]


def spoil_pool_url(file: RemoteFile) -> None:
    """Let the pool's URL be one that the pool knows no more."""
    url = file._reader._pool
    if url:
        file._reader._pool = re.sub("uuid=[^&]+", "uuid=00000000-dead", url)


FAULTS = ["reset", "truncate", "wrong_length", "503", "500", "429", "403", "lost", "stale"]
SPANS = st.tuples(st.integers(0, len(DATA) + 5), st.integers(0, 300_000))
STEPS = st.one_of(
    st.tuples(st.just("read"), SPANS),
    st.tuples(st.just("into"), SPANS),
    st.tuples(st.just("at"), SPANS),
    st.tuples(st.just("on"), st.integers(0, 200_000)),
    st.tuples(st.just("expect"), st.lists(SPANS, max_size=4)),
    st.tuples(st.just("fault"), st.sampled_from(FAULTS)),
)


def same(file: RemoteFile, plain: io.BytesIO, what: str, details) -> None:
    """Do the same with both, and compare."""
    if what == "expect":
        file.expect(((a, a + n) for a, n in details), connections=1 + len(details) // 2)
    elif what == "on":
        assert file.read(details) == plain.read(details)
    elif what == "read":
        assert file.seek(details[0]) == plain.seek(details[0])
        assert file.read(details[1]) == plain.read(details[1])
    elif what == "into":
        ours, theirs = bytearray(details[1]), bytearray(details[1])
        file.seek(details[0])
        plain.seek(details[0])
        assert file.readinto(ours) == plain.readinto(theirs)
        assert ours == theirs
    else:
        assert file.read_at(*details) == plain.getvalue()[details[0] : sum(details)]
    assert file.tell() == plain.tell()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(STEPS, min_size=1, max_size=12),
    st.sampled_from([0, 1 << 16, 1 << 18, 32 << 20]),
    st.sampled_from([0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, len(DATA)]),
)
def test_each_byte_is_that_of_the_file(shared, steps, cap, size) -> None:
    """One fault at a time is got over; of several an error may be told, never a wrong byte."""
    box, door = shared
    path = f"/sized/{size}"
    if not (box.storage / path[1:]).exists():
        box.put(path, DATA[:size])
    plain = io.BytesIO(DATA[:size])
    box.faults.clear()
    with opened(door, path, cache_bytes=cap) as file:
        for what, details in steps:
            if details == "stale":
                spoil_pool_url(file)
            elif what == "fault":
                box.faults.add(details, server="pool")
            else:
                n_faults = len(box.faults)
                try:
                    same(file, plain, what, details)
                except CtaflowsError:
                    assert n_faults > 1
                    box.faults.clear()
                    plain.seek(file.tell())
            assert file.held_bytes <= max(cap, BLOCK_BYTES)
    box.faults.clear()


@pytest.fixture
def file(box: Sandbox) -> Iterator[RemoteFile]:
    box.put(PATH, DATA)
    ours = box.settings(attempts=5)
    with WebDAVStorage(ours, TokenProvider(ours)) as door, opened(door) as file:
        yield file


def test_it_is_a_file_object(file: RemoteFile) -> None:
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    assert (file.size, file.name, file.mode) == (len(DATA), PATH, "rb")
    assert file.seek(-10, io.SEEK_END) == len(DATA) - 10
    assert file.read() == DATA[-10:]
    assert file.read(5) == b""
    assert file.seek(-20, io.SEEK_CUR) == len(DATA) - 20
    assert file.peek()[:3] == DATA[-20:-17]
    assert file.tell() == len(DATA) - 20
    with pytest.raises(ValueError, match="-1"):
        file.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        file.seek(0, 7)
    with pytest.raises(io.UnsupportedOperation):
        file.write(b"x")
    file.close()
    file.close()
    for act in (file.read, file.tell, lambda: file.seek(0), lambda: file.read_at(0, 1)):
        with pytest.raises(ValueError, match="closed"):
            act()


def test_lines_and_text(box: Sandbox) -> None:
    lines = [f"line {n} é\n" for n in range(20_000)]
    box.put("/t.txt", "".join(lines).encode())
    with WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door:
        with opened(door, "/t.txt") as file:
            assert file.readline() == b"line 0 \xc3\xa9\n"
            assert len(list(file)) == 19_999
        with io.TextIOWrapper(opened(door, "/t.txt"), encoding="utf-8") as text:
            assert text.readlines() == lines


def test_the_pool_is_asked_again_without_the_door_and_without_the_token(
    box: Sandbox, file: RemoteFile
) -> None:
    assert asked(box, "door") == []  # nothing is read before it is wanted
    for at in (0, 2_000_000, 1_000_000):
        assert file.read_at(at, 100) == DATA[at : at + 100]
    assert len(asked(box, "door")) == 1
    assert len(asked(box)) == 3
    assert len({r.path for r in asked(box)}) == 1
    assert not any("authorization" in r.headers for r in asked(box))
    assert all("authorization" in r.headers for r in asked(box, "door"))
    assert file.n_requests == 3
    assert file.read_bytes == 3 * BLOCK_BYTES


def test_what_was_read_is_kept(box: Sandbox, file: RemoteFile) -> None:
    for at in range(100, 60_000, 1000):
        assert file.read_at(at, 8) == DATA[at : at + 8]
    assert len(asked(box)) == 1


def test_metadata_survives_a_bulk_read(box: Sandbox) -> None:
    box.put(PATH, DATA)
    with (
        WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door,
        opened(door, cache_bytes=4 * BLOCK_BYTES) as file,
    ):
        file.read_at(0, 8)
        assert file.read_at(100_000, 2_500_000) == DATA[100_000:2_600_000]
        box.requests.clear()
        assert file.read_at(500, 8) == DATA[500:508]
        assert asked(box) == []


def test_the_whole_file_in_few_requests(box: Sandbox, file: RemoteFile) -> None:
    pieces = iter(lambda: file.read(10_000), b"")
    assert b"".join(pieces) == DATA
    assert len(asked(box)) <= 10


def test_expected_neighbours_come_in_one_request(box: Sandbox, file: RemoteFile) -> None:
    starts = range(0, 2_000_000, 100_000)
    file.expect([(at, at + 50) for at in starts])
    for at in starts:
        assert file.read_at(at, 50) == DATA[at : at + 50]
    assert len(asked(box)) == 1


def test_what_is_expected_comes_over_several_connections_to_one_pool_url(
    box: Sandbox, file: RemoteFile
) -> None:
    file.read_at(0, 10)
    starts = range(300_000, 2_900_000, 400_000)
    file.expect([(at, at + 50) for at in starts], connections=3)
    for at in starts:
        assert file.read_at(at, 50) == DATA[at : at + 50]
    assert len(asked(box, "door")) == 1
    assert len({r.path for r in asked(box)}) == 1
    assert len(asked(box)) == 1 + len(starts)
    assert len(file._siblings) == 2
    assert file.read_bytes == (1 + len(starts)) * BLOCK_BYTES


def test_a_failure_on_one_of_several_connections_is_told(box: Sandbox, file: RemoteFile) -> None:
    file.read_at(0, 10)
    box.faults.add("403", times=None, method="GET")
    file.expect([(at, at + 50) for at in range(300_000, 2_900_000, 400_000)], connections=3)
    with pytest.raises(Refused):
        file.read_at(300_000, 10)
    box.faults.clear()
    assert file.read_at(300_000, 10) == DATA[300_000:300_010]


@pytest.mark.parametrize("home", [True, False])
def test_a_pool_s_url_that_is_stale_is_renewed(make, home: bool) -> None:
    box = make(stale_redirects_home=home).box  # 307 to the door, or 400
    box.put(PATH, DATA)
    with WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door, opened(door) as file:
        file.read_at(0, 10)
        spoil_pool_url(file)
        assert file.read_at(1_000_000, 10) == DATA[1_000_000:1_000_010]
        assert len(asked(box, "door")) == 2
        assert not [r for r in box.requests if r.status == 401]
        n_asked = len(asked(box))
        file.read_at(2_000_000, 10)
        assert len(asked(box)) == n_asked + 1  # the new one is kept


@pytest.mark.parametrize("fault", ["403", "503", "reset", "truncate", "507"])
def test_a_pool_that_fails_is_passed_by(box: Sandbox, file: RemoteFile, fault: str) -> None:
    file.read_at(0, 10)
    box.faults.add(fault, server="pool")
    assert file.read_at(1_000_000, 10) == DATA[1_000_000:1_000_010]


def test_a_fault_that_lasts_is_told(box: Sandbox, file: RemoteFile) -> None:
    file.read_at(0, 10)
    box.faults.add("503", server="pool", times=None)
    with pytest.raises(DoorBusy):
        file.read_at(1_000_000, 10)
    assert len(asked(box)) <= 7
    box.faults.clear()
    assert file.read_at(1_000_000, 10) == DATA[1_000_000:1_000_010]


def test_a_token_that_is_refused_is_tried_once(box: Sandbox, file: RemoteFile) -> None:
    box.faults.add("401", server="door", times=None, method="GET")
    with pytest.raises(Refused):
        file.read_at(0, 10)
    assert len([r for r in box.requests if r.status == 401]) <= 2


def test_what_keeps_breaking_comes_piece_by_piece(box: Sandbox, file: RemoteFile) -> None:
    box.faults.add("truncate", server="pool", times=9)
    assert file.read_at(0, 1_000_000) == DATA[:1_000_000]


def test_a_server_without_ranges_is_noticed(box: Sandbox, file: RemoteFile) -> None:
    box.faults.add("ignore_range", times=None)
    with pytest.raises(NoRanges) as told:
        file.read_at(0, 10)
    assert "ctaflows get" in (told.value.hint or "")


@pytest.mark.parametrize("by", [(1, 1), (0, -1), (-1, 0)])
def test_an_answer_for_another_part_is_refused(
    box: Sandbox, file: RemoteFile, by: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bounds(first: str, last: str, size: int) -> tuple[int, int]:
        return int(first) + by[0], int(last) + by[1]

    monkeypatch.setattr("ctaflows.sandbox.content._bounds", bounds)
    with pytest.raises(ProtocolSurprise, match="another range"):
        file.read_at(1_000_000, 10)


def test_a_small_file_is_read_from_a_server_without_ranges(box: Sandbox) -> None:
    box.put("/small", DATA[:1000])
    box.faults.add("ignore_range", times=None)
    with (
        WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door,
        opened(door, "/small") as file,
    ):
        assert file.read() == DATA[:1000]


def exchanged(box: Sandbox, data: bytes) -> None:
    """Let another file take the place of the first one, all at once."""
    box.put("/new", data).replace(box.storage / PATH[1:])


@pytest.mark.parametrize("grown", [0, 70_000, -70_000])
@pytest.mark.parametrize("stale", [True, False])
def test_a_file_that_is_replaced_is_noticed(
    box: Sandbox, file: RemoteFile, grown: int, stale: bool
) -> None:
    other = random.Random(2).randbytes(len(DATA) + grown)
    file.read_at(0, 10)
    exchanged(box, other)
    if stale:
        spoil_pool_url(file)
    with pytest.raises(SourceChanged):
        file.read_at(1_000_000, 10)
    assert file.read_at(20, 10) == DATA[20:30]  # from the cache
    with pytest.raises(SourceChanged):
        file.read_at(2_000_000, 10)


def test_another_size_is_noticed_at_the_same_pool(
    box: Sandbox, file: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the pool gave the bytes of another file under the same URL."""
    monkeypatch.setattr("ctaflows.sandbox.storage.Storage.etag", lambda *_: '"the same"')
    file.read_at(0, 10)
    exchanged(box, DATA + b"more")
    with pytest.raises(SourceChanged):
        file.read_at(1_000_000, 10)
    assert len(asked(box, "door")) == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_door_that_gives_the_bytes_itself(make, told: bool, monkeypatch) -> None:
    """With validators they are compared; without, the door is asked after each answer."""
    box = make(redirect_reads=False).box
    box.put(PATH, DATA)
    if not told:
        monkeypatch.setattr("ctaflows.sandbox.content.validators", lambda *_: {})
    with WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door, opened(door) as file:
        assert file.read_at(0, 10) == DATA[:10]
        assert file.read_at(1_000_000, 10) == DATA[1_000_000:1_000_010]
        exchanged(box, random.Random(3).randbytes(len(DATA)))
        with pytest.raises(SourceChanged):
            file.read_at(2_000_000, 10)


def test_a_file_that_is_gone(box: Sandbox, file: RemoteFile) -> None:
    file.read_at(0, 10)
    (box.storage / PATH[1:]).unlink()
    with pytest.raises(NotFound):
        file.read_at(1_000_000, 10)


def test_what_can_t_be_opened(box: Sandbox) -> None:
    box.put(PATH, DATA)
    box.put("/tape", b"x")
    box.locality("/tape", "NEARLINE")
    with WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door:
        entry = door.stat(PATH)
        for wrong, error in {
            door.stat("/a"): UsageError,
            door.stat("/tape"): Nearline,
            replace(entry, size_bytes=None): DoorBusy,
        }.items():
            with pytest.raises(error):
                RemoteFile(door, wrong)
    assert asked(box) == []


def test_many_threads_share_it(file: RemoteFile) -> None:
    wrong: list[int] = []

    def reader(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(40):
            at, n_bytes = dice.randrange(len(DATA)), dice.randrange(20_000)
            if file.read_at(at, n_bytes) != DATA[at : at + n_bytes]:
                wrong.append(at)

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_it_can_be_stopped(box: Sandbox) -> None:
    box.put(PATH, DATA)
    box.faults.add("slow", server="pool", rate_bytes_s=1000)
    stop = threading.Event()
    with (
        WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door,
        opened(door, stop=stop) as file,
    ):
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(Stopped):
            file.read_at(0, 10)


def test_closing_it_frees_the_pool_s_slot(box: Sandbox, file: RemoteFile) -> None:
    file.read_at(0, 10)
    url = file._reader._pool
    file.close()
    path = PATH
    deadline = threading.Event()
    with WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door:
        for _ in range(200):
            with opened(door) as again:
                again._reader._pool = url
                box.requests.clear()
                assert again.read_at(0, 10) == DATA[:10]
                if asked(box)[0].status == 307:  # the pool knows it no more
                    return
            deadline.wait(0.02)
    pytest.fail(f"the pool URL of {path} outlived its connection")


def test_a_forked_process_has_a_connection_of_its_own(file: RemoteFile) -> None:
    file.read_at(0, 10)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if file.read_at(1_000_000, 10) == DATA[1_000_000:1_000_010] else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert file.read_at(2_000_000, 10) == DATA[2_000_000:2_000_010]


def test_an_unreachable_pool_is_told(box: Sandbox, file: RemoteFile) -> None:
    box.faults.add(Fault("redirect_elsewhere", times=None, server="door"))
    with pytest.raises(NetworkError) as told:
        file.read_at(0, 10)
    assert "localhost:1" in str(told.value)


def test_no_pool_s_secret_is_shown(make) -> None:
    box = make(stale_redirects_home=False).box
    box.put(PATH, DATA)
    with WebDAVStorage(box.settings(), TokenProvider(box.settings())) as door, opened(door) as file:
        file.read_at(0, 10)
        box.faults.add("403", times=None, method="GET")
        with pytest.raises(Refused) as told:
            file.read_at(1_000_000, 10)
        assert "dead" not in str(told.value)
        assert "uuid" not in repr(file)
