"""Listings without a network: taken up where they break off, and given up where nothing comes."""

from __future__ import annotations

from typing import Any

import pytest
from journeys import answer, broken, listing, result

from ctaflows.errors import ListingUnreadable, NetworkError, ProtocolSurprise
from ctaflows.settings import Settings
from ctaflows.storage.listing import _Entries
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transport.wishes import Hop, Pause

NAMES = [f"/d/f{n:03}" for n in range(300)]
BODY = listing("/d/", *NAMES)


class Listing:
    """The listing of a directory, and the entries that were taken from it."""

    def __init__(self, **changes: Any) -> None:
        self.door = WebDAVStorage(Settings(door_url="https://door:1", **{"attempts": 2, **changes}))
        self.sink = _Entries(self.door._lister, "/d")
        self.journey = self.door._lister._listing("https://door:1/d", self.sink)
        self.taken: list[str] = []

    def take(self) -> None:
        self.taken += [entry.path for entry in self.sink.taken()]


def test_a_listing_is_a_propfind_of_depth_1_with_a_patience_of_its_own() -> None:
    it = Listing(listing_timeout_s=77.0)
    hop = next(it.journey)
    assert isinstance(hop, Hop)
    assert hop.request.method == "PROPFIND"
    assert b"Depth: 1" in hop.request.headers
    assert hop.request.silence_s == 77
    result(it.journey, answer(hop, 207, BODY))
    it.take()
    assert it.taken == NAMES


def test_entries_can_be_taken_while_they_come() -> None:
    it = Listing()
    hop = next(it.journey)
    sink = hop.request.sink
    head = answer(hop, 207, BODY, cut=0)
    sink.begin(head)
    for at in range(0, len(BODY), 1000):
        sink.write(BODY[at : at + 1000])
        it.take()
        assert len(it.taken) >= (at - 1000) // 250
    assert it.taken == NAMES


def test_a_listing_that_brings_something_new_each_time_goes_on() -> None:
    """As when a door closes the connection of a reader that pages through it at leisure."""
    it, n_asked = Listing(), 0
    wish = next(it.journey)
    for n_asked in range(1, 100):
        cut = n_asked * 5000
        if cut >= len(BODY):
            break
        assert isinstance(it.journey.send(answer(wish, 207, BODY, cut=cut)), Pause)
        it.take()
        wish = next(it.journey)
    result(it.journey, answer(wish, 207, BODY))
    it.take()
    assert n_asked > 10
    assert it.taken == NAMES


def test_a_listing_that_brings_nothing_new_is_given_up() -> None:
    it = Listing(attempts=3)
    wish = next(it.journey)
    for _ in range(2):  # the first brings something
        assert isinstance(it.journey.send(answer(wish, 207, BODY, cut=5000)), Pause)
        wish = next(it.journey)
    with pytest.raises(NetworkError):
        it.journey.send(answer(wish, 207, BODY, cut=5000))
    it.take()
    assert 0 < len(it.taken) < 300
    assert len(set(it.taken)) == len(it.taken)


def test_a_door_that_can_t_be_reached_is_given_up() -> None:
    it = Listing()
    assert isinstance(it.journey.send(broken(next(it.journey))), Pause)
    with pytest.raises(NetworkError):
        it.journey.send(broken(next(it.journey)))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>", ProtocolSurprise),
        (207, b"", ListingUnreadable),
        (207, BODY[:-3], ListingUnreadable),
        (207, b"no xml", ListingUnreadable),
    ],
)
def test_what_is_no_listing_is_an_error_at_once(
    status: int, body: bytes, kind: type[Exception]
) -> None:
    it = Listing()
    with pytest.raises(kind):
        it.journey.send(answer(next(it.journey), status, body))


def test_a_file_lists_itself() -> None:
    it = Listing()
    result(it.journey, answer(next(it.journey), 207, listing("/d")))
    it.take()
    assert it.taken == ["/d"]
