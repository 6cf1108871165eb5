"""What libcurl's callbacks are given, read purely; what it is told of URLs, headers and CAs."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctaflows.errors import CtaflowsError, ProtocolSurprise
from ctaflows.settings import Settings
from ctaflows.transport import tls
from ctaflows.transport.messages import header_line, quoted
from ctaflows.transport.wishes import Response


def lines(*text: str) -> list[bytes]:
    return [f"{line}\r\n".encode("iso-8859-1") for line in text]


OK = ("HTTP/1.1 200 OK", "Server: dCache/12.1", "Content-Length: 5", "")


@pytest.mark.parametrize(
    ("given_lines", "status", "reason"),
    [
        (OK, 200, "OK"),
        (("HTTP/1.1 100 Continue", "", *OK), 200, "OK"),
        (("HTTP/1.1 103 Early Hints", "Link: x", "Server: other", "", *OK), 200, "OK"),
        (("HTTP/1.1 100 Continue", "", "HTTP/1.1 102 Processing", "", *OK), 200, "OK"),
        (("HTTP/1.1 200 Connection established", "", *OK), 200, "OK"),
        ((*OK, "X-Trailer: 1", "Server: forged", ""), 200, "OK"),
        (("HTTP/1.1 100 Continue", "", *OK, "X-Trailer: 1", ""), 200, "OK"),
        (("HTTP/1.1 206 Partial Content", "Server: dCache/12.1", ""), 206, "Partial Content"),
        (("HTTP/1.1 404", "Server: dCache/12.1", ""), 404, ""),
        (("HTTP/1.1 404 ", "Server: dCache/12.1", ""), 404, ""),
        (("HTTP/1.1 400 Höflich: nein", "Server: dCache/12.1", ""), 400, "Höflich: nein"),
    ],
)
def test_the_last_head_counts(given_lines: tuple[str, ...], status: int, reason: str) -> None:
    found = Response("https://x/", lines(*given_lines))
    assert (found.status, found.reason) == (status, reason)
    assert (found.header("server") or "").startswith("dCache/12.1")


def test_a_head_of_1xx_leaves_no_header_behind() -> None:
    headers = Response("https://x/", lines("HTTP/1.1 103 Early Hints", "Link: x", "", *OK)).headers
    assert "link" not in headers
    assert set(headers) == {"server", "content-length"}


def test_a_trailer_is_no_header() -> None:
    headers = Response("https://x/", lines(*OK, "X-Trailer: 1", "Server: forged", "")).headers
    assert set(headers) == {"server", "content-length"}
    assert headers["server"] == "dCache/12.1"


def test_names_are_caseless_and_repeated_headers_are_joined() -> None:
    fields = "Digest: adler32=1", 'ETag:  "x" ', "DIGEST: md5=2", "no colon", ""
    answer = Response("https://x/", lines("HTTP/1.1 200 OK", *fields))
    assert answer.header("digest") == "adler32=1, md5=2"
    assert answer.header("etag") == '"x"'
    assert answer.header("nothing") is None
    assert dict(answer.headers) == {"digest": "adler32=1, md5=2", "etag": '"x"'}


@pytest.mark.parametrize(
    "given_lines", [[], [b"\r\n"], [b"HTTP/1.1"], [b"HTTP/1.1 x\r\n"]], ids=str
)
def test_where_no_head_came_there_is_no_status(given_lines: list[bytes]) -> None:
    answer = Response("https://x/", given_lines)
    assert (answer.status, answer.header("server")) == (0, None)


def test_a_value_keeps_its_colons_and_any_byte() -> None:
    head = [b"HTTP/1.1 200\r\n", b"Location: https://x:1/\xfc\r\n", b"Empty:\r\n", b"\r\n"]
    answer = Response("https://x/", head)
    assert answer.header("location") == "https://x:1/\xfc"
    assert answer.header("empty") == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x/a.h5?b=c&d=%20#e", "https://x/a.h5?b=c&d=%20#e"),
        ("https://x/a b.h5", "https://x/a%20b.h5"),
        ("https://x/ü.h5", "https://x/%C3%BC.h5"),
        ("https://x/a%20 b", "https://x/a%20%20b"),
        ("https://x/\udcff", "https://x/%FF"),
        ("https://x/a\r\nb\t\x7f", "https://x/a%0D%0Ab%09%7F"),
    ],
)
def test_what_no_address_may_hold_is_encoded(url: str, expected: str) -> None:
    assert quoted(url) == expected


@given(st.text())
def test_an_encoded_address_is_printable_and_stays_as_it_is(text: str) -> None:
    try:
        url = quoted(text)
    except UnicodeEncodeError:
        assert any("\ud800" <= c <= "\udfff" for c in text)
        return
    assert url.isascii()
    assert not set(url) & set(" \r\n\t\0\x7f")
    assert quoted(url) == url


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\r\nAuthorization: Bearer x"])
def test_a_header_with_a_line_break_is_refused(bad: str) -> None:
    with pytest.raises(ProtocolSurprise, match="line break") as why:
        header_line(f"X-Name: secret{bad}value")
    assert isinstance(why.value, CtaflowsError)
    assert "secret" not in str(why.value), "a token may be in it"
    assert "X-Name" in str(why.value)


def test_a_header_is_utf_8() -> None:
    assert header_line("X-Name: ü") == b"X-Name: \xc3\xbc"


# -- the CAs ----------------------------------------------------------------------------------


def ca_settings(ca_file) -> Settings:
    return Settings().replace(ca_file=ca_file)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """A machine with a bundle and hashed folders of its own."""
    (tmp_path / "bundle.pem").touch()
    paths = ssl.get_default_verify_paths()._replace(
        cafile=str(tmp_path / "bundle.pem"), capath=str(tmp_path / "hashed")
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.setattr(tls, "GRID_CA_DIR", tmp_path / "grid")
    return tmp_path


def test_the_settings_stand_in_for_the_system(system) -> None:
    (system / "mine.pem").touch()
    (system / "mine").mkdir()
    (system / "hashed").mkdir()
    (system / "grid").mkdir()
    assert tls.ca_paths(ca_settings(system / "mine.pem")) == (str(system / "mine.pem"), [])
    assert tls.ca_paths(ca_settings(system / "mine")) == (None, [str(system / "mine")])


@pytest.mark.parametrize("there", [(), ("hashed",), ("grid",), ("hashed", "grid")])
def test_the_system_s_folders_count_if_they_are_there(system, there: tuple[str, ...]) -> None:
    for name in there:
        (system / name).mkdir()
    expected = str(system / "bundle.pem"), [str(system / name) for name in there]
    assert tls.ca_paths(ca_settings(None)) == expected


def test_a_system_without_a_bundle(system, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ssl.get_default_verify_paths()._replace(cafile=None, capath=None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    (system / "grid").mkdir()
    assert tls.ca_paths(ca_settings(None)) == (None, [str(system / "grid")])
