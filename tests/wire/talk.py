"""A plain HTTP client for the sandbox, independent of ctaflows."""

from __future__ import annotations

import http.client
import ssl
import time
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.sandbox import Sandbox

DATA = bytes(range(256)) * 400
ADLER = f"adler32={zlib.adler32(DATA):08x}"
WANT = {"Want-Digest": "adler32;q=1,md5;q=0.5"}
PATH = "/lst/dl1.h5"
BROKEN = (ConnectionError, ssl.SSLError, http.client.IncompleteRead)
BROKEN_FILE = b"Internal problem: File is broken\n"
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
    """A plain HTTP client that keeps one connection for each origin."""

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


def eventually(holds: Callable[[], bool]) -> None:
    """Ask until something holds that another thread brings about."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline


def properties(xml: bytes) -> dict[str, dict[str, dict[str, str | None]]]:
    """Return the properties of a multistatus: path to status to property to text."""
    found: dict = {}
    for response in ET.fromstring(xml).iter("{DAV:}response"):
        path = unquote(response.findtext("{DAV:}href") or "")
        for block in response.iter("{DAV:}propstat"):
            code = (block.findtext("{DAV:}status") or "").split()[1]
            props = {p.tag: p.text for p in block.find("{DAV:}prop")}
            found.setdefault(path, {})[code] = props
    return found
