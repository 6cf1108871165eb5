"""The journey of a download, answer by answer."""

from __future__ import annotations

import base64
import hashlib
import os
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from journeys import Clock, Play, digest

from ctaflows.errors import (
    ChecksumMismatch,
    DoorBusy,
    Lost,
    Nearline,
    NetworkError,
    NoSpace,
    NotTheFile,
    ProtocolSurprise,
    RateLimited,
    Refused,
    SourceChanged,
    Staging,
    Stopped,
    StorageError,
    Truncated,
)
from ctaflows.model import Checksum, Entry
from ctaflows.retry import Retries
from ctaflows.settings import Settings
from ctaflows.storage.download_service import DownloadServiceStorage
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer import part as parts
from ctaflows.transfer.download import Disk, Job, download, download_into
from ctaflows.transport.ask import Session, ask
from ctaflows.transport.messages import NotSent
from ctaflows.transport.wishes import Call, Hop, Pause, Request, Synced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = random.Random(1).randbytes(300_000)
NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)
ENTRY = Entry("/n/f.h5", size_bytes=len(BODY), mtime=NOON)
ADLER = digest(BODY).partition("=")[2]
POOL = "https://pool:2/f?uuid=1"


class Tokens:
    """Tokens that are renewed once."""

    newer: str | None = "second-token"

    def token(self) -> str:
        return "first-token"

    def renew(self, rejected: str) -> str | None:
        return self.newer


@pytest.fixture
def door() -> Iterator[WebDAVStorage]:
    with WebDAVStorage(Settings(door_url="https://door:1"), None) as door:
        yield door


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is."""
    monkeypatch.setattr("ctaflows.transfer.download._disk._timed", lambda function: function())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def play(door: WebDAVStorage, folder: Path, entry: Entry = ENTRY, **more: Any) -> Play:
    clock = more.pop("clock", None)
    return Play(download(door, Job(entry, folder / "f.h5"), **more), clock)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def is_there(folder: Path, body: bytes = BODY) -> bool:
    assert names(folder) == ["f.h5"]
    return (folder / "f.h5").read_bytes() == body


def rest(start: int, end: int = len(BODY)) -> dict[str, Any]:
    return {"Content_Range": f"bytes {start}-{end - 1}/{len(BODY)}"}


# -- the usual way ---------------------------------------------------------------------------------


def test_from_the_door_by_a_pool_to_its_name(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path)
    assert (it.url, it.hop.is_home, it.range) == ("https://door:1/n/f.h5", True, None)
    it.get(302, Location=POOL)
    assert (it.url, it.hop.is_home, it.hop.is_urgent) == (POOL, False, True)
    it.get(200, BODY, Digest=digest(BODY), Server="pool")
    assert isinstance(it.wish, Synced)
    assert names(tmp_path) == [".f.h5.part", ".f.h5.part.json"]
    done = it.synced().result
    assert is_there(tmp_path)
    assert (str(done.checksum), done.verified) == (f"adler32:{ADLER}", True)
    assert (done.moved_bytes, done.resumed_bytes, done.retries) == (len(BODY), 0, 0)
    assert (done.server, done.mtime, done.note) == ("pool", NOON, None)


def test_a_broken_answer_then_a_page_then_the_rest(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path).get(302, Location=POOL)
    it.get(200, BODY, cut=200_000, Digest=digest(BODY))
    assert isinstance(it.wish, Pause)
    assert (it.url, it.range) == ("https://door:1/n/f.h5", f"bytes=200000-{len(BODY) - 1}")
    it.get(200, b"<html>", Content_Type="text/html")
    assert it.range == f"bytes=200000-{len(BODY) - 1}"
    it.get(206, BODY[200_000:], **rest(200_000)).synced()
    assert is_there(tmp_path)
    assert it.result.retries == 2


def test_an_empty_file(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path, replace(ENTRY, size_bytes=0))
    it.get(200, b"", Digest=digest(b"")).synced()
    assert is_there(tmp_path, b"")
    assert it.result.verified


def test_a_connection_that_breaks_after_the_last_byte_brought_the_whole(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path).get(200, BODY, cut=len(BODY), Digest=digest(BODY)).synced()
    assert is_there(tmp_path)
    assert it.n_hops == 1


# -- only a file is a file -------------------------------------------------------------------------

NOT_THE_FILE = {
    "page": (200, b"<html>", {}),
    "no content": (204, b"", {}),
    "longer": (200, BODY + b"x", {}),
    "compressed": (200, BODY, {"Content_Encoding": "gzip"}),
    "a range": (206, BODY[1:], rest(1)),
    "two lengths": (200, BODY, {"Content_Length": f"{len(BODY)}\r\nContent-Length: 7"}),
    "chunked and short": (200, BODY[:-1], {"Content_Length": None}),
}


@pytest.mark.parametrize("odd", NOT_THE_FILE.values(), ids=NOT_THE_FILE.keys())
def test_what_is_not_the_file_leaves_no_byte(
    door: WebDAVStorage, tmp_path: Path, odd: tuple[int, bytes, dict[str, Any]]
) -> None:
    status, body, headers = odd
    it = play(door, tmp_path).get(status, body, **headers)
    assert it.range is None
    it.get(200, BODY).pass_pauses()
    it.get(200)  # HEAD tells no checksum
    assert it.synced().result
    assert is_there(tmp_path)


def test_wrong_answers_are_asked_for_three_times_more(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path)
    for _ in range(3):
        it.get(200, b"<html>")
    it.pass_pauses()
    with pytest.raises(NotTheFile):
        it.get(200, b"<html>").described(ENTRY)
    assert names(tmp_path) == []


def test_of_an_answer_without_a_length_only_the_whole_counts(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path)
    it.get(200, BODY, cut=100_000).get(206, BODY[100_000:], cut=50_000, **rest(100_000))
    assert it.range == f"bytes=150000-{len(BODY) - 1}"
    it.get(206, BODY[150_000:], cut=20_000, Content_Length=None, **rest(150_000))
    assert it.range == f"bytes=150000-{len(BODY) - 1}"
    it.get(206, BODY[150_000:], Digest=digest(BODY), **rest(150_000)).synced()
    assert is_there(tmp_path)


@pytest.mark.parametrize("n_bytes", [len(BODY) - 1, len(BODY) + 1])
def test_a_wrong_size_in_the_listing_is_looked_at_again(
    door: WebDAVStorage, tmp_path: Path, n_bytes: int
) -> None:
    it = play(door, tmp_path, replace(ENTRY, size_bytes=n_bytes))
    for _ in range(4):
        it.get(200, BODY)
    it.described(ENTRY).get(200, BODY, Digest=digest(BODY)).synced()
    assert is_there(tmp_path)


def test_202_is_waited_for(door: WebDAVStorage, tmp_path: Path, clock: Clock) -> None:
    it = play(door, tmp_path, clock=clock)
    while it.paused_s < 100:
        it.get(202, b"being staged\n").pass_pauses()
    it.get(200, BODY, Digest=digest(BODY)).synced()
    assert is_there(tmp_path)


def test_202_is_not_waited_for_for_ever(door: WebDAVStorage, tmp_path: Path, clock: Clock) -> None:
    it = play(door, tmp_path, clock=clock)
    with pytest.raises(Staging):  # noqa: PT012
        while True:
            it.get(202, b"being staged\n").pass_pauses()
    assert 150 < it.paused_s <= 180
    assert names(tmp_path) == []


# -- ranges ----------------------------------------------------------------------------------------


@pytest.fixture
def in_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "RANGES_FROM_BYTES", 1 << 17)
    for name in ("_MIB", "_LEAST_RANGE_BYTES", "_MOST_RANGE_BYTES"):
        monkeypatch.setattr(parts, name, 100_000)


def of_range(it: Play, **more: Any) -> Play:
    """Answer a request with its range."""
    start, end = map(int, (it.range or "").removeprefix("bytes=").split("-"))
    return it.get(206, BODY[start : end + 1], **rest(start, end + 1), **more)


@pytest.mark.usefixtures("in_ranges")
def test_until_one_range_has_an_answer_only_one_asks(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path)
    first, others, _ = map(Play, it.gathered)
    for _ in range(3):
        assert isinstance(others.wish, Pause)
        others.send()
    of_range(first, Digest=digest(BODY))
    others.send()
    ranges = [Play(one) for one in others.gathered]
    assert [one.range for one in ranges] == ["bytes=100000-199999", "bytes=200000-299999"]
    for one in ranges:
        of_range(one)
    others.send([])
    it.send([]).synced()
    assert is_there(tmp_path)
    assert it.result.verified


@pytest.mark.usefixtures("in_ranges")
def test_the_other_ranges_are_asked_for_where_the_first_one_came_from(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path)
    first, others, _ = map(Play, it.gathered)
    of_range(first.get(302, Location=POOL), Digest=digest(BODY))
    others.send()
    second, third = map(Play, others.gathered)
    assert (second.url, second.hop.is_home) == (POOL, False)
    of_range(second)
    assert third.url == POOL
    third.get(404)  # the pool does not know it any more: no pause, no try lost
    assert isinstance(third.wish, Hop)
    assert third.url == "https://door:1/n/f.h5"
    of_range(third.get(302, Location=POOL))
    others.send([])
    assert it.send([]).synced().result.retries == 0
    assert is_there(tmp_path)


@pytest.mark.usefixtures("in_ranges")
@pytest.mark.parametrize(
    "odd",
    [
        (200, BODY, {}),
        (200, b"<html>", {}),
        (202, b"", {}),
        (206, b"x" * 100_000, rest(0, 100_000)),
    ],
    ids=["whole", "page", "staging", "another range"],
)
def test_one_odd_answer_among_ranges_repeats_that_range_alone(
    door: WebDAVStorage, tmp_path: Path, odd: tuple[int, bytes, dict[str, Any]]
) -> None:
    it = play(door, tmp_path)
    first, others, _ = map(Play, it.gathered)
    of_range(first, Digest=digest(BODY))
    others.send()
    second, third = map(Play, others.gathered)
    status, body, headers = odd
    second.get(status, body, **headers)
    assert second.range == "bytes=100000-199999"
    of_range(second)
    of_range(third)
    others.send([])
    it.send([]).synced()
    assert is_there(tmp_path)
    assert (it.result.moved_bytes, it.result.retries) == (len(BODY), 1)


@pytest.mark.usefixtures("in_ranges")
def test_one_odd_answer_to_each_range_repeats_each_range_alone(
    door: WebDAVStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a proxy between fails for a moment: that is one wrong answer, not one in a row."""
    for name in ("_MIB", "_LEAST_RANGE_BYTES", "_MOST_RANGE_BYTES"):
        monkeypatch.setattr(parts, name, 50_000)
    it = play(door, tmp_path)
    first, others, _ = map(Play, it.gathered)
    of_range(first, Digest=digest(BODY))
    others.send()
    ranges = [Play(one) for one in others.gathered]
    for one in ranges:
        one.get(200, b"<html>")
    for one in ranges:
        of_range(one)
    others.send([])
    it.send([]).synced()
    assert is_there(tmp_path)
    assert (it.result.moved_bytes, it.result.retries) == (len(BODY), 5)


@pytest.mark.usefixtures("in_ranges")
def test_a_server_that_sends_no_ranges_is_asked_for_the_whole(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path)
    first = Play(it.gathered[0]).get(200, BODY).pass_pauses()
    with pytest.raises(Exception, match="does not send ranges") as why:
        first.get(200, BODY)
    it.fail(why.value)
    assert it.range is None
    it.get(200, BODY, Digest=digest(BODY)).synced()
    assert is_there(tmp_path)


def test_a_rest_that_can_t_be_used_is_asked_for_with_the_whole(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path).get(200, BODY, cut=100_000, Digest=digest(BODY))
    for _ in range(2):
        assert it.range
        it.get(206, BODY[100_001:], **rest(100_001))
    assert it.range is None
    it.get(200, BODY).synced()
    assert is_there(tmp_path)


def test_416_is_looked_into_and_the_whole_asked_for(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path).get(200, BODY, cut=100_000, Digest=digest(BODY)).pass_pauses()
    it.get(416).described(ENTRY)
    assert it.range is None
    it.get(200, BODY, Digest=digest(BODY)).synced()
    assert is_there(tmp_path)


# -- the same file ---------------------------------------------------------------------------------


def test_another_etag_means_another_file(door: WebDAVStorage, tmp_path: Path) -> None:
    newer = bytes(reversed(BODY))
    it = play(door, tmp_path).get(200, BODY, cut=100_000, ETag='"1"').pass_pauses()
    it.get(206, newer[100_000:], ETag='"2"', **rest(100_000)).described(ENTRY)
    assert it.range is None
    it.get(200, newer, ETag='"2"').get(200).synced()
    assert is_there(tmp_path, newer)


def test_what_changes_again_and_again_is_an_error(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path)
    for tag in ('"1"', '"2"'):
        it.get(200, BODY, cut=100_000, ETag=tag).pass_pauses()
        if tag == '"2"':
            break
        it.get(206, BODY[100_000:], ETag='"x"', **rest(100_000)).described(ENTRY)
    with pytest.raises(SourceChanged):
        it.get(206, BODY[100_000:], ETag='"y"', **rest(100_000))
    assert names(tmp_path) == []


def test_several_answers_without_a_checksum_are_looked_into(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path).get(200, BODY, cut=100_000)
    it.get(206, BODY[100_000:], **rest(100_000)).get(200)
    newer = replace(ENTRY, mtime=NOON.replace(hour=13))
    it.described(newer).described(newer)
    it.get(200, BODY).synced()
    assert is_there(tmp_path)
    assert it.result.mtime == newer.mtime


def test_a_wrong_checksum_is_fetched_once_more(door: WebDAVStorage, tmp_path: Path) -> None:
    wrong = b"X" + BODY[1:]
    it = play(door, tmp_path).get(200, wrong, Digest=digest(BODY)).described(ENTRY)
    it.get(200, BODY, Digest=digest(BODY)).synced()
    assert is_there(tmp_path)
    it = play(door, tmp_path / "b").get(200, wrong, Digest=digest(BODY)).described(ENTRY)
    with pytest.raises(ChecksumMismatch):
        it.get(200, wrong, Digest=digest(BODY))
    assert names(tmp_path / "b") == []


# -- checksums -------------------------------------------------------------------------------------


def test_what_is_replaced_by_an_upload_under_way_is_not_fetched(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path).get(200, BODY, Digest="adler32=00000001")
    with pytest.raises(DoorBusy):
        it.described(replace(ENTRY, size_bytes=None))
    assert names(tmp_path) == []


def test_a_checksum_that_head_alone_tells(door: WebDAVStorage, tmp_path: Path) -> None:
    """As StoRM WebDAV and XRootD do."""
    it = play(door, tmp_path).get(200, BODY)
    assert it.hop.request.method == "HEAD"
    it.get(200, Digest=digest(BODY)).synced()
    assert it.result.verified
    assert door.tells_checksums


def test_a_server_without_checksums_is_asked_for_them_once(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path / "a").get(200, BODY).get(200).synced()
    assert str(it.result.checksum) == f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    assert not it.result.verified
    it = play(door, tmp_path / "b").get(200, BODY).synced()
    assert not it.result.verified


def test_a_checksum_that_only_a_later_answer_tells_is_compared(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    it = play(door, tmp_path).get(200, BODY, cut=100_000).pass_pauses()
    it.get(206, BODY[100_000:], Digest=digest(BODY), **rest(100_000)).synced()
    assert it.result.verified
    it = play(door, tmp_path / "b").get(200, b"X" + BODY[1:], cut=100_000).pass_pauses()
    it.get(206, BODY[100_000:], Digest=digest(BODY), **rest(100_000)).described(ENTRY)
    it.get(200, BODY, Digest=digest(BODY)).synced()
    assert is_there(tmp_path / "b")


def test_an_md5_of_the_listing_is_compared(door: WebDAVStorage, tmp_path: Path) -> None:
    md5 = Checksum("md5", hashlib.md5(BODY).hexdigest())
    it = play(door, tmp_path, replace(ENTRY, checksums=(md5,))).get(200, BODY).synced()
    assert (it.result.checksum, it.result.verified) == (md5, True)


def test_a_server_that_refuses_want_digest_is_asked_without(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    """XRootD 5.5 without ``xrootd.chksum``."""
    it = play(door, tmp_path)
    assert any(line.startswith(b"Want-Digest") for line in it.hop.request.headers)
    it.get(405).described(ENTRY)
    assert it.hop.request.headers == ()
    it.get(200, BODY)
    it.get(405).get(405)  # nor does HEAD
    assert it.synced().result
    assert play(door, tmp_path / "b").hop.request.headers == ()


# -- the token -------------------------------------------------------------------------------------


@pytest.fixture
def known() -> Iterator[WebDAVStorage]:
    """A door with tokens."""
    with WebDAVStorage(Settings(door_url="https://door:1"), Tokens()) as door:
        yield door


def sent(door: WebDAVStorage, it: Play) -> str | None:
    """Return the token that a request is sent with."""
    hop = it.hop
    lines = door.session.lines_for(hop)
    while lines is None:
        hop = it.send(None).made().hop
        lines = door.session.lines_for(hop)
    bearers = [line for line in lines if line.startswith(b"Authorization")]
    assert bearers == ([f"Authorization: Bearer {hop.token}".encode()] if hop.token else [])
    return hop.token


def test_the_token_is_for_the_door_alone(known: WebDAVStorage, tmp_path: Path) -> None:
    it = play(known, tmp_path)
    assert sent(known, it) == "first-token"
    it.get(302, Location=POOL)
    assert sent(known, it) is None
    it.get(307, Location="https://door:1/again")
    assert sent(known, it) == "first-token"


def test_a_refused_token_is_renewed_once(known: WebDAVStorage, tmp_path: Path) -> None:
    it = play(known, tmp_path)
    sent(known, it)
    it.get(401).made()
    assert sent(known, it) == "second-token"
    with pytest.raises(Refused):
        it.get(401)
    assert names(tmp_path) == []


def test_others_wait_for_the_one_renewal(known: WebDAVStorage, tmp_path: Path) -> None:
    one, two = play(known, tmp_path / "a"), play(known, tmp_path / "b")
    sent(known, one)
    sent(known, two)
    one.get(401)
    two.get(401)
    assert isinstance(one.wish, Call)
    assert isinstance(two.wish, Pause)
    assert known.session.is_waiting
    one.made()
    two.send()
    assert [sent(known, it) for it in (one, two)] == ["second-token"] * 2


def test_what_waits_to_be_sent_gets_the_newest_token(known: WebDAVStorage, tmp_path: Path) -> None:
    one, two = play(known, tmp_path / "a"), play(known, tmp_path / "b")
    sent(known, one)
    waiting = two.hop
    one.get(401).made()
    assert known.session.lines_for(waiting)
    assert waiting.token == "second-token"


def test_a_token_that_can_t_be_renewed_is_refused(known: WebDAVStorage, tmp_path: Path) -> None:
    Tokens.newer, before = None, Tokens.newer
    try:
        it = play(known, tmp_path)
        sent(known, it)
        with pytest.raises(Refused):
            it.get(401).made()
    finally:
        Tokens.newer = before


@pytest.mark.parametrize("location", ["http://pool:2/f", "ftp://pool/f", "https://u:p@pool/f", ""])
def test_redirects_that_lead_astray_are_refused(
    door: WebDAVStorage, tmp_path: Path, location: str
) -> None:
    with pytest.raises(ProtocolSurprise):
        play(door, tmp_path).get(302, Location=location)
    assert names(tmp_path) == []


def test_redirects_end(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path)
    with pytest.raises(ProtocolSurprise, match="redirects in a row"):  # noqa: PT012
        for _ in range(6):
            it.get(302, Location=POOL)


# -- what passes, and what does not ----------------------------------------------------------------


@pytest.mark.parametrize(
    "status", [408, 429, 500, 502, 503, 504, 0], ids=lambda status: status or "no answer"
)
def test_a_restart_of_the_services_is_waited_for(
    door: WebDAVStorage, tmp_path: Path, clock: Clock, status: int
) -> None:
    it = play(door, tmp_path, clock=clock)
    while it.paused_s < 100:
        it.get(status, b"Failed to deliver message").pass_pauses()
    it.get(200, BODY, Digest=digest(BODY)).synced()
    assert is_there(tmp_path)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, DoorBusy), (503, DoorBusy), (429, RateLimited), (0, NetworkError)]
)
def test_what_does_not_pass_ends_after_three_minutes(
    door: WebDAVStorage, tmp_path: Path, clock: Clock, status: int, kind: type[Exception]
) -> None:
    it = play(door, tmp_path, clock=clock)
    with pytest.raises(kind):  # noqa: PT012
        while True:
            it.get(status).pass_pauses()
    assert 150 < it.paused_s <= 180


def test_a_server_that_was_never_reached_is_given_up_soon(
    door: WebDAVStorage, tmp_path: Path, clock: Clock
) -> None:
    it = play(door, tmp_path, clock=clock)
    with pytest.raises(NotSent):  # noqa: PT012
        while True:
            it.get(0, error=NotSent("The server can't be reached")).pass_pauses()
    assert 3 < it.paused_s <= 10
    door.session.has_answered = True
    it = play(door, tmp_path, clock=clock)
    with pytest.raises(NotSent):  # noqa: PT012
        while True:
            it.get(0, error=NotSent("The server can't be reached")).pass_pauses()
    assert it.paused_s > 150


def test_progress_begins_the_three_minutes_anew(
    door: WebDAVStorage, tmp_path: Path, clock: Clock
) -> None:
    it = play(door, tmp_path, clock=clock)
    at = 0
    while at + 20_000 < len(BODY):
        while it.paused_s < 90 * (1 + at // 20_000):
            it.get(503).pass_pauses()
        headers = rest(at) if at else {}
        it.get(206 if at else 200, BODY[at:], cut=20_000, Digest=digest(BODY), **headers)
        it.pass_pauses()
        at += 20_000
    it.get(206, BODY[at:], **rest(at)).synced()
    assert is_there(tmp_path)
    assert it.paused_s > 900


def test_a_few_bytes_are_no_progress(door: WebDAVStorage, tmp_path: Path, clock: Clock) -> None:
    it = play(door, tmp_path, clock=clock).get(200, BODY, cut=1000, Digest=digest(BODY))
    at = 1000
    with pytest.raises(NetworkError):  # noqa: PT012
        while True:
            it.pass_pauses().get(206, BODY[at:], cut=10, **rest(at))
            at += 10
    assert it.paused_s <= 180
    assert names(tmp_path) == [".f.h5.part", ".f.h5.part.json"]


def test_what_comes_again_and_again_is_no_progress(
    door: WebDAVStorage, tmp_path: Path, clock: Clock
) -> None:
    """Of a server that ignores ranges each try begins at the first byte."""
    it = play(door, tmp_path, clock=clock)
    with pytest.raises(NetworkError):  # noqa: PT012
        for cut in [200_000, 100_000] * 100:
            it.pass_pauses().get(200, BODY, cut=cut)
    assert it.paused_s <= 180


NEVER = {
    "broken": (500, b"File is broken", Lost),
    "crash": (500, b"java.lang.NullPointerException", Exception),
    "405": (405, b"", Exception),
    "501": (501, b"", Exception),
    "403": (403, b"", Refused),
}


@pytest.mark.parametrize("never", NEVER.values(), ids=NEVER.keys())
def test_what_never_gets_better_is_asked_once(
    door: WebDAVStorage, tmp_path: Path, never: tuple[int, bytes, type[Exception]]
) -> None:
    status, said, kind = never
    door._wants_digest = False  # 405 may be for that
    it = play(door, tmp_path)
    with pytest.raises(kind):
        it.get(status, said)
    assert it.n_hops == 1
    assert names(tmp_path) == []


def test_a_retry_after_within_the_budget_is_waited_for(
    door: WebDAVStorage, tmp_path: Path, clock: Clock
) -> None:
    it = play(door, tmp_path, clock=clock).get(503, Retry_After="100").pass_pauses()
    assert 100 < it.paused_s < 112
    with pytest.raises(DoorBusy) as why:
        it.get(503, Retry_After="100")
    assert "100 s" in (why.value.hint or "")


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"locality": "NEARLINE"}, Nearline),
        ({"locality": "LOST"}, Lost),
        ({"size_bytes": None}, DoorBusy),
    ],
    ids=str,
)
def test_what_can_t_be_had_is_not_asked_for(
    door: WebDAVStorage, tmp_path: Path, entry: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        play(door, tmp_path, replace(ENTRY, **entry))


def test_what_is_shown_as_unavailable_is_asked_for(door: WebDAVStorage, tmp_path: Path) -> None:
    """So are all files for some seconds after dCache's pool manager was restarted."""
    it = play(door, tmp_path, replace(ENTRY, locality="UNAVAILABLE"))
    it.get(500, b"Failed to deliver message").pass_pauses()
    assert it.get(200, BODY, Digest=digest(BODY)).synced().result.verified


# -- the end ---------------------------------------------------------------------------------------


def test_a_stop_keeps_what_came(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path).get(200, BODY, cut=100_000)
    with pytest.raises(KeyboardInterrupt):
        it.fail(KeyboardInterrupt())
    assert names(tmp_path) == [".f.h5.part", ".f.h5.part.json"]
    again = play(door, tmp_path, replace(ENTRY, etag="new"))
    again.made()
    assert again.range == f"bytes=100000-{len(BODY) - 1}"
    again.get(206, BODY[100_000:], Digest=digest(BODY), **rest(100_000)).synced()
    assert is_there(tmp_path)
    assert again.result.resumed_bytes == 100_000


def test_a_stop_before_the_part_was_read_leaves_it_as_it_was(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    for cut in (100_000, None):
        it = play(door, tmp_path)
        if cut is not None:
            it.get(200, BODY, cut=cut, Digest=digest(BODY))
        with pytest.raises(Stopped):
            it.fail(Stopped("Stopped"))
    again = play(door, tmp_path)
    again.made()
    assert again.range == f"bytes=100000-{len(BODY) - 1}"


def test_what_another_process_left_beside_an_older_file_is_kept(
    door: WebDAVStorage, tmp_path: Path
) -> None:
    (tmp_path / "f.h5").write_bytes(b"an older version")
    first = play(door, tmp_path)
    second = play(door, tmp_path)
    first.get(200, BODY, cut=100_000, Digest=digest(BODY))
    with pytest.raises(Stopped):
        first.fail(Stopped("Stopped"))
    second.pass_pauses().made()
    assert second.range == f"bytes=100000-{len(BODY) - 1}"


def test_no_name_where_the_disk_refuses_the_bytes(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path).get(200, BODY, Digest=digest(BODY))
    with pytest.raises(NoSpace):
        it.send(OSError(28, "No space left on device"))
    assert "f.h5" not in names(tmp_path)


def test_a_file_that_is_here_needs_no_request(door: WebDAVStorage, tmp_path: Path) -> None:
    play(door, tmp_path).get(200, BODY, Digest=digest(BODY)).synced()
    assert play(door, tmp_path).result.skipped


def test_who_waits_for_another_process_looks_again(door: WebDAVStorage, tmp_path: Path) -> None:
    first = play(door, tmp_path)
    second = play(door, tmp_path)
    assert isinstance(second.wish, Pause)
    first.get(200, BODY, Digest=digest(BODY)).synced()
    assert second.pass_pauses().result.skipped
    assert is_there(tmp_path)


def test_each_hop_is_a_request_of_its_own(door: WebDAVStorage, tmp_path: Path) -> None:
    it = play(door, tmp_path)
    assert isinstance(it.wish, Hop)
    with pytest.raises(Truncated):  # noqa: PT012
        for _ in range(4):
            it.get(200, BODY[:-1], Content_Length=None).pass_pauses()
        it.described(ENTRY)
        for _ in range(4):
            it.get(200, BODY[:-1], Content_Length=None).pass_pauses()


def test_a_slow_file_system_is_called_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ctaflows.transfer.download.time.perf_counter", lambda: now[0])
    disk = Disk()

    def takes(seconds: float) -> str:
        now[0] += seconds
        return "done"

    assert [Play(disk.do(lambda: takes(1e-4))).result for _ in range(9)] == ["done"] * 9
    for _ in range(9):
        Play(disk.do(lambda: takes(2e-3)))
    it = Play(disk.do(lambda: takes(2e-3)))
    assert isinstance(it.wish, Call)
    assert it.made().result == "done"
    while isinstance(it.wish, Call) or it.result:  # until it is quick again
        it = Play(disk.do(lambda: takes(1e-5)))
        if it.result:
            break
        it.made()
    assert disk.mean_s < 3e-4


def test_after_a_429_nothing_is_sent_to_the_door_for_a_second() -> None:
    """A door of dCache counts the requests of an address."""
    session = Session(Settings(backoff_s=0.0), "https://door:1")

    def begun(url: str) -> Play[Any]:
        return Play(ask(Request("GET", url), session, Retries(session.settings)))

    it = begun("https://door:1/a").get(429)
    assert isinstance(it.wish, Pause)
    assert 0.7 < it.wish.seconds < 1.3
    other = begun("https://door:1/b")
    assert isinstance(other.wish, Pause)
    assert 0 < other.wish.seconds <= it.wish.seconds
    assert isinstance(begun("https://pool:2/c").wish, Hop), "a pool may be asked"


# -- into a pipe -----------------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    file = tmp_path / "what was written"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    yield descriptor, file
    os.close(descriptor)


def test_a_pipe_goes_on_at_the_byte_where_it_broke(
    door: WebDAVStorage, pipe: tuple[int, Path]
) -> None:
    it = Play(download_into(door, ENTRY, pipe[0], "-"))
    it.get(200, BODY, cut=100_000, Digest=digest(BODY))
    it.get(206, BODY[100_000:], **rest(100_000))
    assert it.result.verified
    assert pipe[1].read_bytes() == BODY


@pytest.mark.parametrize("error", [None, NetworkError("broken")], ids=["early end", "broken"])
def test_no_byte_comes_twice_into_a_pipe(
    door: WebDAVStorage, pipe: tuple[int, Path], error: NetworkError | None
) -> None:
    it = Play(download_into(door, ENTRY, pipe[0], "-"))
    it.get(200, BODY[:100_000], error=error, Content_Length=None)
    with pytest.raises(StorageError, match="some bytes were written"):
        it.get(200, BODY, Content_Length=None)
    assert pipe[1].read_bytes() == BODY[:100_000]


@pytest.mark.parametrize("algorithm", ["adler32", "md5"])
def test_a_checksum_that_head_alone_tells_of_what_went_into_a_pipe(
    door: WebDAVStorage, pipe: tuple[int, Path], algorithm: str
) -> None:
    it = Play(download_into(door, ENTRY, pipe[0], "-")).get(200, BODY)
    assert it.hop.request.method == "HEAD"
    told = {
        "adler32": digest(BODY),
        "md5": f"md5={base64.b64encode(hashlib.md5(BODY).digest()).decode()}",
    }
    it.get(200, Content_Length=str(len(BODY)), Digest=told[algorithm])
    sha256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    assert str(it.result.checksum) == {"adler32": f"adler32:{ADLER}", "md5": sha256}[algorithm]
    assert it.result.verified == (algorithm == "adler32"), "md5 is told too late"


def test_a_wrong_checksum_that_head_alone_tells_of_a_pipe(
    door: WebDAVStorage, pipe: tuple[int, Path]
) -> None:
    it = Play(download_into(door, ENTRY, pipe[0], "-")).get(200, BODY)
    with pytest.raises(ChecksumMismatch):
        it.get(200, Content_Length=str(len(BODY)), Digest="adler32=00000001").described(ENTRY)


# -- from a service of a hub -----------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"moved"])
def test_a_service_that_redirects_asks_for_a_login(tmp_path: Path, body: bytes) -> None:
    with DownloadServiceStorage(Settings(), "https://hub/services/d", "a" * 32) as door:
        it = Play(download(door, Job(ENTRY, tmp_path / "f.h5")))
        with pytest.raises(Refused, match="asks for a login"):
            it.get(302, body, Location="https://elsewhere/login?next=f.h5")
    assert names(tmp_path) == []
