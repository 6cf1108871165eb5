"""The sandbox over real sockets and TLS: one test for each quirk and each fault."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import http.client
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

import pytest

from ctaflows import settings
from ctaflows.errors import UsageError
from ctaflows.sandbox import Fault, Quirks, Sandbox, parse

DATA = bytes(range(256)) * 400
ADLER = f"adler32={zlib.adler32(DATA):08x}"
WANT = {"Want-Digest": "adler32;q=1,md5;q=0.5"}
PATH = "/lst/dl1.h5"
BROKEN = (ConnectionError, ssl.SSLError, http.client.IncompleteRead)
PROBE = {"Expect": "100-continue", "Content-Length": "0"}
DCACHE = "{http://www.dcache.org/2013/webdav}"
SRM = "{http://srm.lbl.gov/StorageResourceManager}"


@dataclass
class Reply:
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def location(self) -> str:
        return self.headers["location"]


class Talker:
    """A bare HTTP client that keeps one connection for each origin."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.tls = ssl.create_default_context(cafile=box.ca_file)
        self.connections: dict[str, http.client.HTTPConnection] = {}
        self.token_text = box.issue_token()

    def connection(self, origin: str) -> http.client.HTTPConnection:
        if origin not in self.connections:
            parts = urlsplit(origin)
            if parts.scheme == "https":
                made = http.client.HTTPSConnection(parts.netloc, timeout=10, context=self.tls)
            else:
                made = http.client.HTTPConnection(parts.netloc, timeout=60)
            self.connections[origin] = made
        return self.connections[origin]

    def ask(self, method: str, url: str, body=None, headers=None) -> Reply:
        parts = urlsplit(url)
        connection = self.connection(f"{parts.scheme}://{parts.netloc}")
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers=headers or {})
        answer = connection.getresponse()
        lower = {k.lower(): v for k, v in answer.getheaders()}
        try:
            return Reply(answer.status, answer.reason, lower, answer.read())
        finally:
            answer.close()

    def door(self, method: str, path: str, body=None, headers=None, token=None) -> Reply:
        auth = {"Authorization": f"Bearer {token or self.token_text}"}
        return self.ask(method, self.box.door_url + path, body, auth | (headers or {}))

    def get(self, path: str = PATH, headers=None) -> Reply:
        """GET through the redirect, with the same headers at both."""
        reply = self.door("GET", path, headers=headers)
        return self.ask("GET", reply.location, headers=headers) if reply.status == 302 else reply

    def put(self, path: str, data: bytes, headers=None) -> Reply:
        reply = self.door("PUT", path, headers=PROBE)
        assert reply.status == 307
        return self.ask("PUT", reply.location, data, headers)

    def list(self, path: str, depth: str | None = "1", names=(), headers=None) -> dict:
        body = None
        if names:
            props = "".join(
                f'<x:{n.rpartition("}")[2]} xmlns:x="{n[1:].split("}")[0]}"/>' for n in names
            )
            body = f'<d:propfind xmlns:d="DAV:"><d:prop>{props}</d:prop></d:propfind>'
        more = ({"Depth": depth} if depth is not None else {}) | (headers or {})
        reply = self.door("PROPFIND", path, body, more)
        assert reply.status == 207, reply
        return properties(reply.body)

    def token(self, **form) -> Reply:
        form = {"client_id": self.box.client_id, "client_secret": self.box.client_secret} | form
        return self.form("token", form)

    def form(self, endpoint: str, form: dict, headers=None) -> Reply:
        url = f"{self.box.issuer_url}/protocol/openid-connect/{endpoint}"
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", url, urlencode(form), kind | (headers or {}))


def properties(xml: bytes) -> dict[str, dict[str, dict[str, str | None]]]:
    """Path to status to property to text."""
    found: dict = {}
    for response in ET.fromstring(xml).iter("{DAV:}response"):
        path = unquote(response.findtext("{DAV:}href") or "")
        for block in response.iter("{DAV:}propstat"):
            code = (block.findtext("{DAV:}status") or "").split()[1]
            props = {p.tag: p.text for p in block.find("{DAV:}prop")}
            found.setdefault(path, {})[code] = props
    return found


@pytest.fixture
def make():
    """Make a sandbox with quirks and faults, and a talker for it."""
    boxes = []

    def made(*faults, **quirks):
        details = {k: quirks.pop(k) for k in ("token_lifetime_s", "host") if k in quirks}
        box = Sandbox(quirks=Quirks(**quirks), faults=faults, **details)
        boxes.append(box)
        box.put(PATH, DATA)
        return Talker(box)

    yield made
    for box in boxes:
        box.close()


# -- the sandbox itself ----------------------------------------------------------------------


def test_importing_the_package_does_not_import_servers():
    code = (
        "import sys, ctaflows.sandbox\n"
        "assert not {'wsgidav', 'flask', 'cheroot', 'trustme'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_packages_are_told():
    code = (
        "import sys\nsys.modules['wsgidav'] = None\n"
        "from ctaflows.errors import UsageError\nimport ctaflows.sandbox\n"
        "try:\n    ctaflows.sandbox.Sandbox\n"
        "except UsageError as why:\n    assert 'ctaflows[sandbox]' in why.hint\n"
        "else:\n    raise SystemExit('no UsageError')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_starts_and_ends_quickly_and_leaves_nothing():
    Sandbox().close()
    before = {t.ident for t in threading.enumerate()}
    start = time.monotonic()
    box = Sandbox()
    port = urlsplit(box.door_url).port
    box.close()
    box.close()
    assert time.monotonic() - start < 2
    assert not [t for t in threading.enumerate() if t.ident not in before]
    assert not box.work_dir.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_closes_while_clients_are_connected_and_silent(make):
    talk = make(Fault("hang", path=PATH))
    port = urlsplit(talk.box.door_url).port
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    with ThreadPoolExecutor() as pool:

        def hang() -> None:
            with pytest.raises(BROKEN):
                talk.door("GET", PATH)

        hanging = pool.submit(hang)
        while not talk.box.requests:
            time.sleep(0.001)
        start = time.monotonic()
        talk.box.close()
        assert time.monotonic() - start < 2
        hanging.result()
    for sock in idle:
        sock.close()


def test_listens_on_loopback_only(make):
    box = make().box
    for url in (box.door_url, box.pool_url, box.issuer_url):
        port = urlsplit(url).port
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))  # 0.0.0.0 would be in its way


def test_taken_port_is_told(make):
    port = urlsplit(make().box.door_url).port
    with pytest.raises(UsageError, match=str(port)):
        Sandbox(ports=(port, 0, 0))


def test_root_is_kept(tmp_path):
    with Sandbox(tmp_path / "box") as box:
        place = box.put("a.h5", b"1")
    assert place.read_bytes() == b"1"
    assert place == tmp_path / "box/storage/a.h5"


def test_config_dir_is_one(make, monkeypatch):
    box = make().box
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(box.config_dir))
    loaded = settings.load()
    made = box.settings(transfers=3)
    assert (loaded.profile, loaded.door_url) == ("sandbox", box.door_url)
    assert (loaded.issuer_url, loaded.ca_file) == (box.issuer_url, box.ca_file)
    assert loaded.client_secret_file.read_text() == box.client_secret
    assert (made.transfers, made.door_url, made.backoff_s) == (3, box.door_url, 0.01)
    store = box.config_dir / "tokens" / "sandbox.json"
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.parent.stat().st_mode) == 0o700
    stored = json.loads(store.read_text())
    assert set(stored) == {
        "access_token", "refresh_token", "expires_in", "obtained_at", "scope", "token_type",
    }  # fmt: skip
    assert Talker(box).door("HEAD", PATH, token=stored["access_token"]).status == 200


def test_silent_on_standard_error(capfd, make):
    talk = make("reset", "truncate", "wrong_length")
    for _ in range(3):
        try:
            talk.get()
        except (OSError, http.client.HTTPException):
            talk.connections.clear()
    talk.door("PROPFIND", "/nothing")
    talk.door("PROPFIND", "/", "<no xml", {"Depth": "1"})
    with socket.create_connection(("127.0.0.1", urlsplit(talk.box.door_url).port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.recv(10)
    talk.token(grant_type="nonsense")
    talk.box.close()
    assert capfd.readouterr() == ("", "")


def test_requests_are_recorded(make):
    talk = make()
    talk.get()
    door, pool = talk.box.requests
    assert (door.server, door.method, door.path, door.status) == ("door", "GET", PATH, 302)
    assert pool.server == "pool"
    assert "dcache-http-uuid=" in pool.path
    assert door.headers["authorization"].startswith("Bearer ")
    assert "authorization" not in pool.headers
    talk.box.requests.clear()
    assert len(talk.box.requests) == 0


def test_many_at_once(make):
    box = make().box

    def work(i: int) -> bool:
        talk = Talker(box)
        name = f"/many/{i}.bin"
        data = os.urandom(3000 + i)
        talk.put(name, data)
        return all(talk.get(name).body == data for _ in range(3))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(work, range(64)))


def test_keeps_connections(make):
    talk = make()
    talk.get()
    sockets = {k: c.sock for k, c in talk.connections.items()}
    for _ in range(5):
        assert talk.get().body == DATA
    assert {k: c.sock for k, c in talk.connections.items()} == sockets


def test_streams_large_files(make, tmp_path):
    talk = make()
    size = 80 << 20
    big = tmp_path / "big"
    with big.open("wb") as stream:
        stream.truncate(size)
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    url = talk.door("PUT", "/big", headers=PROBE).location
    with big.open("rb") as stream:
        reply = talk.ask("PUT", url, stream, {"Content-Length": str(size)})
    assert reply.body == f"{size} bytes uploaded\r\n".encode()
    location = talk.door("GET", "/big").location
    connection = talk.connection(talk.box.pool_url)
    connection.request("GET", location.removeprefix(talk.box.pool_url))
    answer = connection.getresponse()
    n_bytes = 0
    while block := answer.read(1 << 16):
        n_bytes += len(block)
    assert n_bytes == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


# -- who may come in -------------------------------------------------------------------------


def test_needs_token(make):
    talk = make()
    reply = talk.ask("GET", talk.box.door_url + PATH)
    assert (reply.status, reply.reason, reply.body) == (401, "Permission denied", b"")
    assert reply.headers["www-authenticate"].startswith("Basic realm=")
    quiet = talk.ask("GET", talk.box.door_url + PATH, headers={"Suppress-WWW-Authenticate": "1"})
    assert "www-authenticate" not in quiet.headers
    talk = make(needs_token=False)
    assert talk.ask("GET", talk.box.door_url + PATH).status == 302


@pytest.mark.parametrize("kind", ["expired", "revoked", "garbage", "foreign"])
def test_refuses_token(make, kind):
    talk = make()
    token = {
        "expired": lambda: talk.box.issue_token(-10),
        "revoked": talk.box.issue_token,
        "garbage": lambda: "a.b.c",
        "foreign": lambda: make().box.issue_token(),
    }[kind]()
    if kind == "revoked":
        assert talk.door("HEAD", PATH, token=token).status == 200
        talk.box.revoke(token)
    reply = talk.door("HEAD", PATH, token=token)
    assert reply.status == 401
    assert "oken" in reply.reason


def test_token_in_url(make):
    talk = make()
    url = f"{talk.box.door_url}{PATH}?authz={talk.box.issue_token()}"
    assert talk.ask("GET", url).status == 302


def test_bearer_over_https_only(make):
    talk = make(door_uses_http=True)
    assert talk.box.door_url.startswith("http://")
    assert talk.door("HEAD", PATH).status == 401
    talk = make(door_uses_http=True, bearer_over_https_only=False)
    assert talk.door("HEAD", PATH).status == 200


def test_block_after_401(make):
    talk = make(block_s=0.3)
    for _ in range(3):
        assert talk.door("HEAD", PATH, token="x").status == 401
    reply = talk.door("GET", PATH)
    assert reply.status == 429
    assert reply.body.startswith(b"Server is busy")
    assert reply.headers["retry-after"] == "1"
    deadline = time.monotonic() + 60
    while talk.door("GET", PATH).status == 429 and time.monotonic() < deadline:
        pass
    assert talk.door("GET", PATH).status == 302


def test_block_without_retry_after(make):
    talk = make(retry_after=False)
    for _ in range(3):
        talk.door("HEAD", PATH, token="x")
    reply = talk.door("GET", PATH)
    assert (reply.status, "retry-after" in reply.headers) == (429, False)


def test_no_block(make):
    talk = make(block_after_401=False)
    for _ in range(4):
        assert talk.door("HEAD", PATH, token="x").status == 401
    assert talk.door("HEAD", PATH).status == 200


# -- reading ---------------------------------------------------------------------------------


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
    assert (reply.status, reply.reason) == (400, "The file you specified does not match the UUID")
    assert talk.ask("PUT", url, b"x").status == 400
    assert talk.ask("DELETE", url).status == 501
    assert talk.get().body == DATA


def test_pool_hides_validators(make):
    hidden = {"etag", "last-modified", "content-type"}
    reply = make().get()
    assert not hidden & set(reply.headers)
    assert reply.headers["accept-ranges"] == "bytes"
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
    assert "digest" not in make().door("HEAD", PATH, headers=both).headers
    assert make(repr_digest_wins=False).door("HEAD", PATH, headers=both).headers["digest"] == ADLER


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
        assert reply.headers["content-range"] == f"bytes */{len(DATA)}"
        return
    first, end = span
    assert reply.body == DATA[first:end]
    assert reply.headers["content-range"] == f"bytes {first}-{end - 1}/{len(DATA)}"
    assert reply.headers["digest"] == ADLER


def test_head(make):
    talk = make()
    reply = talk.door("HEAD", PATH, headers=WANT)
    assert (reply.status, reply.headers["content-length"]) == (200, str(len(DATA)))
    assert {"etag", "last-modified", "accept-ranges"} <= set(reply.headers)
    assert reply.headers["digest"] == ADLER
    assert reply.headers["server"] == "dCache/11.2.0 (sandbox)"
    assert "digest" not in talk.door("HEAD", PATH).headers


def test_etag_changes_with_each_rewrite(make):
    talk = make()
    mtime = {"X-OC-Mtime": "1700000000"}
    tags = {talk.door("HEAD", PATH).headers["etag"]}
    for _ in range(5):
        reply = talk.put(PATH, DATA, mtime)
        assert (reply.status, reply.headers["x-oc-mtime"]) == (201, "accepted")
        tags.add(talk.door("HEAD", PATH).headers["etag"])
    assert len(tags) == 6
    assert talk.door("HEAD", PATH).headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"


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
    assert entry["200"][f"{DCACHE}Checksums"] == f"md5={md5},{ADLER}"
    assert "digest" not in make().door("HEAD", PATH, headers={"Want-Digest": "md5"}).headers


def test_short_adler(make):
    talk = make(short_adler=True)
    talk.box.put("/small", b"\x01")  # adler32 00020002
    reply = talk.get("/small", headers=WANT)
    assert reply.headers["digest"] == "adler32=20002"


def test_no_checksums(make):
    talk = make(no_checksums=True)
    assert "digest" not in talk.get(headers=WANT).headers
    assert "404" in talk.list("/lst", names=[f"{DCACHE}Checksums"])[PATH]


def test_offline_files(make):
    talk = make()
    talk.box.locality(PATH, "NEARLINE")
    reply = talk.door("GET", PATH)
    assert (reply.status, reply.body) == (403, b"File not online. Staging not allowed.\n")
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
    entry = talk.list("/lst")[PATH]
    assert "{DAV:}getcontentlength" not in entry["200"]
    assert "content-length" not in talk.door("HEAD", PATH).headers


def test_directories(make):
    talk = make()
    assert talk.door("GET", "/lst").location.endswith("/lst/")
    page = talk.door("GET", "/lst/")
    assert b"dl1.h5" in page.body
    assert page.headers["content-type"].startswith("text/html")
    talk.box.deny("/lst")
    assert talk.door("GET", "/lst/").status == 403
    assert talk.door("GET", PATH).status == 403


def test_plain_errors(make):
    talk = make()
    talk.box.uploading(PATH)
    assert talk.door("GET", PATH).headers["content-type"] == "text/plain"
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


# -- listing ---------------------------------------------------------------------------------


def test_listing(make):
    talk = make()
    names = ["displayname", "getcontentlength", "getlastmodified", "getetag", "resourcetype"]
    wanted = [f"{{DAV:}}{n}" for n in names] + [f"{DCACHE}Checksums", f"{SRM}FileLocality"]
    found = talk.list("/lst", names=[*wanted, "{urn:x}unknown"])
    assert set(found) == {"/lst/", PATH}
    entry = found[PATH]["200"]
    assert set(entry) == set(wanted)
    assert entry["{DAV:}getcontentlength"] == str(len(DATA))
    assert entry["{DAV:}getetag"] == talk.door("HEAD", PATH).headers["etag"]
    assert entry[f"{DCACHE}Checksums"] == ADLER
    assert set(found[PATH]["404"]) == {"{urn:x}unknown"}
    assert f"{SRM}FileLocality" in found["/lst/"]["404"]
    assert f"{DCACHE}Checksums" not in talk.list("/lst")[PATH]["200"]


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
    assert (reply.status, reply.body) == (404, b"Resource not found\n")


# -- writing ---------------------------------------------------------------------------------


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


# -- faults ----------------------------------------------------------------------------------


def test_faults_are_parsed():
    assert parse("503") == Fault("503")
    assert parse("503:2@*.h5") == Fault("503", times=2, path="*.h5")
    assert parse("slow:*") == Fault("slow", times=None)
    assert str(parse("503:2@*.h5")) == "503:2@*.h5"
    for wrong in ("418", "503:x", "503:0", ""):
        with pytest.raises(UsageError):
            parse(wrong)
    with pytest.raises(UsageError):
        Fault("503", server="cellar")


def test_faults_are_counted_and_matched(make):
    talk = make()
    talk.box.faults.add("503", times=2, method="GET", path="*.h5", server="door")
    assert talk.door("HEAD", PATH).status == 200
    assert talk.door("GET", "/lst/").status == 200
    assert [talk.door("GET", PATH).status for _ in range(3)] == [503, 503, 302]
    talk.box.faults.add("503", times=None)
    assert [talk.door("GET", PATH).status for _ in range(4)] == [503] * 4
    talk.box.faults.clear()
    assert talk.door("GET", PATH).status == 302


def test_faults_are_counted_across_threads(make):
    box = make("503:20").box
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: Talker(box).door("HEAD", PATH).status, range(40)))
    assert sorted(statuses) == [200] * 20 + [503] * 20


@pytest.mark.parametrize("server", ["door", "pool"])
@pytest.mark.parametrize("status", ["503", "500", "502", "429", "401", "403", "507"])
def test_fault_status(make, status, server):
    talk = make(Fault(status, server=server))
    reply = talk.get()
    assert reply.status == int(status)
    assert reply.headers.get("retry-after") == ("0" if status == "429" else None)
    assert [s.server for s in talk.box.requests][-1] == server
    assert talk.get().body == DATA


def test_fault_retry_after(make):
    talk = make(Fault("429", retry_after_s=7), Fault("503", retry_after_s=3))
    assert talk.door("GET", PATH).headers["retry-after"] == "7"
    assert talk.door("GET", PATH).headers["retry-after"] == "3"


def test_fault_401_counts_for_the_block(make):
    talk = make("401:3")
    assert [talk.door("GET", PATH).status for _ in range(4)] == [401, 401, 401, 429]


def test_fault_reset_of_a_download(make):
    # Over TLS, Python before 3.11.9 shows a reset as an end of file (cpython gh-115627).
    for plain, error in (
        (True, ConnectionResetError),
        (False, BROKEN),
    ):
        talk = make("reset", pool_uses_http=plain)
        with pytest.raises(error):
            talk.get()
        assert talk.box.requests[-1].server == "pool"


def test_fault_reset_of_an_upload(make):
    talk = make()
    url = talk.door("PUT", "/n", headers=PROBE).location
    talk.box.faults.add("reset", method="PUT")
    with pytest.raises(BROKEN):
        talk.ask("PUT", url, os.urandom(20 << 20))
    assert not (talk.box.storage / "n").exists()
    assert not len(talk.box.faults)


@pytest.mark.parametrize("method", ["MKCOL", "HEAD"])
def test_fault_reset_at_the_door(make, method):
    talk = make(Fault("reset", server="door"))
    with pytest.raises(ConnectionResetError):
        talk.door(method, "/new")
    assert not (talk.box.storage / "new").exists()


def test_fault_reset_of_a_redirect(make):
    talk = make(Fault("reset", server="door"))
    with pytest.raises(ConnectionResetError):
        talk.door("GET", PATH)


def test_fault_lost(make):
    talk = make("lost")
    with pytest.raises(ConnectionResetError):
        talk.door("MKCOL", "/new")
    assert (talk.box.storage / "new").is_dir()


def test_fault_truncate(make):
    talk = make("truncate")
    with pytest.raises(http.client.IncompleteRead) as caught:
        talk.get()
    assert caught.value.partial == DATA[: len(DATA) // 2]


def test_fault_flip(make):
    reply = make("flip").get(headers=WANT)
    differ = [i for i, (a, b) in enumerate(zip(reply.body, DATA, strict=True)) if a != b]
    assert len(differ) == 1
    assert reply.headers["digest"] == ADLER


def test_fault_wrong_length(make):
    reply = make("wrong_length").get()
    assert reply.headers["content-length"] == str(len(DATA) // 2)
    assert reply.body == DATA[: len(DATA) // 2]


def test_fault_slow(make):
    talk = make(Fault("slow", rate_bytes_s=len(DATA) * 4))
    start = time.monotonic()
    assert talk.get().body == DATA
    assert time.monotonic() - start > 0.2


def test_fault_hang(make):
    talk = make(Fault("hang", hang_s=0.2, server="pool"))
    url = talk.door("GET", PATH).location
    start = time.monotonic()
    with pytest.raises(http.client.RemoteDisconnected):
        talk.ask("GET", url)
    assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize(
    ("name", "where"),
    [("redirect_elsewhere", "https://localhost:1/"), ("redirect_http", "http://localhost:")],
)
def test_fault_redirect(make, name, where):
    talk = make(f"{name}:2")
    assert talk.door("GET", PATH).location.startswith(where)
    reply = talk.door("PUT", "/n", headers=PROBE)
    assert (reply.status, reply.location[: len(where)]) == (307, where)
    assert talk.get().body == DATA


def test_fault_redirect_loop(make):
    assert make("redirect_loop").door("GET", PATH).location.endswith(PATH)


def test_fault_bad_digest(make):
    talk = make(Fault("bad_digest", method="GET"), Fault("bad_digest", method="PROPFIND"))
    reply = talk.get(headers=WANT)
    assert reply.body == DATA
    assert reply.headers["digest"] != ADLER
    assert len(reply.headers["digest"]) == len(ADLER)
    names = [f"{DCACHE}Checksums"]
    assert talk.list("/lst", names=names)[PATH]["200"][names[0]] not in (ADLER, None)
    assert talk.list("/lst", names=names)[PATH]["200"][names[0]] == ADLER


def test_fault_no_digest(make):
    talk = make(Fault("no_digest", method="GET"), Fault("no_digest", method="PROPFIND"))
    assert "digest" not in talk.get(headers=WANT).headers
    names = [f"{DCACHE}Checksums"]
    assert names[0] not in talk.list("/lst", names=names)[PATH]["200"]
    assert talk.get(headers=WANT).headers["digest"] == ADLER


def test_fault_ignore_range(make):
    talk = make("ignore_range")
    part = {"Range": "bytes=5-9"}
    reply = talk.get(headers=part)
    assert (reply.status, reply.body) == (200, DATA)
    assert "content-range" not in reply.headers
    assert talk.get(headers=part).body == DATA[5:10]


def test_fault_empty207(make):
    talk = make("empty207")
    assert set(talk.list("/lst")) == {"/lst/"}
    assert PATH in talk.list("/lst")


def test_fault_garbage_xml(make):
    reply = make("garbage_xml").door("PROPFIND", "/lst", headers={"Depth": "1"})
    assert reply.status == 207
    with pytest.raises(ET.ParseError):
        ET.fromstring(reply.body)


def test_fault_xml_bomb(make):
    from defusedxml import ElementTree as Safe
    from defusedxml import EntitiesForbidden

    reply = make("xml_bomb").door("PROPFIND", "/lst", headers={"Depth": "1"})
    with pytest.raises(EntitiesForbidden):
        Safe.fromstring(reply.body)


def test_fault_hostile_names(make):
    reply = make("hostile_names").door("PROPFIND", "/lst", headers={"Depth": "1"})
    hrefs = [e.text for e in ET.fromstring(reply.body).iter("{DAV:}href")]
    assert "/lst/../../etc/passwd" in hrefs
    assert any("%00" in h for h in hrefs)
    assert any(h.startswith("https://elsewhere") for h in hrefs)
    assert any("%2e%2e" in h for h in hrefs)


# -- the issuer ------------------------------------------------------------------------------

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def test_discovery(make):
    talk = make()
    found = json.loads(
        talk.ask("GET", f"{talk.box.issuer_url}/.well-known/openid-configuration").body
    )
    assert found["issuer"] == talk.box.issuer_url
    assert found["token_endpoint"].startswith(talk.box.issuer_url)
    keys = json.loads(talk.ask("GET", found["jwks_uri"]).body)["keys"]
    assert "d" not in keys[0]
    from joserfc import jwk, jwt

    token = talk.box.issue_token(60, "openid x", "somebody")
    claims = jwt.decode(token, jwk.KeySet.import_key_set({"keys": keys})).claims
    assert claims["iss"] == talk.box.issuer_url
    assert (claims["sub"], claims["scope"], claims["exp"] - claims["iat"]) == (
        "somebody",
        "openid x",
        60,
    )
    assert {"aud", "jti"} <= set(claims)


def refresh(talk: Talker, token: str) -> Reply:
    return talk.token(grant_type="refresh_token", refresh_token=token)


def test_refresh_rotates(make):
    talk = make(token_lifetime_s=120)
    first = talk.box.tokens()
    reply = refresh(talk, first["refresh_token"])
    second = json.loads(reply.body)
    assert (reply.status, second["expires_in"], second["token_type"]) == (200, 120, "Bearer")
    assert second["refresh_token"] != first["refresh_token"]
    assert talk.door("HEAD", PATH, token=second["access_token"]).status == 200
    reused = refresh(talk, first["refresh_token"])
    assert (reused.status, json.loads(reused.body)["error"]) == (400, "invalid_grant")
    assert refresh(talk, second["refresh_token"]).status == 200


def test_refresh_without_rotation(make):
    talk = make(rotate=False)
    token = talk.box.tokens()["refresh_token"]
    assert [refresh(talk, token).status for _ in range(2)] == [200, 200]


def test_reuse_ends_session(make):
    talk = make(reuse_ends_session=True)
    first = talk.box.tokens()["refresh_token"]
    second = json.loads(refresh(talk, first).body)["refresh_token"]
    assert refresh(talk, first).status == 400
    assert refresh(talk, second).status == 400


def test_of_many_refreshes_one_wins(make):
    box = make().box
    token = box.tokens()["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: refresh(Talker(box), token).status, range(8)))
    assert sorted(statuses) == [200] + [400] * 7


def test_client_authentication(make):
    talk = make()
    form = {"grant_type": "refresh_token", "refresh_token": talk.box.tokens()["refresh_token"]}
    pair = f"{talk.box.client_id}:{talk.box.client_secret}".encode()
    wrong = {"Authorization": "Basic " + base64.b64encode(pair + b"x").decode()}
    right = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    reply = talk.form("token", form, wrong)
    assert (reply.status, json.loads(reply.body)["error"]) == (401, "invalid_client")
    assert talk.token(**form, client_secret="no").status == 401
    assert talk.form("token", form, right).status == 200


def start_login(talk: Talker) -> dict:
    form = {"client_id": talk.box.client_id, "client_secret": talk.box.client_secret}
    reply = talk.form("auth/device", form | {"scope": "openid offline_access"})
    assert reply.status == 200
    return json.loads(reply.body)


def poll(talk: Talker, login: dict) -> str:
    reply = talk.token(grant_type=DEVICE, device_code=login["device_code"])
    return json.loads(reply.body).get("error", "ok")


def test_device_login(make):
    talk = make()
    login = start_login(talk)
    assert login["interval"] == 5
    assert poll(talk, login) == "authorization_pending"
    assert poll(talk, login) == "slow_down"
    assert talk.box.approve(login["user_code"])
    reply = talk.token(grant_type=DEVICE, device_code=login["device_code"])
    assert refresh(talk, json.loads(reply.body)["refresh_token"]).status == 200
    assert poll(talk, login) == "invalid_grant"
    assert not talk.box.approve("NO-SUCH")


def test_device_login_denied_or_late(make):
    talk = make()
    login = start_login(talk)
    assert talk.box.deny_login(login["user_code"])
    assert poll(talk, login) == "access_denied"
    talk = make(login_lifetime_s=-1)
    assert poll(talk, start_login(talk)) == "expired_token"


def test_device_login_in_a_browser(make):
    talk = make(login_interval_s=0.0)
    login = start_login(talk)
    page = talk.ask("GET", login["verification_uri_complete"])
    assert login["user_code"].encode() in page.body
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    talk.ask("POST", login["verification_uri"], urlencode({"user_code": login["user_code"]}), kind)
    assert poll(talk, login) == "ok"


def test_revocation_endpoint(make):
    talk = make()
    tokens = talk.box.tokens()
    form = {"client_id": talk.box.client_id, "client_secret": talk.box.client_secret}
    assert talk.form("revoke", form | {"token": tokens["access_token"]}).status == 200
    assert talk.door("HEAD", PATH, token=tokens["access_token"]).status == 401
    assert talk.form("revoke", form | {"token": tokens["refresh_token"]}).status == 200
    assert refresh(talk, tokens["refresh_token"]).status == 400


@pytest.mark.parametrize("status", ["503", "500", "429"])
def test_issuer_fault_status(make, status):
    talk = make()
    token = talk.box.tokens()["refresh_token"]
    talk.box.faults.add(status, server="issuer")
    assert [refresh(talk, token).status for _ in range(2)] == [int(status), 200]


def test_issuer_fault_html(make):
    talk = make(Fault("html", server="issuer"))
    reply = refresh(talk, talk.box.tokens()["refresh_token"])
    assert (reply.status, reply.headers["content-type"][:9]) == (200, "text/html")


@pytest.mark.parametrize(("name", "after"), [("reset", 200), ("lost", 400)])
def test_issuer_fault_connection(make, name, after):
    talk = make(Fault(name, server="issuer"))
    token = talk.box.tokens()["refresh_token"]
    with pytest.raises(BROKEN):
        refresh(talk, token)
    talk.connections.clear()
    assert refresh(talk, token).status == after


def test_issuer_fault_hang(make):
    talk = make(Fault("hang", server="issuer", hang_s=0.1))
    token = talk.box.tokens()["refresh_token"]
    with pytest.raises(http.client.RemoteDisconnected):
        refresh(talk, token)
    talk.connections.clear()
    assert refresh(talk, token).status == 200


def test_every_quirk_has_a_test():
    text = Path(__file__).read_text(encoding="utf-8")
    missing = [f.name for f in dataclasses.fields(Quirks) if f"{f.name}=" not in text]
    assert not missing
