"""A door's operations without a network: which requests are made, and what their answers mean."""

from __future__ import annotations

from typing import Any

import pytest
from journeys import answer, broken, listing, result

from ctaflows.errors import (
    AlreadyExists,
    ListingUnreadable,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    RateLimited,
    Refused,
    UsageError,
)
from ctaflows.model import Checksum
from ctaflows.retry import Retries
from ctaflows.settings import Settings
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transport.messages import NotSent
from ctaflows.transport.wishes import Hop, Pause

ROOT = "https://door:1"


@pytest.fixture
def door() -> WebDAVStorage:
    return WebDAVStorage(Settings(door_url=ROOT, attempts=3))


def asked(hop: Any) -> tuple[str, str]:
    assert isinstance(hop, Hop), hop
    return hop.request.method, hop.url.removeprefix(ROOT)


def lines(hop: Any) -> list[bytes]:
    return [*hop.request.headers, *hop.request.own]


def budget(door: WebDAVStorage) -> Retries:
    return Retries(door.settings)


def test_a_description_comes_by_a_propfind_of_depth_0(door: WebDAVStorage) -> None:
    journey = door.describing("/a/b c", budget(door))
    hop = next(journey)
    assert asked(hop) == ("PROPFIND", "/a/b%20c")
    assert b"Depth: 0" in lines(hop)
    entry = result(journey, answer(hop, 207, listing("/a/b c", size=7), Server="dCache/12"))
    assert (entry.path, entry.size_bytes, entry.is_dir) == ("/a/b c", 7, False)
    assert door.server_name() == "dcache/12"


def test_a_description_that_breaks_off_is_asked_for_again(door: WebDAVStorage) -> None:
    journey = door.describing("/a", budget(door))
    assert isinstance(journey.send(answer(next(journey), 207, listing("/a"), cut=90)), Pause)
    hop = next(journey)
    assert isinstance(journey.send(broken(hop)), Pause)
    assert result(journey, answer(next(journey), 207, listing("/a/"))).is_dir


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>", ProtocolSurprise),
        (207, b"", ListingUnreadable),
        (207, listing("/a")[:-3], ListingUnreadable),
        (207, listing("/a/b"), ProtocolSurprise),
        (404, b"", NotFound),
        (403, b"", Refused),
    ],
)
def test_what_describes_nothing_is_an_error_at_once(
    door: WebDAVStorage, status: int, body: bytes, kind: type[Exception]
) -> None:
    journey = door.describing("/a", budget(door))
    with pytest.raises(kind):
        journey.send(answer(next(journey), status, body, Server="StoRM"))
    assert status >= 400 or door.server_name() == "storm"


@pytest.mark.parametrize("status", [405, 500])
def test_a_server_without_checksums_is_asked_without(door: WebDAVStorage, status: int) -> None:
    said = b"failed to calculate checksum"
    journey = door.measuring("/a", budget(door))
    hop = next(journey)
    assert asked(hop) == ("HEAD", "/a")
    assert any(line.startswith(b"Want-Digest") for line in lines(hop))
    got = answer(hop, status)
    got.body = said
    hop = journey.send(got)
    assert lines(hop) == []
    assert result(journey, answer(hop, 200, Content_Length="5")) == (5, ())


def test_a_head_tells_size_and_checksums(door: WebDAVStorage) -> None:
    journey = door.measuring("/a", budget(door))
    got = answer(next(journey), 200, Content_Length="5", Digest="adler32=00000001")
    assert result(journey, got) == (5, (Checksum("adler32", "00000001"),))


def test_missing_parents_are_made_first(door: WebDAVStorage) -> None:
    journey = door.making("/a/b", parents=True)
    hop = next(journey)
    assert asked(hop) == ("MKCOL", "/a/b/")
    hop = journey.send(answer(hop, 409))
    assert asked(hop) == ("MKCOL", "/a/")
    hop = journey.send(answer(hop, 201))
    assert asked(hop) == ("MKCOL", "/a/b/")
    assert result(journey, answer(hop, 201)) is None


@pytest.mark.parametrize(
    ("status", "there", "is_fine"),
    [(405, "/a/", True), (405, "/a", False), (403, "/a/", True), (403, "/a", False)],
)
def test_a_directory_that_exists_is_looked_at(
    door: WebDAVStorage, status: int, there: str, is_fine: bool
) -> None:
    journey = door.making("/a", exist_ok=True)
    hop = journey.send(answer(next(journey), status))
    assert asked(hop) == ("PROPFIND", "/a")
    got = answer(hop, 207, listing(there))
    if is_fine:
        assert result(journey, got) is None
    else:
        with pytest.raises(AlreadyExists if status == 405 else Refused):
            journey.send(got)


def test_without_its_parent_a_directory_is_not_made(door: WebDAVStorage) -> None:
    journey = door.making("/a/b")
    with pytest.raises(NotFound, match="parent"):
        journey.send(answer(next(journey), 409))


@pytest.mark.parametrize("what", ["making", "deleting"])
def test_what_changes_something_is_not_sent_again(door: WebDAVStorage, what: str) -> None:
    """But for a 429, which a door sends before it looks at a request."""
    journey = getattr(door, what)("/a")
    with pytest.raises(NetworkError):
        journey.send(broken(next(journey)))
    journey = getattr(door, what)("/a")
    assert isinstance(journey.send(answer(next(journey), 429)), Pause)
    assert result(journey, answer(next(journey), 201)) is None
    journey = getattr(door, what)("/a")
    assert isinstance(next(journey), Pause), "nothing is sent for a while after a 429"
    hop = next(journey)
    for _ in range(2):
        assert isinstance(journey.send(answer(hop, 429)), Pause)
        hop = next(journey)
    with pytest.raises(RateLimited):
        journey.send(answer(hop, 429))


@pytest.mark.parametrize(("is_dir", "path"), [(True, "/a/"), (False, "/a")])
def test_a_directory_is_removed_by_its_name_with_a_slash(
    door: WebDAVStorage, is_dir: bool, path: str
) -> None:
    journey = door.deleting("/a", is_dir=is_dir)
    hop = next(journey)
    assert asked(hop) == ("DELETE", path)
    assert result(journey, answer(hop, 204)) is None


def test_some_of_it_deleted_is_not_deleted(door: WebDAVStorage) -> None:
    journey = door.deleting("/a")
    with pytest.raises(ProtocolSurprise, match="DELETE"):
        journey.send(answer(next(journey), 207, listing("/a/b")))


def moving(door: WebDAVStorage, server: str, *, overwrite: bool = False) -> tuple[Any, Any]:
    """Begin to move a file at a server of some name."""
    journey = door.moving("/a", "/b c", overwrite=overwrite)
    hop = next(journey)
    assert asked(hop) == ("PROPFIND", "/")
    return journey, journey.send(answer(hop, 207, listing("/"), Server=server))


def test_a_file_is_moved_by_one_request(door: WebDAVStorage) -> None:
    journey, hop = moving(door, "dCache")
    assert asked(hop) == ("MOVE", "/a")
    assert lines(hop) == [b"Overwrite: F", b"Destination: https://door:1/b%20c"]
    assert result(journey, answer(hop, 201)) is None


def test_xrootd_is_asked_what_it_would_replace(door: WebDAVStorage) -> None:
    journey, hop = moving(door, "XRootD/5.5")
    assert asked(hop) == ("PROPFIND", "/b%20c")
    hop = journey.send(answer(hop, 404))
    assert lines(hop) == [b"Overwrite: F", b"Destination: https://door:1/b c"]
    assert result(journey, answer(hop, 201)) is None
    journey = door.moving("/a", "/b", overwrite=False)
    with pytest.raises(AlreadyExists):
        journey.send(answer(next(journey), 207, listing("/b")))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(412, AlreadyExists), (409, NotFound), (200, ProtocolSurprise), (207, ProtocolSurprise)],
)
def test_a_file_is_not_moved(door: WebDAVStorage, status: int, kind: type[Exception]) -> None:
    journey, hop = moving(door, "dCache", overwrite=True)
    with pytest.raises(kind):
        journey.send(answer(hop, status))


def test_a_file_is_not_moved_onto_itself(door: WebDAVStorage) -> None:
    with pytest.raises(UsageError):
        next(door.moving("/a", "/a", overwrite=True))


def test_a_door_that_does_not_tell_its_name_is_asked_once(door: WebDAVStorage) -> None:
    journey = door.naming_server()
    assert result(journey, answer_403(next(journey))) == "?"
    assert result(door.naming_server()) == "?"


def answer_403(hop: Any) -> Any:
    assert asked(hop) == ("PROPFIND", "/")
    return answer(hop, 403)


def test_a_door_whose_page_breaks_off_tells_its_name_by_the_head(door: WebDAVStorage) -> None:
    """StoRM WebDAV 1.8.1 fails at PROPFIND of the server's root after the head of its answer."""
    journey = door.naming_server()
    wish = next(journey)
    assert result(journey, answer(wish, 200, b"page", cut=0, Server="StoRM")) == "storm"


def test_an_outage_is_waited_out_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    door = WebDAVStorage(Settings(door_url=ROOT, retry_s=30))

    def fails(path: str) -> Any:
        journey = door.describing(path, budget(door))
        hop = next(journey)
        return journey.send(answer(hop, 0, error=NotSent("down", where=hop.url)))

    assert isinstance(fails("/a"), Pause)
    now[0] += 40
    with pytest.raises(NotSent):
        fails("/b")
    journey = door.describing("/c", budget(door))
    result(journey, answer(next(journey), 207, listing("/c")))
    assert isinstance(fails("/d"), Pause)  # it is another one
