"""Reading ranges without a network: which requests are made, and what becomes of their answers."""

from __future__ import annotations

from typing import Any

import pytest
from journeys import answer, broken, listing, result

from ctaflows.errors import (
    NetworkError,
    NoRanges,
    NotFound,
    ProtocolSurprise,
    Refused,
    SourceChanged,
)
from ctaflows.model import Entry
from ctaflows.settings import Settings
from ctaflows.storage.range_reader import RangeReader
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transport.wishes import Hop, Pause

DATA = bytes(range(256)) * 40
ENTRY = Entry("/n/f.h5", size_bytes=len(DATA), etag='"1"')
DOOR = "https://door:1/n/f.h5"
POOL = "https://pool:2/f?dcache-http-uuid=1"


@pytest.fixture
def reader() -> RangeReader:
    door = WebDAVStorage(Settings(door_url="https://door:1", attempts=3))
    return RangeReader(door, ENTRY)


def part(hop: Any, start: int, end: int, **details: Any) -> Any:
    span = f"bytes {start}-{end - 1}/{len(DATA)}"
    return answer(hop, 206, DATA[start:end], Content_Range=span, **details)


def range_of(hop: Any) -> bytes:
    assert isinstance(hop, Hop)
    return hop.request.sink.range_line()


def described(hop: Any, etag: str = '"1"') -> Any:
    """Describe the file, as the door answers to the question whether it is still the same."""
    assert (hop.request.method, hop.url) == ("PROPFIND", DOOR)
    return answer(hop, 207, listing(ENTRY.path, size=len(DATA), etag=etag))


def read_first(reader: RangeReader) -> None:
    """Read a range by way of the door, so that the pool's URL is known."""
    journey = reader.reading(0, 10)
    hop = next(journey)
    assert (hop.url, hop.is_home) == (DOOR, True)
    hop = journey.send(answer(hop, 302, Location=POOL))
    assert (hop.url, hop.is_home) == (POOL, False)
    assert result(journey, part(hop, 0, 10)) == DATA[:10]


def test_the_pool_is_asked_again_without_the_door(reader: RangeReader) -> None:
    read_first(reader)
    journey = reader.reading(100, 200)
    hop = next(journey)
    assert (hop.url, range_of(hop)) == (POOL, b"Range: bytes=100-199")
    assert result(journey, part(hop, 100, 200)) == DATA[100:200]
    assert (reader.n_requests, reader.read_bytes) == (2, 110)


def test_a_pool_that_refuses_is_passed_by_at_once(reader: RangeReader) -> None:
    read_first(reader)
    journey = reader.reading(0, 50)
    assert journey.send(answer(next(journey), 403)) == Pause(0.0)
    hop = next(journey)
    assert hop.url == DOOR
    with pytest.raises(Refused):  # the door's own word is the last
        journey.send(answer(hop, 403))


def test_what_broke_off_goes_on_from_there(reader: RangeReader) -> None:
    journey = reader.reading(0, 1000)
    hop = journey.send(answer(next(journey), 302, Location=POOL))
    assert isinstance(journey.send(part(hop, 0, 1000, cut=300)), Pause)
    hop = next(journey)
    assert (hop.url, range_of(hop)) == (DOOR, b"Range: bytes=300-999")
    hop = journey.send(part(hop, 300, 1000))
    assert result(journey, described(hop)) == DATA[:1000]
    assert reader.read_bytes == 1000


def test_another_pool_is_believed_when_the_door_knows_the_same_file(reader: RangeReader) -> None:
    read_first(reader)
    reader._pool = None
    journey = reader.reading(0, 10)
    hop = journey.send(answer(next(journey), 302, Location=POOL + "2"))
    hop = journey.send(part(hop, 0, 10))
    assert result(journey, described(hop)) == DATA[:10]


def test_another_pool_of_another_file_gives_no_byte(reader: RangeReader) -> None:
    read_first(reader)
    reader._pool = None
    journey = reader.reading(0, 10)
    hop = journey.send(answer(next(journey), 302, Location=POOL + "2"))
    hop = journey.send(part(hop, 0, 10))
    with pytest.raises(SourceChanged):
        journey.send(described(hop, '"2"'))
    assert reader.read_bytes == 10


def test_bytes_whose_file_can_t_be_told_are_asked_for_again(reader: RangeReader) -> None:
    read_first(reader)
    reader._pool = None
    journey = reader.reading(0, 10)
    hop = journey.send(answer(next(journey), 302, Location=POOL + "2"))
    hop = journey.send(part(hop, 0, 10))
    for _ in range(2):
        assert isinstance(journey.send(broken(hop)), Pause)
        hop = next(journey)
    assert isinstance(journey.send(broken(hop)), Pause)
    assert range_of(next(journey)) == b"Range: bytes=0-9"


def test_a_page_in_place_of_the_range_is_no_byte(reader: RangeReader) -> None:
    journey = reader.reading(0, 10)
    assert isinstance(journey.send(answer(next(journey), 200, b"<html>")), Pause)
    assert range_of(next(journey)) == b"Range: bytes=0-9"


def test_more_than_was_asked_for_is_refused(reader: RangeReader) -> None:
    journey = reader.reading(0, 10)
    span = f"bytes 0-9/{len(DATA)}"
    with pytest.raises(ProtocolSurprise, match="More bytes"):
        journey.send(
            answer(
                next(journey),
                206,
                DATA[:20],
                Content_Range=span,
                Content_Length="10",
                Transfer_Encoding="chunked",
            )
        )


def test_the_whole_file_in_place_of_a_range(reader: RangeReader) -> None:
    journey = reader.reading(0, 10)
    with pytest.raises(NoRanges):
        journey.send(answer(next(journey), 200, DATA))


def test_the_whole_file_begins_anew_where_there_are_no_ranges(reader: RangeReader) -> None:
    journey = reader.reading(0, len(DATA))
    assert isinstance(journey.send(answer(next(journey), 200, DATA, cut=77, ETag='"1"')), Pause)
    hop = next(journey)
    assert range_of(hop) == b"Range: bytes=77-%d" % (len(DATA) - 1)
    assert result(journey, answer(hop, 200, DATA, ETag='"1"')) == DATA


def test_a_failure_that_lasts_is_raised(reader: RangeReader) -> None:
    journey = reader.reading(0, 10)
    wish = next(journey)
    for _ in range(2):
        assert isinstance(journey.send(broken(wish)), Pause)
        wish = next(journey)
    with pytest.raises(NetworkError):
        journey.send(broken(wish))


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (401, Refused)])
def test_what_the_door_says_is_raised_at_once(
    reader: RangeReader, status: int, kind: type[Exception]
) -> None:
    journey = reader.reading(0, 10)
    with pytest.raises(kind):
        journey.send(answer(next(journey), status))
