"""Multistatus bodies of several servers, whole and in pieces, honest and hostile."""

import itertools
import tracemalloc
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st
from serverlistings import DCACHE, DCACHE_ITSELF, MD5, NOON, NOON_TEXT, SERVERS

from ctaflows.errors import CtaflowsError, ListingUnreadable, ProtocolSurprise, StorageError
from ctaflows.model import Checksum, Entry
from ctaflows.storage.propfind import BODY, MultistatusParser, http_date


def parse(text, path="/cta/DL1", cuts=()):
    """All entries, with the body cut at these places."""
    data = text.encode() if isinstance(text, str) else text
    parser = MultistatusParser(path)
    found = []
    places = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(places):
        found += parser.feed(data[start:end])
    found += parser.close()
    return parser, found


def multistatus(*responses):
    return f'<D:multistatus xmlns:D="DAV:">{"".join(responses)}</D:multistatus>'


def response(href="/cta/DL1/a", props="", status="HTTP/1.1 200 OK"):
    return (
        f"<D:response><D:href>{href}</D:href><D:propstat><D:prop>{props}</D:prop>"
        f"<D:status>{status}</D:status></D:propstat></D:response>"
    )


ITSELF = response("/cta/DL1/", "<D:resourcetype><D:collection/></D:resourcetype>")


def one(props, status="HTTP/1.1 200 OK"):
    """The entry of a single child with these properties."""
    _, (entry,) = parse(multistatus(ITSELF, response(props=props, status=status)))
    return entry


@pytest.mark.parametrize("server", SERVERS)
def test_each_server_s_listing(server):
    text, itself, children = SERVERS[server]
    parser, found = parse(text)
    assert found == children
    assert parser.itself == itself
    assert parser.n_responses == len(children) + 1


@pytest.mark.parametrize("server", SERVERS)
def test_byte_by_byte_is_the_same(server):
    text, itself, children = SERVERS[server]
    parser, found = parse(text, cuts=range(1, len(text.encode())))
    assert (found, parser.itself) == (children, itself)


@given(st.sampled_from(sorted(SERVERS)), st.lists(st.integers(0, 3000), max_size=8))
def test_any_pieces_give_the_same(server, cuts):
    text, itself, children = SERVERS[server]
    parser, found = parse(text, cuts=[min(c, len(text)) for c in cuts])
    assert (found, parser.itself) == (children, itself)


def test_entries_come_as_soon_as_they_are_complete():
    parser = MultistatusParser("/cta/DL1")
    head, tail = DCACHE.encode().split(b"<d:href>/cta/DL1/growing.h5", 1)
    assert [e.path for e in parser.feed(head)] == ["/cta/DL1/a&b %.h5"]
    assert parser.itself == DCACHE_ITSELF
    assert parser.feed(b"") == []
    rest = parser.feed(b"<d:href>/cta/DL1/growing.h5" + tail)
    assert [e.name for e in rest] == ["growing.h5", "v0.1"]
    assert parser.close() == []


def test_a_file_asked_for_is_itself():
    props = "<D:getcontentlength>5</D:getcontentlength>"
    parser, found = parse(multistatus(response("/a/b", props)), "/a/b")
    assert found == []
    assert parser.itself == Entry("/a/b", size_bytes=5)


def test_a_directory_without_anything_in_it():
    parser, found = parse(multistatus(ITSELF))
    assert found == []
    assert parser.itself == Entry("/cta/DL1", is_dir=True)


def test_hrefs_may_be_whole_addresses():
    _, found = parse(multistatus(response("https://door:2880/cta/DL1/a%2Bb+c")))
    assert [e.path for e in found] == ["/cta/DL1/a+b+c"]


def test_xml_s_own_escapes_and_sections():
    _, found = parse(
        multistatus(response("/cta/DL1/a&amp;b&#x2B;c"), response("<![CDATA[/cta/DL1/<d>]]>"))
    )
    assert [e.name for e in found] == ["a&b+c", "<d>"]


def test_the_root():
    text = multistatus(response("/"), response("/cta/"))
    parser, found = parse(text, "/")
    assert [e.path for e in found] == ["/cta"]
    assert parser.itself.path == "/"


def test_values_of_one_response_do_not_leak_into_the_next():
    _, found = parse(
        multistatus(
            response("/cta/DL1/a", "<D:getcontentlength>5</D:getcontentlength>"),
            response("/cta/DL1/b"),
            "<D:response><D:href>/cta/DL1/c</D:href></D:response>",
        )
    )
    assert [e.size_bytes for e in found] == [5, None, None]


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("HTTP/1.1 200 OK", True),
        ("HTTP/1.1 200", True),
        ("HTTP/2 200 OK", True),
        ("HTTP/1.0 200 OK", True),
        ("\n HTTP/1.1 200 OK \n", True),
        ("HTTP/1.1 404 Not Found", False),
        ("HTTP/1.1 403 Forbidden", False),
        ("HTTP/1.1 500 Internal", False),
        ("HTTP/1.1 401 Unauthorized", False),
        ("", False),
    ],
)
def test_only_propstats_of_200_count(status, counts):
    entry = one("<D:getcontentlength>5</D:getcontentlength>", status)
    assert entry.size_bytes == (5 if counts else None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("7", 7),
        (" 7\n", 7),
        ("007", 7),
        ("1000000000000000", 10**15),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("0x10", None),
        ("1 2", None),
        ("1_000", None),
        ("٣", None),
        ("²", None),
        ("9" * 19, None),
        ("9" * 5000, None),
        ("NaN", None),
        ("None", None),
    ],
)
def test_content_lengths(text, size):
    assert one(f"<D:getcontentlength>{text}</D:getcontentlength>").size_bytes == size


DATES = [
    (NOON_TEXT, NOON),
    ("Friday, 15-Nov-24 12:00:00 GMT", NOON),
    ("Fri Nov 15 12:00:00 2024", NOON),
    ("Fri, 15 Nov 2024 13:00:00 +0100", NOON),
    ("Fri, 15 Nov 2024 12:00:00 -0000", NOON),
    ("15 Nov 2024 12:00:00 GMT", NOON),
    ("Thu, 01 Jan 1970 00:00:00 GMT", datetime(1970, 1, 1, tzinfo=UTC)),
    ("", None),
    (" ", None),
    (None, None),
    ("yesterday", None),
    ("0", None),
    ("Fri, 32 Nov 2024 12:00:00 GMT", None),
    ("Fri, 15 Nov 2024 25:00:00 GMT", None),
    ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", None),
    ("Mon, 01 Jan 2024 00:00:00 +9999", None),
    ("Fri, 31 Dec 9999 23:59:59 -1200", None),
]


@pytest.mark.parametrize(("text", "moment"), DATES)
def test_dates(text, moment):
    assert http_date(text) == moment
    if text is not None:
        assert one(f"<D:getlastmodified>{text}</D:getlastmodified>").mtime == moment


@given(st.text(max_size=40) | st.text('0123456789 :,+-GMTJanFri()"\\', max_size=40))
def test_no_date_raises(text):
    moment = http_date(text)
    assert moment is None or moment.utcoffset() == timedelta()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("adler32=3da0195", (Checksum("adler32", "03da0195"),)),
        ("", ()),
        ("crc=1", ()),
        ("rubbish", ()),
        ("md5=kAFQmDzST7DWlj99KOF/cg==", (MD5,)),
    ],
)
def test_checksums(text, found):
    props = f'<x:Checksums xmlns:x="http://www.dcache.org/2013/webdav">{text}</x:Checksums>'
    assert one(props).checksums == found


def test_a_property_of_the_same_name_in_another_namespace_is_another():
    entry = one(
        '<x:getcontentlength xmlns:x="urn:x">5</x:getcontentlength><Checksums>a</Checksums>'
    )
    assert entry == Entry("/cta/DL1/a")


# what breaks off, and what is no listing


@pytest.mark.parametrize("server", SERVERS)
@given(data=st.data())
def test_a_listing_that_breaks_off_is_unreadable(server, data):
    text = SERVERS[server][0].rstrip()
    n_bytes = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ListingUnreadable):
        parse(text[:n_bytes])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "not xml",
        "<html><body><p>Busy</body></html>",
        "{}",
        "<a/><b/>",
        "<a>&nothing;</a>",
        "<a>\0</a>",
        "<x:a/>",
        b"<a>\xff</a>",
        b"\xff\xfe<\x00a",
        '<?xml version="1.0" encoding="nonsense"?><a/>',
        '<?xml version="1.0" encoding="shift_jis"?><a/>',
        '<?xml version="1.0" encoding="rot13"?><a/>',
        '<?xml version="1.0" encoding="idna"?><a/>',
        # readable, but no listing
        "<a/>",
        '<multistatus xmlns="DAV:"/>',
        '<html xmlns="http://www.w3.org/1999/xhtml"><body>Log in</body></html>',
        "<multistatus><response><href>/cta/DL1</href></response></multistatus>",
    ],
)
def test_no_listing_is_unreadable(text):
    with pytest.raises(ListingUnreadable) as caught:
        parse(text)
    assert caught.value.where == "/cta/DL1"
    assert caught.value.hint


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "500 Internal", "404 No"])
def test_a_directory_that_can_not_be_read_is_no_file(status):
    # RFC 4918 §14.24: a response may hold a status of its own and no propstat
    text = multistatus(
        f"<D:response><D:href>/cta/DL1/</D:href><D:status>HTTP/1.1 {status}</D:status></D:response>"
    )
    with pytest.raises(StorageError):
        parse(text)


def test_a_child_that_is_gone_is_not_listed_as_a_file():
    text = multistatus(
        ITSELF,
        "<D:response><D:href>/cta/DL1/x</D:href><D:status>HTTP/1.1 404 Not Found</D:status>"
        "</D:response>",
    )
    assert parse(text)[1] == []


# hostile

BOMB = (
    '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    '<D:multistatus xmlns:D="DAV:"><D:response><D:href>&b;</D:href></D:response></D:multistatus>'
)
FILE_ENTITY = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>'


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        FILE_ENTITY,
        "<!DOCTYPE a><a/>",
        '<!DOCTYPE a SYSTEM "http://evil/x.dtd"><a/>',
        '<?xml version="1.0"?>\n<!-- x --><!DOCTYPE html><html/>',
        "<a>" * 40,
        "<a>" * 10_000,
        "<a>" + "x" * 70_000 + "</a>",
        "<a><b/>" + "x " * 70_000,
        "<a><![CDATA[" + "x" * 70_000 + "]]></a>",
    ],
    ids=range(10),
)
def test_what_no_server_sends_is_a_protocol_surprise(text):
    with pytest.raises(ProtocolSurprise):
        parse(text)
    with pytest.raises(ProtocolSurprise):
        parse(text, cuts=range(0, min(len(text), 3000), 7))


@pytest.mark.parametrize("begin", [b'<a b="', b"<a", b"<a><!-- ", b"<a><?x ", b"<a>"])
def test_something_without_end_is_refused_before_it_fills_the_memory(begin):
    parser = MultistatusParser("/cta/DL1")
    parser.feed(begin)
    with pytest.raises(CtaflowsError):
        [parser.feed(b"x" * (1 << 16)) for _ in range(64)]


def test_thirty_levels_are_not_too_deep():
    assert one("<x>" * 25 + "</x>" * 25) == Entry("/cta/DL1/a")


@pytest.mark.parametrize(
    "href", ["/etc/passwd", "/cta/DL1/../x", "/cta/DL1/%2e%2e", "/cta/DL1/a/b", "", "a"]
)
def test_hrefs_that_lead_elsewhere_are_a_protocol_surprise(href):
    with pytest.raises(ProtocolSurprise):
        parse(multistatus(ITSELF, response(href)))


@given(st.binary(max_size=200) | st.text("<>/abDAV:&;!- \"='", max_size=200).map(str.encode))
@settings(max_examples=150)
def test_rubbish_raises_nothing_but_our_errors(data):
    with pytest.raises(StorageError):
        parse(data)


# memory


def test_entries_are_given_and_forgotten():
    piece = response("/cta/DL1/dl1_LST-1.Run11111.0000.h5", "<D:getetag>x</D:getetag>" * 3)
    block = (piece * 100).encode()
    parser = MultistatusParser("/cta/DL1")
    parser.feed(b'<D:multistatus xmlns:D="DAV:">' + ITSELF.encode() + block)
    tracemalloc.start()
    try:
        for _ in range(10):
            assert len(parser.feed(block)) == 100
        after_few, _ = tracemalloc.get_traced_memory()
        for _ in range(20):
            assert len(parser.feed(block)) == 100
        after_many, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after_many - after_few < 20_000
    assert parser.n_responses == 1 + 31 * 100


def test_the_body_of_the_request_names_the_properties():
    root = ET.fromstring(BODY)
    assert root.tag == "{DAV:}propfind"
    assert [p.tag for p in root[0]] == [
        "{DAV:}resourcetype",
        "{DAV:}getcontentlength",
        "{DAV:}getlastmodified",
        "{DAV:}getetag",
        "{http://www.dcache.org/2013/webdav}Checksums",
        "{http://srm.lbl.gov/StorageResourceManager}FileLocality",
        "{http://storm.italiangrid.org/2014/webdav}Checksum",
    ]
