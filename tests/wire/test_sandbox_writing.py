"""Writing to the sandbox: one test for each quirk."""

from __future__ import annotations

import base64
import hashlib
import socket
import zlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from talk import ADLER, BROKEN_FILE, DATA, DCACHE, PATH, PROBE, SRM, WANT, eventually

if TYPE_CHECKING:
    import ssl

RIGHT_MD5 = base64.b64encode(hashlib.md5(DATA).digest()).decode()
WRONG_MD5 = base64.b64encode(bytes(16)).decode()
UPLOADING = b"Internal problem: File upload not yet completed\n"


def test_redirect_writes(make):
    talk = make()
    reply = talk.door("PUT", "/new/a.h5", headers=PROBE)
    assert (reply.status, reply.body) == (307, b"")
    reply = talk.ask("PUT", reply.location, DATA, {"Want-Digest": "adler32"})
    assert (reply.status, reply.body) == (201, f"{len(DATA)} bytes uploaded\r\n".encode())
    assert reply.headers["digest"] == ADLER
    assert reply.location == f"{talk.box.door_url}/new/a.h5"
    assert (talk.box.storage / "new/a.h5").read_bytes() == DATA


def test_no_redirect_writes(make):
    talk = make(redirect_writes=False)
    reply = talk.door("PUT", "/new/a.h5", DATA, {"Expect": "100-continue"})
    assert reply.status == 201
    assert (talk.box.storage / "new/a.h5").read_bytes() == DATA


def test_put_without_expect_is_stored_by_the_door(make):
    talk = make()
    reply = talk.door("PUT", "/new/a.h5", DATA, WANT)
    assert (reply.status, reply.body) == (201, b"")
    assert reply.headers["etag"] == talk.door("HEAD", "/new/a.h5").headers["etag"]
    assert "digest" not in reply.headers
    assert {s.server for s in talk.box.requests} == {"door"}
    assert talk.get("/new/a.h5").body == DATA


def test_put_in_chunks(make):
    talk = make()
    assert talk.door("PUT", "/new/a.h5", iter([DATA, DATA])).status == 201
    assert talk.get("/new/a.h5").body == DATA * 2


def raw_put(url: str, tls: ssl.SSLContext, headers: str) -> ssl.SSLSocket:
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname, parts.port), timeout=60)
    sock = tls.wrap_socket(sock, server_hostname="localhost")
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    sock.sendall(f"PUT {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}\r\n".encode())
    return sock


def test_door_answers_expect_without_100(make):
    talk = make()
    auth = f"Authorization: Bearer {talk.box.issue_token()}\r\n"
    headers = f"{auth}Expect: 100-continue\r\nContent-Length: 1000\r\n"
    with raw_put(f"{talk.box.door_url}/n", talk.tls, headers) as sock:
        assert sock.recv(1000).startswith(b"HTTP/1.1 307")


def test_pool_says_100(make):
    talk = make()
    url = talk.door("PUT", "/n", headers=PROBE).location
    with raw_put(url, talk.tls, "Expect: 100-continue\r\nContent-Length: 3\r\n") as sock:
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert sock.recv(1000).startswith(b"HTTP/1.1 201")
    assert (talk.box.storage / "n").read_bytes() == b"abc"


def test_close_after_expect(make):
    assert make().door("PUT", "/n", headers=PROBE).headers["connection"] == "close"
    reply = make(close_after_expect=False).door("PUT", "/n", headers=PROBE)
    assert "connection" not in reply.headers


@pytest.mark.parametrize("header", ["Content-Type", "Content-Encoding", "Content-Range"])
def test_pool_refuses_entity_headers(make, header):
    talk = make()
    reply = talk.put("/n", b"abc", {header: "x"})
    assert (reply.status, reply.reason) == (501, f"{header} is not implemented")
    assert talk.door("GET", "/n").body == UPLOADING  # and so it stays
    talk = make(pool_refuses_entity_headers=False)
    assert talk.put("/n", b"abc", {header: "x"}).status == 201


def test_content_md5_at_the_door(make):
    talk = make()
    assert talk.door("PUT", "/right", DATA, {"Content-MD5": RIGHT_MD5}).status == 201
    reply = talk.door("PUT", "/wrong", DATA, {"Content-MD5": WRONG_MD5})
    assert reply.status == 400
    assert talk.door("PUT", "/wrong", DATA, {"Content-MD5": "?"}).status == 400
    assert not (talk.box.storage / "wrong").exists()


def test_content_md5_at_the_pool(make):
    talk = make()
    assert talk.put("/right", DATA, {"Content-MD5": RIGHT_MD5}).status == 201
    reply = talk.put("/wrong", DATA, {"Content-MD5": WRONG_MD5})
    assert (reply.status, reply.body) == (400, b"")
    assert reply.reason.startswith(
        "Checksum mismatch (expected=[2:00000000000000000000000000000000"
    )
    names = [f"{DCACHE}Checksums", f"{SRM}FileLocality", "{DAV:}getcontentlength"]
    entry = talk.list("/", names=names)["/wrong"]["200"]
    assert list(entry.values()) == [f"md5={WRONG_MD5}", "ONLINE", str(len(DATA))]
    assert talk.door("GET", "/wrong").body == BROKEN_FILE


@pytest.mark.parametrize("where", ["door", "pool"])
@pytest.mark.parametrize("deletes_first", [True, False])
def test_short_upload(make, where, deletes_first):
    talk = make(put_deletes_first=deletes_first)
    url, auth = talk.box.door_url + PATH, f"Authorization: Bearer {talk.box.issue_token()}\r\n"
    if where == "pool":
        url, auth = talk.door("PUT", PATH, headers=PROBE).location, ""
    with raw_put(url, talk.tls, f"{auth}Content-Length: 1000\r\n") as sock:
        sock.sendall(b"x" * 10)
        sock.shutdown(socket.SHUT_WR)
    eventually(lambda: 400 in [s.status for s in talk.box.requests])
    assert not list((talk.box.work_dir / "incoming").iterdir())
    if not deletes_first:
        assert talk.get().body == DATA
    elif where == "door":
        assert talk.door("GET", PATH).status == 404
    else:  # the part lies under the name, and looks like a file
        names = [f"{DCACHE}Checksums", f"{SRM}FileLocality", "{DAV:}getcontentlength"]
        entry = talk.list("/lst", names=names)[PATH]["200"]
        adler = f"adler32={zlib.adler32(b'x' * 10):08x}"
        assert list(entry.values()) == [adler, "ONLINE", "10"]
        reply = talk.door("GET", PATH)
        assert (reply.status, reply.body) == (500, BROKEN_FILE)
        assert talk.door("DELETE", PATH).status == 204
        assert talk.put(PATH, DATA).status == 201
        assert talk.get().body == DATA


def test_a_broken_file_remains_broken_when_it_is_moved(make):
    talk = make()
    talk.put("/t/wrong", DATA, {"Content-MD5": WRONG_MD5})
    to = {"Destination": f"{talk.box.door_url}/u"}
    assert talk.door("MOVE", "/t", headers=to).status == 201
    assert talk.door("GET", "/u/wrong").body == BROKEN_FILE


def test_the_second_of_two_uploads_to_one_name_ends_the_first(make):
    talk = make()
    first, second = (talk.door("PUT", "/n", headers=PROBE).location for _ in range(2))
    reply = talk.ask("PUT", first, b"first")
    assert reply.status == 500
    assert reply.reason.startswith("No such file or directory: 0000")
    assert talk.ask("PUT", second, b"second").status == 201
    assert talk.get("/n").body == b"second"


def test_put_deletes_first(make):
    talk = make()
    url = talk.door("PUT", PATH, headers=PROBE).location
    assert "{DAV:}getcontentlength" not in talk.list("/lst")[PATH]["200"]
    assert talk.ask("PUT", url, b"new").status == 201
    assert talk.list("/lst")[PATH]["200"]["{DAV:}getcontentlength"] == "3"
    talk = make(put_deletes_first=False)
    talk.door("PUT", PATH, headers=PROBE)
    assert talk.get().body == DATA


def test_an_upload_that_never_comes_leaves_its_entry(make):
    talk = make(pool_url_lifetime_s=300.0)
    url = talk.door("PUT", "/never", headers=PROBE).location
    talk.box.advance(301)
    assert talk.ask("PUT", url, b"late").status == 307
    assert talk.door("GET", "/never").body == UPLOADING


def test_put_below_a_file(make):
    reply = make().door("PUT", f"{PATH}/x", b"1")
    assert reply.status == 500
    assert b'because "resource" is null' in reply.body


def test_put_makes_parents(make):
    assert make().door("PUT", "/a/b/c", b"1").status == 201
    assert make(put_makes_parents=False).door("PUT", "/a/b/c", b"1").status == 409


def test_put_preconditions(make):
    talk = make()
    etag = talk.door("HEAD", PATH).headers["etag"]
    assert talk.door("PUT", PATH, b"1", {"If-None-Match": "*"}).status == 412
    assert talk.door("PUT", PATH, b"1", {"If-Match": '"other"'}).status == 412
    assert talk.get().body == DATA
    assert talk.door("PUT", PATH, b"1", {"If-Match": etag}).status == 201
    reply = talk.door("PUT", "/lst", b"1")
    assert (reply.status, reply.body) == (405, b"Method PUT is not allowed.\n")


def test_empty_file(make):
    talk = make()
    assert talk.door("PUT", "/empty", b"").status == 201
    assert talk.get("/empty", headers=WANT).headers["digest"] == "adler32=00000001"


def test_move_needs_overwrite(make):
    talk = make()
    talk.box.put("/b.h5", b"b")
    to = {"Destination": f"{talk.box.door_url}/b.h5"}
    reply = talk.door("MOVE", PATH, headers=to)
    assert (reply.status, reply.body) == (412, b"")
    assert reply.headers["transfer-encoding"] == "chunked"
    assert talk.door("MOVE", PATH, headers=to | {"Overwrite": "F"}).status == 412
    assert talk.door("MOVE", PATH, headers=to | {"Overwrite": "T"}).status == 204
    assert talk.get("/b.h5").body == DATA
    to = {"Destination": f"{talk.box.door_url}/c%20d.h5"}
    assert talk.door("MOVE", "/b.h5", headers=to).status == 201
    assert (talk.box.storage / "c d.h5").exists()
    to = {"Destination": f"{talk.box.door_url}/no/parent.h5"}
    reply = talk.door("MOVE", "/c%20d.h5", headers=to)
    assert (reply.status, b"<h1>Conflict</h1>" in reply.body) == (409, True)
    assert reply.headers["content-type"].startswith("text/html")
    talk = make(move_needs_overwrite=False)
    talk.box.put("/b.h5", b"b")
    to = {"Destination": f"{talk.box.door_url}/b.h5"}
    assert talk.door("MOVE", PATH, headers=to).status == 204


def test_mkcol_is_strict(make):
    talk = make()
    statuses = [talk.door("MKCOL", p).status for p in ("/x", "/x", "/no/parent")]
    assert statuses == [201, 405, 409]
    talk = make(mkcol_is_strict=False)
    statuses = [talk.door("MKCOL", p).status for p in ("/x", "/x", "/no/parent")]
    assert statuses == [201, 201, 201]


def test_delete(make):
    talk = make()
    assert talk.door("DELETE", "/lst").status == 204
    assert not (talk.box.storage / "lst").exists()
    assert talk.door("DELETE", "/lst").status == 404


def test_delete_of_a_directory_that_can_not_be_read(make):
    talk = make()
    talk.box.deny("/lst")
    reply = talk.door("DELETE", "/lst")
    assert (reply.status, b"Directory is not empty" in reply.body) == (500, True)
    assert (talk.box.storage / PATH[1:]).exists()


def test_other_methods(make):
    talk = make()
    reply = talk.door("NONSENSE", "/")
    assert (reply.status, reply.body, reply.headers["connection"]) == (500, b"", "close")
    talk.connections.clear()
    assert [talk.door(method, PATH).status for method in ("LOCK", "COPY")] == [501, 501]


def test_names_that_are_commands(make):
    talk = make()
    reply = talk.door("PUT", "/lst/.(par).part", headers=PROBE)
    assert (reply.status, b"NullPointerException" in reply.body) == (500, True)
    assert talk.put("/lst/(par).part", DATA).status == 201


def test_decomposed_unicode(make):
    talk = make()
    reply = talk.door("PUT", "/e%CC%81", headers=PROBE)
    assert "/%C3%A9?" in reply.location
    reply = talk.ask("PUT", reply.location, DATA)
    assert (reply.status, "does not match the UUID" in reply.reason) == (400, True)
    assert talk.put("/%C3%A9", DATA).status == 201
