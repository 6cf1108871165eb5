"""The sandbox itself: started, closed, and who may come in."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from talk import BROKEN, DATA, PATH, PROBE, Talker

from ctaflows import settings
from ctaflows.errors import UsageError
from ctaflows.sandbox import Fault, Sandbox


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
    assert time.monotonic() - start < 10
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
        assert time.monotonic() - start < 20, "a hang is 300 s"
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


def test_needs_token(make):
    talk = make()
    reply = talk.ask("GET", talk.box.door_url + PATH)
    assert (reply.status, reply.reason, reply.body) == (401, "Permission denied", b"")
    assert reply.headers["www-authenticate"].startswith("Basic realm=")
    quiet = talk.ask("GET", talk.box.door_url + PATH, headers={"Suppress-WWW-Authenticate": "1"})
    assert "www-authenticate" not in quiet.headers
    assert quiet.headers["suppress-www-authenticate"] == "suppressed"
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
    assert (reply.status, reply.reason) == (401, "login failed")  # whatever is wrong


def test_token_in_url(make):
    talk = make()
    url = f"{talk.box.door_url}{PATH}?authz={talk.box.issue_token()}"
    assert talk.ask("GET", url).status == 302


def test_bearer_over_https_only(make):
    talk = make(door_uses_http=True)
    assert talk.box.door_url.startswith("http://")
    reply = talk.door("HEAD", PATH)
    assert reply.status == 401
    assert reply.reason == "not allowed to send bearer token unencrypted"
    talk = make(door_uses_http=True, bearer_over_https_only=False)
    assert talk.door("HEAD", PATH).status == 200


def test_block_after_401(make):
    talk = make(block_s=20.0)
    for i in range(3):
        assert talk.door("HEAD", PATH, token=f"{i}").status == 401
    reply = talk.door("GET", PATH)
    assert reply.status == 429
    assert reply.body == b"Server is busy. Please try again later.\n"
    assert "retry-after" not in reply.headers
    talk.box.advance(20)
    assert talk.door("GET", PATH).status == 302


def test_retry_after(make):
    talk = make(retry_after=True)
    for _ in range(3):
        talk.door("HEAD", PATH, token="x")
    assert 15 <= int(talk.door("GET", PATH).headers["retry-after"]) <= 20


def test_no_block(make):
    talk = make(block_after_401=False)
    for _ in range(4):
        assert talk.door("HEAD", PATH, token="x").status == 401
    assert talk.door("HEAD", PATH).status == 200
