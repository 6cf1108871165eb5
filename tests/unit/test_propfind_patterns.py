"""What a pattern reads must be what the XML parser would have read, of any document."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from examples import settings
from hypothesis import example, given
from hypothesis import strategies as st

from ctaflows.errors import CtaflowsError, ListingUnreadable, ProtocolSurprise
from ctaflows.storage import propfind
from ctaflows.storage.propfind import (
    MultistatusParser,
    ResponsePatterns,
    Value,
    http_date,
    pattern_of,
)

HEAD = '<d:multistatus xmlns:d="DAV:" xmlns:n="http://www.dcache.org/2013/webdav">'
TAIL = "</d:multistatus>"


def file(name="a", size="5", more=""):
    return (
        f"<d:response>\n<d:href>/x/{name}</d:href>\n<d:propstat><d:prop>"
        f"<d:getcontentlength>{size}</d:getcontentlength><d:resourcetype/>{more}</d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat>\n</d:response>\n"
    )


def directory(name="d"):
    return (
        f"<d:response><d:href>/x/{name}/</d:href><d:propstat><d:prop><d:resourcetype>"
        "<d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status>"
        "</d:propstat></d:response>"
    )


def read(text, size=None, *, most=8):
    """What a document comes to: entries, itself, number of responses, or the kind of error."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    found = []
    with mock.patch.object(ResponsePatterns, "most", most):
        parser = MultistatusParser("/x")
        try:
            for start in range(0, len(data), size or max(len(data), 1)):
                found += parser.feed(data[start : start + (size or len(data))])
            found += parser.close()
        except CtaflowsError as why:
            return found, type(why)
    return found, parser.itself, parser.n_responses


def both_ways(text, size=None):
    """The result, which must be the same with and without shapes."""
    slow = read(text, size, most=0)
    assert read(text, size) == slow
    return slow


def n_parsed(text):
    """How many bytes the XML parser was given."""
    parser = MultistatusParser("/x")
    parser.feed(text.encode())
    parser.close()
    return parser._n_parsed


def test_many_alike_are_read_by_their_shape():
    text = HEAD + directory("") + "".join(file(f"f{i}", str(i)) for i in range(500)) + TAIL
    found, itself, n_responses = both_ways(text)
    assert [(e.path, e.size_bytes) for e in found] == [(f"/x/f{i}", i) for i in range(500)]
    assert itself is not None
    assert n_responses == 501
    assert n_parsed(text) < len(text) / 50


def test_kinds_that_alternate_are_read_by_their_shapes():
    text = HEAD + "".join(file(f"f{i}") + directory(f"d{i}") for i in range(300)) + TAIL
    found, _, _ = both_ways(text)
    assert [e.is_dir for e in found] == [False, True] * 300
    assert n_parsed(text) < len(text) / 50


_LONG = "p" * 40  # longer than what is looked for to cut a body into responses
_INNER = (
    file("n1")
    .replace("d:response>", f"{_LONG}:response>")
    .replace(f"<{_LONG}:response>", f'<{_LONG}:response xmlns:{_LONG}="DAV:">')
)

#: What stands between or within responses and must not be mistaken for another one.
ODD = [
    file("a&amp;b"),
    file("a%26b"),
    file("<![CDATA[c]]>"),
    file("d<!-- e -->"),
    file("<!-- e -->f"),
    file(" g "),
    file("é"),
    file("\udce9"),
    file("h]]&gt;i"),
    file("h]]>i"),
    file("h>i"),
    file("j", ""),
    file("j", "<d:collection/>"),
    file("j", "1<q/>2"),
    file("j", "x"),
    file("j", "7" * 5000),
    file("j", "\t8\n"),
    file("j", "5", "<n:Checksums>adler32=1</n:Checksums>"),
    file("j", "5", "<n:Checksums/>"),
    file("j", "5", "<n:Checksums/>adler32=1"),
    file("j", "5", "adler32=1"),
    file().replace("200 OK", "404 Not Found"),
    file().replace("200 OK", "200 Fine"),
    file().replace("</d:propstat>", "</d:propstat><d:status>HTTP/1.1 403 No</d:status>"),
    file().replace("xmlns", "x"),
    file().replace("<d:response>", '<d:response xmlns:d="urn:other">'),
    file().replace("<d:response>", '<d:response xmlns:d="DAV:">'),
    file().replace("\n", "\r\n"),
    file().replace("<d:href>", "<d:href >"),
    file().replace("</d:response>", "</d:response >"),
    file().replace("<d:href>", "<d:href>").replace("</d:href>", "</d:href><d:href>/x/z</d:href>"),
    file(".."),
    file("k/l"),
    file("m/"),
    directory(),
    directory(""),
    f"<!-- {file()} -->",
    f"<!-- {file()}",
    "<!-- </d:response> -->",
    f"<!-- </d:response></d:response>{file()} -->",
    f"<d:response>{_INNER.strip()}</d:response>",
    f"{_INNER.strip()}</d:response>",
    f"<d:response><d:href>/x/o</d:href>{file('n1')}{file('n2')}{file('n3')}</d:response>",
    f"<![CDATA[{file()}]]>",
    f"<?pi {file()} ?>",
    f"<d:response>{file()}</d:response>",
    f"<d:group>{file()}{file()}{file()}</d:group>",
    "<d:response/>",
    "<d:response></d:response>",
    "text",
    "   \n",
    "</d:response>",
    TAIL,
    "\0",
    "&e;",
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("size", [None, 1, 7, 100])
def test_odd_things_among_many_alike(odd, size):
    usual = "".join(file(f"f{i}") + directory(f"d{i}") for i in range(4))
    both_ways(HEAD + usual + odd + usual + TAIL, size)
    both_ways(HEAD + odd + odd + usual + odd + TAIL, size)


@given(
    st.lists(st.sampled_from([file("f1"), file("f2", "77"), directory(), *ODD]), max_size=20),
    st.sampled_from([None, 1, 50, 333]),
)
@settings(max_examples=300, deadline=None)
def test_any_document_is_read_the_same(pieces, size):
    both_ways(HEAD + "".join(pieces) + TAIL, size)


@given(
    st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), min_size=3, max_size=12),
    st.text("<>/dresponse:h! -&;[]'\"", max_size=12),
)
@settings(max_examples=300, deadline=None)
@example([("a", "1")] * 4, "</d:href>")
def test_any_values_are_read_the_same(values, cut):
    both_ways(HEAD + "".join(file(name, size) for name, size in values) + cut + TAIL)
    escaped = [(n.replace("<", "&lt;").replace("&", "&amp;"), s) for n, s in values]
    both_ways(HEAD + "".join(file(name, size) for name, size in escaped) + TAIL)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_byte_changed_anywhere_is_read_the_same(data):
    text = (HEAD + file("f1") + directory() + file("f2") + file("f3") + file("f4") + TAIL).encode()
    place = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.sampled_from(b"<>/&d:rx \n\0\xff!-["))
    changed = text[:place] + bytes([byte]) + text[place + 1 :]
    assert read(changed) == read(changed, most=0)


def test_the_same_tags_mean_something_else_in_another_document():
    one = HEAD + "".join(file(f"f{i}") for i in range(5)) + TAIL
    other = one.replace('xmlns:d="DAV:"', 'xmlns:d="urn:other"')
    assert len(read(one)[0]) == 5
    assert read(other) == ([], ListingUnreadable)


def test_a_response_within_another_is_no_example():
    within = f"<d:response>{_INNER.strip()}</d:response>"
    both_ways(HEAD + 4 * within + TAIL)
    both_ways(HEAD + 4 * within + f"{_INNER.strip()}</d:response>" + TAIL)


def test_names_that_lead_elsewhere_are_refused_among_many_alike():
    for name in ("..", ".", "a/b", "../../etc/passwd", "%2e%2e", "a%2fb", "a%00", ""):
        text = HEAD + "".join(file(f"f{i}") for i in range(5)) + file(name) + TAIL
        result = both_ways(text)
        if name:
            assert result[1] is ProtocolSurprise, name


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "iso-8859-1", "us-ascii", "utf-16"])
def test_encodings(encoding):
    name = "f" if encoding == "us-ascii" else "fé"
    text = f'<?xml version="1.0" encoding="{encoding}"?>{HEAD}'
    text += "".join(file(f"f{i}") + file(f"{name}{i}") for i in range(5)) + TAIL
    found, *_ = both_ways(text.encode(encoding))
    assert found[-1].path == f"/x/{name}4"


def test_documents_whose_responses_all_differ_make_no_patterns(monkeypatch):
    compiled = {}
    monkeypatch.setattr(propfind, "_compiled", compiled)
    text = HEAD + "".join(file(f"f{i}", more=f"<d:q{i}/>") for i in range(200)) + TAIL
    assert len(both_ways(text)[0]) == 200
    assert compiled == {}


def test_patterns_do_not_pile_up(monkeypatch):
    compiled = {}
    monkeypatch.setattr(propfind, "_compiled", compiled)
    for i in range(300):
        read(HEAD + 3 * file("f", more=f"<d:q{i}/>") + TAIL)
    assert 0 < len(compiled) <= 64


def test_a_value_must_stand_between_two_tags():
    text = b"<r><href>/x/a</href><size/>5</r>"
    assert pattern_of(text, {"href": Value("/x/a", 13)}) is not None
    assert pattern_of(text, {"href": Value("/x/a", 13), "size": Value("5", 28)}) is None
    assert pattern_of(text, {"href": Value("other", 13)}) is None


def mail_date(text):
    """A date as the standard library reads it, which knows all forms."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


@given(st.integers(-30_000_000_000, 253_402_300_799))
@settings(deadline=None)
def test_usual_dates(epoch_s):
    moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=epoch_s)
    text = email.utils.format_datetime(moment, usegmt=True)
    assert http_date(text) == moment == mail_date(text)


@given(
    st.sampled_from(["Fri", "Xxx", "fri", "Fr", "Frid", "F i"]),
    st.sampled_from(["01", "31", "32", "00", "9", "٣١"]),
    st.sampled_from(["Jan", "Feb", "Nov", "jan", "Xyz"]),
    st.sampled_from(["2024", "0024", "0000", "9999", "99", "20245"]),
    st.sampled_from(
        ["12:00:00", "23:59:60", "24:00:00", "12:00", "120000.", "1:02:03", " 1:02:03"]
    ),
    st.sampled_from(["GMT", "UTC", "+0100", ""]),
)
@example("Fri", "01", "Jan", "0024", "12:00:00", "GMT")
@example("Fri", "01", "Jan", "2024", "23:59:60", "GMT")
@settings(max_examples=300, deadline=None)
def test_unusual_dates(day, number, month, year, clock, zone):
    text = f"{day}, {number} {month} {year} {clock} {zone}"
    assert http_date(text) == mail_date(text)
