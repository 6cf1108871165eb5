"""Reading and listing at the sandbox: one test for each quirk."""

from __future__ import annotations

import base64
import email
import hashlib
import time
import zlib
from urllib.parse import urlsplit

import pytest
from talk import ADLER, DATA, DCACHE, PATH, PROBE, SRM, WANT, properties


def test_redirect_reads(make):
    talk = make()
    reply = talk.door("GET", PATH)
    assert (reply.status, reply.body) == (302, b"")
    assert reply.location.startswith(f"{talk.box.pool_url}{PATH}?dcache-http-uuid=")
    ref = urlsplit(talk.box.door_url).netloc.replace(":", "%3A")
    assert reply.location.endswith(f"&dcache-http-ref=https%3A%2F%2F{ref}")
    assert talk.ask("GET", reply.location).body == DATA


def test_no_redirect_reads(make):
    talk = make(redirect_reads=False)
    reply = talk.door("GET", PATH, headers={"Range": "bytes=5-9"} | WANT)
    assert (reply.status, reply.body) == (206, DATA[5:10])
    assert reply.headers["digest"] == ADLER
    assert "etag" in reply.headers


def test_pool_uses_http(make):
    talk = make(pool_uses_http=True)
    assert talk.door("GET", PATH).location.startswith("http://127.0.0.1:")
    assert talk.get().body == DATA


def test_one_shot_pool_urls(make):
    talk = make()
    url = talk.door("GET", PATH).location
    for _ in range(2):
        assert talk.ask("GET", url, headers={"Range": "bytes=0-9"}).status == 206
    assert talk.ask("HEAD", url).status == 200
    assert talk.ask("GET", url).body == DATA
    assert talk.ask("GET", url, headers={"Range": "bytes=0-9"}).status == 307
    talk = make(one_shot_pool_urls=False)
    url = talk.door("GET", PATH).location
    assert [talk.ask("GET", url).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("how", ["closed", "header"])
def test_pool_url_ends_with_connection(make, how):
    part = {"Range": "bytes=0-9"}
    for ends in (True, False):
        talk = make(pool_url_ends_with_connection=ends)
        url = talk.door("GET", PATH).location
        closing = {"Connection": "close"} if how == "header" else {}
        assert talk.ask("GET", url, headers=part | closing).status == 206
        talk.connections.pop(talk.box.pool_url).close()
        deadline = time.monotonic() + (5 if ends else 0)
        while (reply := talk.ask("GET", url, headers=part)).status == 206 and ends:
            talk.connections.pop(talk.box.pool_url).close()
            assert time.monotonic() < deadline
        assert reply.status == (307 if ends else 206)


def test_pool_url_lifetime(make):
    talk = make(pool_url_lifetime_s=0.0)
    url = talk.door("GET", PATH).location
    assert talk.ask("GET", url).status == 307


def test_stale_redirects_home(make):
    talk = make()
    url = f"{talk.box.pool_url}{PATH}?dcache-http-uuid=gone"
    reply = talk.ask("GET", f"{url}&dcache-http-ref={talk.box.door_url}")
    assert (reply.status, reply.location) == (307, talk.box.door_url + PATH)
    reply = talk.ask("GET", url)
    assert (reply.status, reply.body) == (400, b"")
    assert reply.reason == "Request is no longer valid. Please resubmit to door."
    talk = make(stale_redirects_home=False)
    url = f"{talk.box.pool_url}{PATH}?dcache-http-uuid=x&dcache-http-ref={talk.box.door_url}"
    assert talk.ask("GET", url).status == 400


def test_pool_url_is_for_one_file_and_method(make):
    talk = make()
    url = talk.door("GET", PATH).location
    reply = talk.ask("GET", url.replace("dl1.h5", "dl2.h5"))
    text = "The file you specified does not match the UUID you specified!"
    assert (reply.status, reply.reason) == (400, text)
    assert talk.ask("PUT", url, b"x").status == 400
    assert talk.ask("DELETE", url).status == 501
    assert talk.get().body == DATA


def test_pool_hides_validators(make):
    hidden = {"etag", "last-modified"}
    talk = make()
    reply = talk.get()
    assert not {*hidden, "content-type", "date"} & set(reply.headers)
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["content-location"] == talk.box.door_url + PATH
    assert reply.headers["content-disposition"] == "attachment;filename=dl1.h5"
    part = talk.get(headers={"Range": "bytes=0-9"}).headers
    assert not {"content-location", "content-disposition"} & set(part)
    assert hidden <= set(make(pool_hides_validators=False).get().headers)


def test_pool_needs_want_digest(make):
    talk = make()
    assert talk.get(headers=WANT).headers["digest"] == ADLER
    assert "digest" not in talk.ask("GET", talk.door("GET", PATH).location, headers=WANT).headers
    assert "digest" not in talk.ask("GET", talk.door("GET", PATH, headers=WANT).location).headers
    talk = make(pool_needs_want_digest=False)
    assert talk.ask("GET", talk.door("GET", PATH).location, headers=WANT).headers["digest"] == ADLER


def test_repr_digest_wins(make):
    both = WANT | {"Want-Repr-Digest": "sha-256=10"}
    assert make().door("HEAD", PATH, headers=both).headers["digest"] == ADLER
    assert "digest" not in make(repr_digest_wins=True).door("HEAD", PATH, headers=both).headers


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=10-19", 206, (10, 20)),
        ("bytes=10-", 206, (10, len(DATA))),
        ("bytes=-10", 206, (len(DATA) - 10, len(DATA))),
        (f"bytes=10-{len(DATA) + 99}", 206, (10, len(DATA))),
        (f"bytes={len(DATA)}-", 416, None),
    ],
)
def test_ranges(make, asked, status, span):
    reply = make().get(headers=WANT | {"Range": asked})
    assert reply.status == status
    if span is None:
        assert reply.reason == "Invalid (empty) list of valid ranges"
        assert "content-range" not in reply.headers
        return
    first, end = span
    assert reply.body == DATA[first:end]
    assert reply.headers["content-range"] == f"bytes {first}-{end - 1}/{len(DATA)}"
    assert reply.headers["digest"] == ADLER


def test_a_range_behind_the_end_of_a_door_that_does_not_redirect(make):
    asked = {"Range": f"bytes={len(DATA)}-"}
    reply = make(redirect_reads=False).door("GET", PATH, headers=asked)
    assert (reply.status, reply.body) == (206, b"")
    assert reply.headers["content-range"] == f"bytes {len(DATA)}-{len(DATA) - 1}/{len(DATA)}"
    strict = make(redirect_reads=False, takes_any_range=False)
    assert strict.door("GET", PATH, headers=asked).status == 416


def test_several_ranges(make):
    reply = make().get(headers={"Range": "bytes=0-1, 5-9,-3"})
    kind = reply.headers["content-type"]
    assert (reply.status, kind.partition(";")[0]) == (206, "multipart/byteranges")
    assert len(reply.body) == int(reply.headers["content-length"])
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + reply.body)
    parts = [(p["Content-Range"], p.get_payload(decode=True)) for p in message.walk()][1:]
    size = len(DATA)
    assert parts == [
        (f"bytes 0-1/{size}", DATA[:2]),
        (f"bytes 5-9/{size}", DATA[5:10]),
        (f"bytes {size - 3}-{size - 1}/{size}", DATA[-3:]),
    ]


def test_door_that_sends_itself(make):
    talk = make(redirect_reads=False)
    whole, part = talk.get().headers, talk.get(headers={"Range": "bytes=0-9"}).headers
    for headers in (whole, part):
        assert headers["cache-control"] == "no-cache"
        assert headers["content-disposition"] == "attachment"
        assert "etag" in headers
    assert ("last-modified" in whole, "last-modified" in part) == (True, False)


def test_head(make):
    talk = make()
    reply = talk.door("HEAD", PATH, headers=WANT)
    assert (reply.status, reply.headers["content-length"]) == (200, str(len(DATA)))
    assert {"etag", "last-modified", "accept-ranges"} <= set(reply.headers)
    assert reply.headers["digest"] == ADLER
    assert reply.headers["server"] == "dCache/11.2.5 (sandbox)"
    assert "content-type" not in reply.headers  # of an ending that is not known
    talk.box.put("/log.txt", b"")
    assert talk.door("HEAD", "/log.txt").headers["content-type"] == "text/plain"
    assert "digest" not in talk.door("HEAD", PATH).headers


def test_etag_changes_with_each_rewrite(make):
    talk = make()
    mtime = PROBE | {"X-OC-Mtime": "1700000000"}
    tags = {talk.door("HEAD", PATH).headers["etag"]}
    for _ in range(5):
        reply = talk.door("PUT", PATH, headers=mtime)
        assert reply.headers["x-oc-mtime"] == "accepted"
        assert talk.ask("PUT", reply.location, DATA).status == 201
        tags.add(talk.door("HEAD", PATH).headers["etag"])
    assert len(tags) == 6
    assert talk.door("HEAD", PATH).headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    reply = talk.door("PUT", PATH, headers=PROBE)
    assert "x-oc-mtime" not in reply.headers
    # the pool's word proves nothing
    assert talk.ask("PUT", reply.location, DATA).headers["x-oc-mtime"] == "accepted"


def test_checksums_follow_the_bytes(make):
    talk = make()
    talk.door("HEAD", PATH, headers=WANT)
    talk.box.put(PATH, b"other")
    digest = talk.door("HEAD", PATH, headers=WANT).headers["digest"]
    assert digest == f"adler32={zlib.adler32(b'other'):08x}"


def test_has_md5(make):
    md5 = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    talk = make(has_md5=True)
    assert talk.door("HEAD", PATH, headers={"Want-Digest": "md5"}).headers["digest"] == f"md5={md5}"
    entry = talk.list("/lst", names=[f"{DCACHE}Checksums"])[PATH]
    assert entry["200"][f"{DCACHE}Checksums"] == f"{ADLER},md5={md5}"
    assert "digest" not in make().door("HEAD", PATH, headers={"Want-Digest": "md5"}).headers


def test_short_adler(make):
    talk = make(short_adler=True)
    talk.box.put("/small", b"\x01")  # adler32 00020002
    reply = talk.get("/small", headers=WANT)
    assert reply.headers["digest"] == "adler32=20002"


def test_no_checksums(make):
    talk = make(no_checksums=True)
    assert "digest" not in talk.get(headers=WANT).headers
    names = [f"{DCACHE}Checksums"]
    assert talk.list("/lst", names=names)[PATH] == {"200": {names[0]: None}}  # empty, not missing


def test_offline_files(make):
    talk = make()
    talk.box.locality(PATH, "NEARLINE")
    reply = talk.door("GET", PATH)
    assert reply.status == 500
    assert b"No pool candidates available/configured/left for stage" in reply.body
    assert talk.door("HEAD", PATH).status == 200
    entry = talk.list("/lst", names=[f"{SRM}FileLocality"])[PATH]
    assert entry["200"][f"{SRM}FileLocality"] == "NEARLINE"
    talk.box.locality(PATH, "LOST")
    assert talk.door("GET", PATH).status == 500


def test_uploading_files(make):
    talk = make()
    talk.box.uploading(PATH)
    reply = talk.door("GET", PATH)
    assert reply.status == 500
    assert reply.body == b"Internal problem: File upload not yet completed\n"
    entry = talk.list("/lst", names=["{DAV:}getcontentlength", f"{SRM}FileLocality"])[PATH]
    assert "{DAV:}getcontentlength" in entry["404"]
    assert entry["200"][f"{SRM}FileLocality"] == "NONE"
    assert "content-length" not in talk.door("HEAD", PATH).headers


def test_directories(make):
    talk = make()
    assert talk.door("GET", "/lst").location.endswith("/lst/")
    page = talk.door("GET", "/lst/")
    assert b"dl1.h5" in page.body
    assert page.headers["content-type"].startswith("text/html")
    talk.box.deny("/lst")
    assert talk.door("GET", "/lst/").body == b"Permission denied for GET on path /lst/\n"
    assert talk.door("GET", PATH).status == 403


def test_plain_errors(make):
    talk = make()
    talk.box.uploading(PATH)
    assert talk.door("GET", PATH).headers["content-type"] == "text/plain;charset=utf-8"
    page = talk.door("GET", PATH, headers={"Accept": "text/html"})
    assert b"<h1>Error 500" in page.body
    assert b"upload" not in page.body
    reply = make(plain_errors=False).door("GET", "/nothing")
    assert (reply.status, reply.body[:9]) == (404, b"<!DOCTYPE")


@pytest.mark.parametrize("path", ["/../config/client_secret", "/%2e%2e/config/client_secret"])
@pytest.mark.parametrize("method", ["GET", "PROPFIND", "DELETE", "PUT"])
def test_nothing_outside_storage(make, path, method):
    talk = make()
    assert talk.door(method, path, b"" if method == "PUT" else None).status >= 400
    assert (talk.box.config_dir / "client_secret").read_text() == talk.box.client_secret


def test_listing(make):
    talk = make()
    names = ["displayname", "getcontentlength", "getlastmodified", "getetag", "resourcetype"]
    wanted = [f"{{DAV:}}{n}" for n in names] + [f"{DCACHE}Checksums", f"{SRM}FileLocality"]
    found = talk.list("/lst", names=[*wanted, "{urn:x}unknown"])
    assert set(found) == {"/lst/", PATH}
    entry = found[PATH]["200"]
    assert set(entry) == {*wanted} - {"{DAV:}resourcetype"}
    assert entry["{DAV:}getcontentlength"] == str(len(DATA))
    assert entry["{DAV:}getetag"] == talk.door("HEAD", PATH).headers["etag"]
    assert entry[f"{DCACHE}Checksums"] == ADLER
    assert set(found[PATH]["404"]) == {"{urn:x}unknown", "{DAV:}resourcetype"}
    assert found["/lst/"]["200"]["{DAV:}resourcetype"] is None  # it holds an element
    assert f"{SRM}FileLocality" in found["/lst/"]["404"]
    assert f"{DCACHE}Checksums" not in talk.list("/lst")[PATH]["200"]


def test_children_are_in_no_order(make):
    talk = make()
    names = [f"/many/{i:02}" for i in range(20)]
    for name in names:
        talk.box.put(name, b"")
    found = [name for name in talk.list("/many") if name != "/many/"]
    assert found != sorted(found) == names


def test_brief(make):
    found = make().list("/lst", names=["{urn:x}unknown"], headers={"Brief": "t"})
    assert "404" not in found.get(PATH, {})


def test_names_are_encoded(make):
    talk = make()
    names = ["a&b.h5", "sp ace.h5", "per%cent.h5", "plus+.h5", "hash#.h5", "ünï.h5", "q?.h5"]
    for name in names:
        talk.box.put(f"/odd/{name}", name.encode())
    raw = talk.door("PROPFIND", "/odd", headers={"Depth": "1"}).body
    assert b"a%26b.h5" in raw
    found = properties(raw)
    assert set(found) == {"/odd/", *(f"/odd/{n}" for n in names)}
    from urllib.parse import quote

    for name in names:
        assert talk.get(f"/odd/{quote(name)}").body == name.encode()


@pytest.mark.parametrize("depth", ["infinity", None, "7"])
def test_depth_capped(make, depth):
    talk = make()
    talk.box.put("/1/2/3/4/5", b"")
    assert set(talk.list("/1", depth)) == {"/1/", "/1/2/", "/1/2/3/", "/1/2/3/4/"}
    assert set(talk.list("/1", "0")) == {"/1/"}


def test_depth_not_capped(make):
    talk = make(depth_capped=False)
    talk.box.put("/1/2/3/4/5", b"")
    assert len(talk.list("/1", "infinity")) == 5


def test_empty_207(make):
    talk = make()
    talk.box.deny("/lst")
    assert set(talk.list("/lst")) == {"/lst/"}
    talk = make(empty_207=False)
    talk.box.deny("/lst")
    assert talk.door("PROPFIND", "/lst", headers={"Depth": "1"}).status == 403


def test_listing_of_nothing(make):
    reply = make().door("PROPFIND", "/nothing", headers={"Depth": "1"})
    assert (reply.status, reply.body) == (404, b"Path not found: /nothing\n")
