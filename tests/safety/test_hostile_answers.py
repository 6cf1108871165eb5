"""Answers made to fill the memory, never to end, or to lead the client elsewhere."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from commandline import run
from commands import ctaflows
from littledoor import HEAD, OPEN, Handler, response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from littledoor import LittleDoor

#: A command alone takes some 40 MB.
MOST_MB = 200
SMALL = b"small and safe"
LARGE = random.Random(3).randbytes(700_000)  # more than is fetched in memory

_TEN = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
LAUGHS = f'{HEAD}<!DOCTYPE d [<!ENTITY e0 "ha">{_TEN}]>{OPEN}<d:x>&e9;</d:x></d:multistatus>'
OUTSIDE = f'{HEAD}<!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]>{OPEN}<d:x>&f;</d:x>'
PARAMETER = f'{HEAD}<!DOCTYPE d [<!ENTITY % p SYSTEM "https://localhost:1/"> %p;]>{OPEN}'
QUADRATIC = f'{HEAD}<!DOCTYPE d [<!ENTITY a "{"x" * 100_000}">]>{OPEN}<d:x>{"&a;" * 10_000}</d:x>'
_CHUNKED = "HTTP/1.1 {} X\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunks(first: bytes, block: bytes) -> itertools.chain[bytes]:
    framed = (b"%x\r\n%s\r\n" % (len(data), data) for data in (first, block))
    begin, again = framed
    return itertools.chain([begin], itertools.repeat(again))


def endless(status: int, kind: str, first: str, block: str) -> Callable[[Handler], bool]:
    """Answer without end."""

    def answer(handler: Handler) -> bool:
        handler.body()
        head = _CHUNKED.format(status, kind)
        return handler.raw(head, _chunks(first.encode() or b" ", block.encode()))

    return answer


ENTRY = response("/n/f.h5", "<d:resourcetype/><d:getcontentlength>1</d:getcontentlength>")
LISTINGS = {
    "laughs": lambda h: h.reply(207, {}, LAUGHS.encode()),
    "outside": lambda h: h.reply(207, {}, OUTSIDE.encode()),
    "parameter": lambda h: h.reply(207, {}, PARAMETER.encode()),
    "quadratic": lambda h: h.reply(207, {}, QUADRATIC.encode()),
    "one name": endless(207, "application/xml", f"{HEAD}{OPEN}<d:response><d:href>", "x" * 65536),
    "one tag": endless(207, "application/xml", f"{HEAD}<d:multistatus a='", "x" * 65536),
    "depth": endless(207, "application/xml", f"{HEAD}{OPEN}", "<d:x>" * 8192),
    "attributes": endless(207, "application/xml", f"{HEAD}<d:multistatus ", "a='1' " * 8192),
    "comment": endless(207, "application/xml", f"{HEAD}<!--", "x" * 65536),
    "an error": endless(500, "text/plain", "", "x" * 65536),
    "a header": lambda h: h.raw("HTTP/1.1 207 X\r\nA: ", itertools.repeat(b"x" * 65536)),
    "headers": lambda h: h.raw("HTTP/1.1 207 X\r\n", itertools.repeat(b"A: b\r\n" * 8192)),
    "1xx": lambda h: h.raw("", itertools.repeat(b"HTTP/1.1 102 Wait\r\n\r\n" * 1024)),
}


@pytest.mark.parametrize("wire", ["libcurl"])  # listings go over httpx all the same
@pytest.mark.parametrize("kind", LISTINGS)
def test_a_listing_that_is_a_weapon(little: LittleDoor, aimed: Path, kind: str) -> None:
    little.files["/n/good.h5"] = SMALL
    little.when("PROPFIND", LISTINGS[kind])
    done = run("ls", "n", CTAFLOWS_ATTEMPTS="2", CTAFLOWS_BACKOFF_S="0.01")
    assert done.code in (8, 9), done.err
    assert done.err.strip()
    assert "root:" not in done.out + done.err
    assert done.peak_mb < MOST_MB


@pytest.mark.parametrize("wire", ["libcurl"])
@pytest.mark.parametrize("kind", ["laughs", "one name", "headers"])
def test_nothing_is_deleted_on_its_word(little: LittleDoor, aimed: Path, kind: str) -> None:
    here = aimed / "n" / "kept.h5"
    here.parent.mkdir()
    here.write_bytes(SMALL)
    little.when("PROPFIND", LISTINGS[kind])
    done = ctaflows(
        "get", "-r", "n", ".", "--delete", CTAFLOWS_ATTEMPTS="1", CTAFLOWS_BACKOFF_S="0.01"
    )
    assert done.code in (8, 9), done.err
    assert here.read_bytes() == SMALL


BODIES = {
    "endless": lambda h: h.raw(
        _CHUNKED.format(200, "application/octet-stream"), _chunks(b"x", b"x" * 65536)
    ),
    "promised more": lambda h: h.raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", itertools.repeat(b"x" * 65536)
    ),
    "no length": lambda h: h.raw("HTTP/1.1 200 OK\r\n\r\n", itertools.repeat(b"x" * 65536)),
    "an error": endless(500, "text/plain", "", "x" * 65536),
    "headers": lambda h: h.raw("HTTP/1.1 200 X\r\n", itertools.repeat(b"A: b\r\n" * 8192)),
    "1xx": lambda h: h.raw("", itertools.repeat(b"HTTP/1.1 102 Wait\r\n\r\n" * 1024)),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_body_without_end(
    little: LittleDoor, aimed: Path, kind: str, data: bytes, wire: str
) -> None:
    little.files["/n/f.h5"] = data
    little.when("GET", BODIES[kind], origin="pool")
    done = run("get", "n/f.h5", "f.h5", CTAFLOWS_ATTEMPTS="2", CTAFLOWS_BACKOFF_S="0.01")
    assert done.code in (7, 8, 9), done.err
    assert not (aimed / "f.h5").exists()
    assert done.peak_mb < MOST_MB
    left = sum(p.stat().st_size for p in aimed.rglob("*") if p.is_file())
    assert left <= len(data) + 1000, "what is too much is not kept"


def _away(location: str) -> Callable[[Handler], bool]:
    return lambda handler: handler.reply(302, {"Location": location})


@pytest.mark.parametrize("wire", ["libcurl"])  # redirects are decided in one place for both
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "there",
    [
        "http://localhost:{port}/n/f.h5",
        "ftp://localhost:{port}/n/f.h5",
        "file:///etc/passwd",
        "gopher://localhost:{port}/_GET",
        "https://user:pass@localhost:{port}/n/f.h5",
        "javascript:alert(1)",
        "//localhost:99999/n/f.h5",
        "https://",
        "",
    ],
)
def test_a_get_that_is_sent_where_it_may_not_go(
    little: LittleDoor, aimed: Path, there: str, data: bytes
) -> None:
    plain = little.server("plain", tls=False)
    little.files["/n/f.h5"] = data
    little.when("GET", _away(there.format(port=plain.port)))
    done = ctaflows("get", "n/f.h5", "f.h5", CTAFLOWS_ATTEMPTS="2", CTAFLOWS_BACKOFF_S="0.01")
    assert done.code in (8, 9), done.err
    assert not (aimed / "f.h5").exists()
    assert little.connections["plain"] == 0, "nobody even knocked there"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_an_upload_that_is_sent_to_plain_http(little: LittleDoor, aimed: Path, data: bytes) -> None:
    plain = little.server("plain", tls=False)
    (aimed / "f.h5").write_bytes(data)
    little.files["/n/other.h5"] = SMALL
    little.when(
        "PUT", lambda h: h.reply(307, {"Location": f"http://localhost:{plain.port}{h.path}"})
    )
    done = ctaflows("put", "f.h5", "n/f.h5", CTAFLOWS_ATTEMPTS="2", CTAFLOWS_BACKOFF_S="0.01")
    assert done.code in (8, 9), done.err
    assert little.connections["plain"] == 0
    assert set(little.files) == {"/n/other.h5"}


def test_redirects_in_a_circle(little: LittleDoor, aimed: Path) -> None:
    little.files["/n/f.h5"] = LARGE
    for origin, url in (("door", little.pool_url), ("pool", little.url)):
        little.when("GET", _away(f"{url}/n/f.h5"), origin=origin)
    done = ctaflows("get", "n/f.h5", "f.h5", CTAFLOWS_ATTEMPTS="2", CTAFLOWS_BACKOFF_S="0.01")
    assert done.code == 8, done.err
    n_asked = sum(heard.method == "GET" for heard in little.heard)
    assert n_asked <= 2 * 6
