"""Writing to the sandbox: one test for each quirk."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from talk import ADLER, DATA, PATH, PROBE, WANT

if TYPE_CHECKING:
    import ssl


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
    assert talk.door("PUT", "/new/a.h5", DATA).status == 201
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
    assert talk.put("/n", b"abc", {header: "x"}).status == 501
    talk = make(pool_refuses_entity_headers=False)
    assert talk.put("/n", b"abc", {header: "x"}).status == 201


@pytest.mark.parametrize("where", ["door", "pool"])
def test_content_md5(make, where):
    talk = make()
    send = talk.put if where == "pool" else lambda p, d, h: talk.door("PUT", p, d, h)
    right = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    wrong = base64.b64encode(bytes(16)).decode()
    assert send("/right", DATA, {"Content-MD5": right}).status == 201
    reply = send("/wrong", DATA, {"Content-MD5": wrong})
    assert (reply.status, reply.body) == (400, b"")
    assert "hecksum" in reply.reason
    assert send("/wrong", DATA, {"Content-MD5": "?"}).status == 400
    assert not (talk.box.storage / "wrong").exists()


@pytest.mark.parametrize("where", ["door", "pool"])
@pytest.mark.parametrize("deletes_first", [True, False])
def test_short_upload_leaves_nothing(make, where, deletes_first):
    talk = make(put_deletes_first=deletes_first)
    url, auth = talk.box.door_url + PATH, f"Authorization: Bearer {talk.box.issue_token()}\r\n"
    if where == "pool":
        url, auth = talk.door("PUT", PATH, headers=PROBE).location, ""
    with raw_put(url, talk.tls, f"{auth}Content-Length: 1000\r\n") as sock:
        sock.sendall(b"x" * 10)
        sock.shutdown(socket.SHUT_WR)
    place = talk.box.storage / PATH[1:]
    deadline = time.monotonic() + 60
    while 400 not in [s.status for s in talk.box.requests]:
        assert time.monotonic() < deadline
    assert place.exists() is not deletes_first
    assert not list((talk.box.work_dir / "incoming").iterdir())


def test_put_deletes_first(make):
    talk = make()
    url = talk.door("PUT", PATH, headers=PROBE).location
    assert "{DAV:}getcontentlength" not in talk.list("/lst")[PATH]["200"]
    assert talk.ask("PUT", url, b"new").status == 201
    assert talk.list("/lst")[PATH]["200"]["{DAV:}getcontentlength"] == "3"
    talk = make(put_deletes_first=False)
    talk.door("PUT", PATH, headers=PROBE)
    assert talk.get().body == DATA


def test_unused_put_url_leaves_nothing(make):
    talk = make(pool_url_lifetime_s=0.0)
    talk.door("PUT", "/never", headers=PROBE)
    talk.door("GET", PATH)
    assert not (talk.box.storage / "never").exists()


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
    assert (reply.status, reply.body) == (405, b"Resource exists as collection\n")


def test_empty_file(make):
    talk = make()
    assert talk.door("PUT", "/empty", b"").status == 201
    assert talk.get("/empty", headers=WANT).headers["digest"] == "adler32=00000001"


def test_move_needs_overwrite(make):
    talk = make()
    talk.box.put("/b.h5", b"b")
    to = {"Destination": f"{talk.box.door_url}/b.h5"}
    assert talk.door("MOVE", PATH, headers=to).status == 412
    assert talk.door("MOVE", PATH, headers=to | {"Overwrite": "F"}).status == 412
    assert talk.door("MOVE", PATH, headers=to | {"Overwrite": "T"}).status == 204
    assert talk.get("/b.h5").body == DATA
    to = {"Destination": f"{talk.box.door_url}/c%20d.h5"}
    assert talk.door("MOVE", "/b.h5", headers=to).status == 201
    assert (talk.box.storage / "c d.h5").exists()
    to = {"Destination": f"{talk.box.door_url}/no/parent.h5"}
    assert talk.door("MOVE", "/c%20d.h5", headers=to).status == 409
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
    assert talk.door("NONSENSE", "/").status == 501
