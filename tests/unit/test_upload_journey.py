"""The journey of an upload, answer by answer: no network, no server, no waiting."""

from __future__ import annotations

import errno
import os
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from journeys import answer, broken, result

from ctaflows.errors import (
    AlreadyExists,
    ChecksumMismatch,
    NoSpace,
    ProtocolSurprise,
    Refused,
    SourceChanged,
    Stopped,
    StorageError,
    UsageError,
)
from ctaflows.model import Entry
from ctaflows.settings import Settings
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import upload as upload_module
from ctaflows.transfer.upload import Pools, upload
from ctaflows.transfer.upload_journal import Journal
from ctaflows.transport.messages import silent
from ctaflows.transport.wishes import Hop, Pause

if TYPE_CHECKING:
    from ctaflows.model import Transfer
    from ctaflows.transport.wishes import Journey

ROOT, POOL = "https://door:1", "https://pool:2/n/x?uuid=1"
BODY = b"0123456789" * 100
DIGEST = {"Digest": f"adler32={zlib.adler32(BODY):08x}"}
MTIME = 1_700_000_000
LINKED = {"Location": POOL, "X_OC_MTime": "accepted"}


class Play:
    """The driver's part, and the server's: a request is answered, the next one awaited."""

    def __init__(self, journey: Journey[Transfer]) -> None:
        self.journey = journey
        self.wish: Any = next(journey)
        self.done: Transfer | None = None

    def expects(self, method: str, path: str = "") -> Hop:
        """Return the request that is wished for; ``.part`` stands for the temporary name."""
        while isinstance(self.wish, Pause):
            self.wish = self.journey.send(None)
        hop = self.wish
        assert isinstance(hop, Hop), hop
        assert hop.request.method == method, (hop.request.method, hop.url)
        assert path in hop.url, hop.url
        assert (".part" in hop.url) == (path == ".part"), hop.url
        return hop

    def gets(self, got: Any) -> None:
        self.wish = self.journey.send(got)

    def answer(self, method: str, path: str, status: int, **headers: str) -> Hop:
        """Answer a request of this kind."""
        hop = self.expects(method, path)
        self.gets(answer(hop, status, **headers))
        return hop

    def sent(self, **headers: str) -> None:
        """Take the bytes under a temporary name."""
        self.answer("PUT", ".part", 307, **LINKED)
        self.answer("PUT", "pool:2", 201, **(headers or DIGEST))

    def ends(self, method: str, path: str, status: int, **headers: str) -> Transfer:
        """Answer the last request, and return the record."""
        return result(self.journey, answer(self.expects(method, path), status, **headers))

    def raises(self, kind: type[Exception], got: Any, match: str | None = None) -> None:
        with pytest.raises(kind, match=match):
            self.journey.send(got)


@pytest.fixture
def door() -> WebDAVStorage:
    door = WebDAVStorage(Settings(door_url=ROOT, backoff_s=0.01))
    door._lister.server = "dCache/11.2.5"
    door.tells_locality = True
    return door


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "uploads", ROOT)


@pytest.fixture
def local(tmp_path: Path) -> str:
    file = tmp_path / "r.h5"
    file.write_bytes(BODY)
    os.utime(file, (MTIME, MTIME))
    return str(file)


@pytest.fixture
def begin(door: WebDAVStorage, journal: Journal, local: str) -> Any:
    def begun(**how: Any) -> Play:
        return Play(upload(door, journal, local, "/n/r.h5", **{"there": None, **how}))

    return begun


def left(journal: Journal) -> int:
    """Return how many temporary names a later run will look for."""
    return len(journal._begun)


def test_it_is_sent_compared_and_moved(begin: Any, journal: Journal) -> None:
    play = begin()
    probe = play.answer("PUT", ".part", 307, **LINKED)
    assert probe.request.body == b""
    assert {b"Expect: 100-continue", b"X-OC-MTime: %d" % MTIME} <= {
        *probe.request.headers, *probe.request.own,
    }  # fmt: skip
    put = play.expects("PUT", "pool:2")
    assert (put.request.body, put.is_home, put.request.own) == (BODY, False, ())
    assert put.is_urgent, "the pool waits for it"
    play.gets(answer(put, 201, **DIGEST))
    move = play.expects("MOVE", ".part")
    assert move.request.own == (f"Destination: {ROOT}/n/r.h5".encode(),)
    assert move.request.headers == (b"Overwrite: F",)
    done = result(play.journey, answer(move, 201))
    assert (done.path, done.verified, done.moved_bytes) == ("/n/r.h5", True, len(BODY))
    assert done.mtime is not None
    assert done.mtime.timestamp() == MTIME, "the door keeps it"
    assert left(journal) == 0


def test_a_door_that_redirects_nothing_is_asked_once(begin: Any, door: WebDAVStorage) -> None:
    play = begin()
    play.answer("PUT", ".part", 201)
    assert play.expects("PUT", ".part").request.body == BODY
    assert door.redirects_writes is False
    assert begin().expects("PUT", ".part").request.body == BODY


def test_a_door_that_refuses_expect_gets_the_bytes_without(begin: Any) -> None:
    play = begin()
    play.answer("PUT", ".part", 417)
    put = play.expects("PUT", ".part").request
    assert put.body == BODY
    assert b"Expect: 100-continue" not in put.headers


def test_the_same_content_twice_at_once(begin: Any, journal: Journal) -> None:
    play = begin()
    play.sent()
    play.answer("MOVE", ".part", 412)
    play.answer("HEAD", ".part", 200, Content_Length=str(len(BODY)))  # was it moved?
    play.answer("DELETE", ".part", 204)
    hop = play.expects("PROPFIND", "/n/r.h5")
    play.gets(answer(hop, 207, described("/n/r.h5", len(BODY))))
    done = play.ends("HEAD", "/n/r.h5", 200, Content_Length=str(len(BODY)), **DIGEST)
    assert (done.skipped, done.note, done.verified) == (True, "it is there already", True)
    assert left(journal) == 0


def test_other_content_that_was_quicker(begin: Any) -> None:
    play = begin()
    play.sent()
    play.answer("MOVE", ".part", 412)
    play.answer("HEAD", ".part", 200, Content_Length=str(len(BODY)))
    play.answer("DELETE", ".part", 204)
    hop = play.expects("PROPFIND", "/n/r.h5")
    play.raises(AlreadyExists, answer(hop, 207, described("/n/r.h5", 7)))


@pytest.mark.parametrize(
    ("older_s", "overwrite", "in_place"), [(0, False, True), (1, False, False), (0, True, False)]
)
def test_a_storage_without_checksums(
    begin: Any, older_s: int, overwrite: bool, in_place: bool
) -> None:
    """Size and time decide, unless the file may be replaced."""
    modified = datetime.fromtimestamp(MTIME - older_s, UTC)
    there = Entry("/n/r.h5", size_bytes=len(BODY), mtime=modified)
    play = begin(there=there, overwrite=overwrite)
    bare = {"Content_Length": str(len(BODY))}
    if in_place:
        done = play.ends("HEAD", "/n/r.h5", 200, **bare)
        assert (done.skipped, done.verified, done.checksum) == (True, False, None)
        assert done.note is not None
        assert "no older" in done.note
    elif overwrite:
        play.answer("HEAD", "/n/r.h5", 200, **bare)
        play.expects("PUT", ".part")
    else:
        hop = play.expects("HEAD", "/n/r.h5")
        play.raises(AlreadyExists, answer(hop, 200, **bare))


def described(path: str, size: int) -> bytes:
    return (
        f'<d:multistatus xmlns:d="DAV:"><d:response><d:href>{path}</d:href><d:propstat><d:prop>'
        f"<d:resourcetype/><d:getcontentlength>{size}</d:getcontentlength></d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>"
    ).encode()


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_source_that_changes(begin: Any, local: str, journal: Journal, change: str) -> None:
    play = begin()
    play.answer("PUT", ".part", 307, **LINKED)
    put = play.expects("PUT", "pool:2")
    if change == "size":
        Path(local).write_bytes(BODY + b"more")
    os.utime(local, ns=(0, MTIME * 10**9 + (change == "time")))
    play.gets(answer(put, 201, **DIGEST))
    play.raises(SourceChanged, answer(play.expects("DELETE", ".part"), 204), "changed while")
    assert left(journal) == 0


def test_what_arrived_wrong_is_sent_once_more(begin: Any, journal: Journal) -> None:
    play = begin()
    play.sent(Digest="adler32=00000001")
    play.answer("DELETE", ".part", 204)
    play.sent(Digest="adler32=00000001")
    play.raises(ChecksumMismatch, answer(play.expects("DELETE", ".part"), 204))
    assert left(journal) == 0


def test_a_move_whose_answer_is_lost_is_looked_for(begin: Any, journal: Journal) -> None:
    play = begin()
    play.sent()
    play.gets(broken(play.expects("MOVE", ".part")))
    play.answer("HEAD", ".part", 404)
    done = play.ends("HEAD", "/n/r.h5", 200, Content_Length=str(len(BODY)), **DIGEST)
    assert done.verified
    assert left(journal) == 0


def test_a_move_that_was_not_done_is_done_again(begin: Any) -> None:
    play = begin()
    play.sent()
    play.answer("MOVE", ".part", 503)
    play.answer("HEAD", ".part", 200, Content_Length=str(len(BODY)))
    assert play.ends("MOVE", ".part", 201).verified


def test_a_token_that_may_not_move(begin: Any, door: WebDAVStorage, journal: Journal) -> None:
    play = begin()
    play.sent()
    play.answer("MOVE", ".part", 403)
    play.answer("DELETE", ".part", 204)
    probe = play.answer("PUT", "/n/r.h5", 307, **LINKED)
    assert b"If-None-Match: *" in probe.request.own
    assert play.ends("PUT", "pool:2", 201, **DIGEST).verified
    assert left(journal) == 0
    second = begin()
    assert b"If-None-Match: *" in second.expects("PUT", "/n/r.h5").request.own, "at once"


def test_a_token_that_may_create_but_not_change(begin: Any, journal: Journal) -> None:
    """The second PUT, over the empty file of the first one, is a change."""
    play = begin()
    play.answer("PUT", ".part", 201)
    play.answer("PUT", ".part", 403)
    play.answer("DELETE", ".part", 403)
    straight = play.expects("PUT", "/n/r.h5")
    assert (straight.request.body, b"If-None-Match: *" in straight.request.own) == (BODY, True)
    assert result(play.journey, answer(straight, 201, **DIGEST)).verified
    assert left(journal) == 1, "another token may remove it"


def test_storm_is_asked_before_a_temporary_file_is_left(begin: Any, door: WebDAVStorage) -> None:
    door._lister.server = "storm-webdav"
    play = begin()
    play.answer("DELETE", ".part", 403)
    play.answer("PUT", "/n/r.h5", 201)
    assert play.ends("HEAD", "/n/r.h5", 200, Content_Length=str(len(BODY)), **DIGEST).verified
    begin().expects("PUT", "/n/r.h5")


def test_storm_with_a_token_for_all(begin: Any, door: WebDAVStorage) -> None:
    door._lister.server = "storm-webdav"
    play = begin()
    play.answer("DELETE", ".part", 404)
    play.expects("PUT", ".part")
    begin().expects("PUT", ".part")


def test_what_stands_at_the_name_is_not_replaced_straight(begin: Any, door: WebDAVStorage) -> None:
    door.may_rename = False
    play = begin()
    play.answer("PUT", "/n/r.h5", 412)
    hop = play.expects("PROPFIND", "/n/r.h5")
    play.raises(AlreadyExists, answer(hop, 207, described("/n/r.h5", 7)))


def test_a_wrong_file_under_its_own_name_is_removed(begin: Any, door: WebDAVStorage) -> None:
    door.may_rename = False
    play = begin()
    play.answer("PUT", "/n/r.h5", 201, Digest="adler32=00000001")
    play.raises(ChecksumMismatch, answer(play.expects("DELETE", "/n/r.h5"), 204))


def test_a_stop_of_what_is_written_straight_tells_what_may_be_left(
    begin: Any, door: WebDAVStorage, caplog: pytest.LogCaptureFixture
) -> None:
    door.may_rename = False
    play = begin()
    play.expects("PUT", "/n/r.h5")
    with pytest.raises(Stopped):
        play.journey.throw(Stopped("Stopped"))
    assert "may be left at the door, at /n/r.h5" in caplog.text


def hang(play: Play) -> Any:
    play.answer("PUT", ".part", 307, **LINKED)
    hop = play.expects("PUT", "pool:2")
    got = broken(hop)
    got.error = silent(hop.url, "Operation too slow")
    return got


def test_a_pool_that_takes_nothing(begin: Any, journal: Journal) -> None:
    pools = Pools()
    play = begin(pools=pools)
    play.gets(hang(play))
    play.answer("DELETE", ".part", 204)
    assert pools.hang is not None, "no further upload is begun"
    play.gets(hang(play))
    play.raises(NoSpace, answer(play.expects("DELETE", ".part"), 204), "it may be full")
    assert pools.hang is not None
    assert left(journal) == 0


def test_a_pool_that_takes_it_at_the_second_try(begin: Any) -> None:
    pools = Pools()
    play = begin(pools=pools)
    play.gets(hang(play))
    play.answer("DELETE", ".part", 204)
    play.sent()
    assert pools.hang is None
    assert play.ends("MOVE", ".part", 201).retries == 1


def test_another_upload_that_hangs_meanwhile_is_not_tried_again(begin: Any) -> None:
    pools = Pools()
    one, two = begin(pools=pools), begin(pools=pools)
    one.gets(hang(one))
    two.gets(hang(two))
    two.raises(NoSpace, answer(two.expects("DELETE", ".part"), 204))


def test_a_name_that_the_server_can_t_have_leaves_nothing_to_look_for(
    begin: Any, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    play = begin()
    play.answer("PUT", ".part", 400)
    play.raises(ProtocolSurprise, answer(play.expects("DELETE", ".part"), 400), "PUT")
    assert left(journal) == 0
    assert caplog.messages == []


def test_a_cut_put_is_not_forgotten(begin: Any, journal: Journal) -> None:
    """What was not there yet at our DELETE may come: it is sent anew under another name."""
    play = begin()
    play.answer("PUT", ".part", 307, **LINKED)
    play.gets(broken(play.expects("PUT", "pool:2")))
    first = play.answer("DELETE", ".part", 404)
    play.answer("DELETE", ".part", 404)
    probe = play.expects("PUT", ".part")
    assert probe.url != first.url
    play.sent()
    assert play.ends("MOVE", ".part", 201).retries == 1
    assert [ROOT + path for path in journal._begun] == [first.url]


@pytest.mark.parametrize("n_done", [0, 1, 2], ids=["probe", "bytes", "move"])
def test_a_stop_leaves_nothing(begin: Any, journal: Journal, n_done: int) -> None:
    play = begin()
    for step in [lambda: play.answer("PUT", ".part", 307, **LINKED),
                 lambda: play.answer("PUT", "pool:2", 201, **DIGEST)][:n_done]:  # fmt: skip
        step()
    play.wish = play.journey.throw(Stopped("Stopped"))
    play.raises(Stopped, answer(play.expects("DELETE", ".part"), 204))
    assert left(journal) == 0


def test_a_stop_while_it_is_moved_tells_what_became_of_it(begin: Any, journal: Journal) -> None:
    play = begin()
    play.sent()
    play.wish = play.journey.throw(Stopped("Stopped"))
    play.answer("DELETE", ".part", 404)
    play.answer("DELETE", ".part", 404)
    done = play.ends("HEAD", "/n/r.h5", 200, Content_Length=str(len(BODY)), **DIGEST)
    assert done.verified
    assert left(journal) == 0


def test_a_dead_token_removes_nothing(begin: Any, journal: Journal) -> None:
    """Three answers of 401 block the address at a dCache door."""
    play = begin()
    play.sent()
    play.expects("MOVE", ".part")
    with pytest.raises(Refused):
        play.journey.throw(Refused("not accepted", status=401))
    assert left(journal) == 1


def test_a_server_without_checksums_tells_the_size(begin: Any, door: WebDAVStorage) -> None:
    door.tells_locality = False
    play = begin()
    play.sent(Server="nginx")
    play.answer("HEAD", ".part", 200, Content_Length=str(len(BODY)))
    done = play.ends("MOVE", ".part", 201)
    assert not done.verified
    assert "no checksum" in (done.note or "")


def test_a_checksum_that_comes_late_is_waited_for(begin: Any) -> None:
    play = begin()
    play.sent(Server="dCache")
    play.answer("HEAD", ".part", 200, Content_Length=str(len(BODY)))
    assert isinstance(play.wish, Pause)
    play.answer("HEAD", ".part", 200, Content_Length=str(len(BODY)), **DIGEST)
    assert play.ends("MOVE", ".part", 201).verified


def test_a_large_file_is_hashed_as_it_is_read(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "SMALL_BYTES", 100)
    play = begin()
    play.answer("PUT", ".part", 307, **LINKED)
    put = play.expects("PUT", "pool:2")
    source = put.request.body
    assert b"".join(iter(lambda: source.read(300), b"")) == BODY
    source.rewind()  # a kept connection was dead
    assert b"".join(iter(lambda: source.read(300), b"")) == BODY
    play.gets(answer(put, 201, **DIGEST))
    assert play.ends("MOVE", ".part", 201).verified


def test_a_large_file_that_ends_early(
    begin: Any, monkeypatch: pytest.MonkeyPatch, local: str
) -> None:
    monkeypatch.setattr(upload_module, "SMALL_BYTES", 100)
    play = begin()
    play.answer("PUT", ".part", 307, **LINKED)
    source = play.expects("PUT", "pool:2").request.body
    os.truncate(local, 300)
    assert source.read(300) == BODY[:300]
    with pytest.raises(SourceChanged):
        source.read(300)


def test_a_file_that_vanishes_before_it_is_summed(begin: Any, local: str, journal: Journal) -> None:
    play = begin()
    play.answer("PUT", ".part", 307, **LINKED)
    put = play.expects("PUT", "pool:2")
    Path(local).unlink()
    play.gets(answer(put, 201, Digest="md5=XrY7u+Ae7tCTyyK7j1rNww=="))
    play.raises(UsageError, answer(play.expects("DELETE", ".part"), 204), "can't be read")
    assert left(journal) == 0


def test_a_disk_that_fails_while_a_file_is_read(
    begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pread(*_: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as small:
        small.setattr("os.pread", pread)
        play = begin()
    play.raises(StorageError, answer(play.expects("DELETE", ".part"), 404), "can't be read")
    monkeypatch.setattr(upload_module, "SMALL_BYTES", 100)
    play = begin()
    play.answer("PUT", ".part", 307, **LINKED)
    source = play.expects("PUT", "pool:2").request.body
    monkeypatch.setattr("os.pread", pread)
    with pytest.raises(StorageError, match="can't be read"):
        source.read(300)
