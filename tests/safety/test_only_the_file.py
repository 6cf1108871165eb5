"""Answers in place of a file: nothing of them is taken, and what is kept stays kept."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import ctaflows

if TYPE_CHECKING:
    from collections.abc import Callable

    from littledoor import Handler, LittleDoor

SIZES = {"small": 20_000, "middle": 3_000_000}
PATH = "/n/a.h5"
NOTE = b"being staged\n"
PAGE = b"<html><h1>Please log in</h1></html>\n" * 50


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(params=list(SIZES))
def data(little: LittleDoor, at_little: Path, request: pytest.FixtureRequest) -> bytes:
    """A file at a door without checksums, in one piece."""
    little.has_sums = False
    little.files[PATH] = content(SIZES[request.param])
    return little.files[PATH]


def note(handler: Handler) -> bool:
    return handler.reply(202, {"Content-Type": "text/plain"}, NOTE)


def page(handler: Handler) -> bool:
    return handler.reply(200, {"Content-Type": "text/html"}, PAGE)


def part_of_a_page(handler: Handler) -> bool:
    """A page without a length, that breaks off."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    return handler.raw(head, [b"%x\r\n" % len(PAGE), PAGE, b"\r\n"])


def page_without_length(handler: Handler) -> bool:
    """A page without a length, to its end."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    return handler.raw(head, [b"%x\r\n" % len(PAGE), PAGE, b"\r\n0\r\n\r\n"])


def nothing(handler: Handler) -> bool:
    return handler.reply(204)


def packed(handler: Handler) -> bool:
    body = handler.place.files[handler.name][::-1]
    return handler.reply(200, {"Content-Encoding": "gzip"}, body)


def page_of_two_lengths(handler: Handler) -> bool:
    """Transfer-Encoding wins over the file's own length."""
    n_bytes = len(handler.place.files[handler.name])
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {n_bytes}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return handler.raw(head, [b"%x\r\n" % len(PAGE), PAGE, b"\r\n0\r\n\r\n"])


def short_range(handler: Handler) -> bool:
    """The range that was asked for, says one header; another one says less."""
    n_bytes = len(handler.place.files[handler.name])
    start = int((handler.headers.get("range") or "bytes=0-")[6:].partition("-")[0])
    span = {"Content-Range": f"bytes {start}-{n_bytes - 1}/{n_bytes}"}
    return handler.reply(206, span, PAGE[:5])


def chunked_range(handler: Handler) -> bool:
    n_bytes = len(handler.place.files[handler.name])
    start = int((handler.headers.get("range") or "bytes=0-")[6:].partition("-")[0])
    head = "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n"
    head += f"Content-Range: bytes {start}-{n_bytes - 1}/{n_bytes}\r\n\r\n"
    return handler.raw(head, [b"5\r\nhello\r\n0\r\n\r\n"])


ODD = [note, page, part_of_a_page, page_without_length, nothing, packed]
ODD += [page_of_two_lengths, short_range, chunked_range]
odd_ones = pytest.mark.parametrize("odd", ODD, ids=[odd.__name__ for odd in ODD])


def get(*words: str) -> Any:
    return ctaflows("get", "n/a.h5", ".", *words)


@odd_ones
def test_what_comes_once_in_place_of_the_file_is_no_part_of_it(
    little: LittleDoor, data: bytes, odd: Callable[[Handler], bool]
) -> None:
    little.when("GET", odd, origin="pool", times=1)
    assert get().code == 0
    assert Path("a.h5").read_bytes() == data


@odd_ones
def test_what_comes_always_in_place_of_the_file_is_an_error(
    little: LittleDoor, data: bytes, odd: Callable[[Handler], bool]
) -> None:
    little.when("GET", odd, origin="pool")
    done = get()
    assert done.code == (6 if odd is note else 9 if odd is part_of_a_page else done.code) != 0
    assert not Path("a.h5").exists()
    assert sum(h.method == "GET" and h.origin == "pool" for h in little.heard) <= 12
    little.hooks.clear()
    assert get().code == 0
    assert Path("a.h5").read_bytes() == data


@odd_ones
def test_what_comes_once_in_place_of_the_rest_keeps_what_was_kept(
    little: LittleDoor, at_little: Path, odd: Callable[[Handler], bool]
) -> None:
    little.has_sums = False
    data = little.files[PATH] = content(SIZES["middle"])
    half = len(data) // 2

    def breaks_off(handler: Handler) -> bool:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n"
        return handler.raw(head, [data[:half]])

    little.when("GET", breaks_off, origin="pool", times=1)
    little.when("GET", odd, origin="pool", times=1)
    assert get().code == 0
    assert Path("a.h5").read_bytes() == data
    if odd in (
        note,
        page,
        nothing,
        packed,
        short_range,
    ):  # the others look like the whole file until they end
        asked = [h.values("range") for h in little.heard if h.origin == "pool"]
        assert asked == [[], *2 * [[f"bytes={half}-{len(data) - 1}"]]]


def test_the_rest_of_another_version_is_not_taken(little: LittleDoor, at_little: Path) -> None:
    """Only the ETag of the answers tells: the listing has none, and size and time stay."""
    little.has_sums = little.has_tags = False
    old, new = content(SIZES["middle"], 1), content(SIZES["middle"], 2)
    little.files[PATH] = old

    def tagged(handler: Handler) -> bool:
        data = little.files[PATH]
        tag = hashlib.sha256(data).hexdigest()[:8]
        asked = handler.headers.get("range")
        start = int(asked[6:].partition("-")[0]) if asked else 0
        status, span = ("206 Partial Content", f"{start}-{len(data) - 1}") if asked else ("200", "")
        head = f'HTTP/1.1 {status}\r\nETag: "{tag}"\r\nContent-Length: {len(data) - start}\r\n'
        head += f"Content-Range: bytes {span}/{len(data)}\r\n" if asked else ""
        stop = len(data) if data is new else start + 500_000
        little.files[PATH] = new
        return handler.raw(head + "\r\n", [data[start:stop]])

    little.when("GET", tagged, origin="pool")
    assert get().code == 0
    assert Path("a.h5").read_bytes() == new


def test_nor_by_a_later_run(little: LittleDoor, at_little: Path) -> None:
    little.has_sums = little.has_tags = False
    old, new = content(SIZES["middle"], 1), content(SIZES["middle"], 2)
    little.files[PATH] = old

    def breaks_off(handler: Handler) -> bool:
        head = f'HTTP/1.1 200 OK\r\nETag: "old"\r\nContent-Length: {len(old)}\r\n\r\n'
        return handler.raw(head, [old[:900_000]])

    little.when("GET", breaks_off, origin="pool", times=1)
    little.when("GET", lambda h: h.reply(503), origin="pool")
    assert get().code == 8
    assert Path(".a.h5.part").stat().st_size > 0
    little.hooks.clear()
    little.files[PATH] = new
    little.always = [("ETag", '"new"')]
    assert get().code == 0
    assert Path("a.h5").read_bytes() == new


def test_parts_and_journals_of_the_first_version_are_gone_on_with(
    little: LittleDoor, at_little: Path
) -> None:
    """As 0.1.0 left them: the journal tells of the source alone."""
    data = little.files[PATH] = content(SIZES["middle"])
    source = json.loads(ctaflows("ls", "--json", PATH).out)[0]
    journal = {key: source[key] for key in ("path", "size_bytes", "etag", "mtime")}
    journal["checksums"] = [f"{name}:{value}" for name, value in source["checksums"].items()]
    Path(".a.h5.part.json").write_text(json.dumps(journal))
    Path(".a.h5.part").write_bytes(data[:1_000_000])
    record = json.loads(get("--json").out)[0]
    assert (record["resumed_bytes"], record["verified"]) == (1_000_000, True)


@pytest.mark.usefixtures("short_ranges")
def test_one_range_that_is_no_file_is_asked_for_again(little: LittleDoor, at_little: Path) -> None:
    little.has_sums = False
    data = little.files[PATH] = content(66 << 16)
    for odd in (note, page, short_range):
        little.when("GET", odd, origin="pool", times=1)
    assert get().code == 0
    assert Path("a.h5").read_bytes() == data


@pytest.mark.parametrize("odd", [note, page, nothing, packed])
def test_nor_among_many_small_files(
    little: LittleDoor, at_little: Path, odd: Callable[[Handler], bool]
) -> None:
    little.has_sums = False
    for number in range(8):
        little.files[f"/n/{number}.h5"] = content(5000, number)
    little.when("GET", odd, origin="pool", times=2)
    assert ctaflows("get", "-r", "n", ".").code == 0
    for path, data in little.files.items():
        assert Path(path[1:]).read_bytes() == data


@pytest.mark.usefixtures("short_ranges")
def test_ranges_without_a_length_are_left_to_one_stream(
    little: LittleDoor, at_little: Path
) -> None:
    little.has_sums = False
    data = little.files[PATH] = content(66 << 16)

    def chunked(handler: Handler) -> bool:
        asked = handler.headers.get("range", "")[6:].partition("-")
        if not asked[0]:
            return False
        head = "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n"
        head += f"Content-Range: bytes {asked[0]}-{asked[2]}/{len(data)}\r\n\r\n"
        return handler.raw(head, [b"5\r\nhello\r\n0\r\n\r\n"])

    little.when("GET", chunked, origin="pool")
    assert get().code == 0
    assert Path("a.h5").read_bytes() == data


def test_who_asks_for_an_hour_is_not_waited_for(little: LittleDoor, data: bytes) -> None:
    hour = {"Retry-After": "3600"}
    little.when("GET", lambda h: h.reply(202, hour, NOTE), origin="pool")
    assert get().code == 6
    assert sum(h.method == "GET" and h.origin == "pool" for h in little.heard) <= 2
