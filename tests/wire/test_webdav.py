"""The door's operations, over sockets and TLS, against a door that behaves like dCache."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from putkit import put
from sinkkit import read

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import (
    AlreadyExists,
    DoorBusy,
    ListingUnreadable,
    Nearline,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    RateLimited,
    Refused,
    UsageError,
)
from ctaflows.model import Checksum
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.sandbox.server import Connection
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.upload import LocalSource
from ctaflows.transport.ask import ask
from ctaflows.transport.policy import error_for

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.transport.wishes import Request

DATA = bytes(range(256)) * 400


def adler(data: bytes) -> Checksum:
    return Checksum("adler32", f"{zlib.adler32(data):08x}")


def test_list_tells_all_that_the_door_knows(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/cta/a & b#?.h5", DATA)
    box.put("/cta/sub/c.h5", b"c")
    found = {e.path: e for e in door.list("cta")}
    assert set(found) == {"/cta/a & b#?.h5", "/cta/sub"}
    file = found["/cta/a & b#?.h5"]
    assert (file.size_bytes, file.is_dir, file.locality) == (len(DATA), False, "ONLINE")
    assert file.checksums == (adler(DATA),)
    assert file.mtime is not None
    assert file.etag
    assert found["/cta/sub"].is_dir


def test_listing_asks_for_depth_1_only(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/cta/sub/c.h5", b"c")
    list(door.list("/cta"))
    depths = [r.headers["depth"] for r in box.requests if r.method == "PROPFIND"]
    assert depths == ["1"]


def test_what_a_listing_asks_for(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/cta/a.h5", b"x")
    list(door.list("/cta"))
    headers = next(r.headers for r in box.requests if r.method == "PROPFIND")
    assert headers["brief"] == "t", "dCache leaves out the properties that it does not have"
    assert "text/html" not in headers["accept"], "it would give a page without the reason"


def test_directories_are_named_with_a_slash(box: Sandbox, door: WebDAVStorage) -> None:
    """Without it nginx 1.22 answers 409 to MKCOL and to DELETE."""
    door.mkdir("/x")
    door.delete("/x", is_dir=True)
    changes = [(r.method, r.path) for r in box.requests if r.method in ("MKCOL", "DELETE")]
    assert changes == [("MKCOL", "/x/"), ("DELETE", "/x/")]


def test_a_page_is_no_listing(box: Sandbox, door: WebDAVStorage) -> None:
    """StoRM WebDAV 1.8.1 answers 200 with a page to PROPFIND of its root."""
    box.faults.add("html", times=None, server="door", method="PROPFIND")
    with pytest.raises(ProtocolSurprise, match="200, not 207") as why:
        list(door.list("/"))
    assert "WebDAV" in (why.value.hint or "")


def refuse_want_digest(monkeypatch: pytest.MonkeyPatch, status: int, said: str) -> None:
    """Let a request with Want-Digest fail."""

    def asked(request: Request, *rest: Any) -> Any:
        if any(line.startswith(b"Want-Digest") for line in request.headers):
            raise error_for(status, {}, said, method=request.method, where=request.url)
        return (yield from ask(request, *rest))

    monkeypatch.setattr("ctaflows.storage.webdav.ask", asked)


@pytest.mark.parametrize(
    ("status", "said"), [(405, ""), (500, "Underlying filesystem failed to calculate checksum.")]
)
def test_a_server_that_can_t_compute_checksums(
    box: Sandbox, door: WebDAVStorage, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    """As XRootD answers to Want-Digest: the bytes are to be had without."""
    box.put("/cta/a.h5", DATA)
    refuse_want_digest(monkeypatch, status, said)
    assert read(door, "/cta/a.h5") == DATA
    assert read(door, "/cta/a.h5", start=5, end=7) == DATA[5:7]
    with pytest.raises(NotFound):
        read(door, "/cta/gone.h5")


def test_a_server_that_computes_no_checksum_for_head(
    box: Sandbox, door: WebDAVStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("/cta/a.h5", DATA)
    refuse_want_digest(monkeypatch, 405, "Method Not Allowed")
    assert door.measure("/cta/a.h5") == (len(DATA), ())


def test_a_file_lists_itself(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a.h5", b"x")
    assert [e.path for e in door.list("a.h5")] == ["/a.h5"]


def test_nothing_there(door: WebDAVStorage) -> None:
    with pytest.raises(NotFound):
        list(door.list("/nowhere"))
    with pytest.raises(NotFound):
        door.stat("/nowhere")
    with pytest.raises(NotFound):
        read(door, "/nowhere")
    with pytest.raises(NotFound):
        door.remove("/nowhere")
    assert door.exists("/nowhere") is None


@pytest.mark.parametrize("fault", ["garbage_xml", "truncate"])
def test_a_broken_listing_is_not_an_empty_one(
    box: Sandbox, door: WebDAVStorage, fault: str
) -> None:
    box.put("/cta/a.h5", b"x")
    box.faults.add(fault, times=None, method="PROPFIND")
    with pytest.raises((ListingUnreadable, NetworkError)):
        list(door.list("/cta"))


@pytest.mark.parametrize("fault", ["xml_bomb", "hostile_names"])
def test_a_hostile_listing_is_refused(box: Sandbox, door: WebDAVStorage, fault: str) -> None:
    box.put("/cta/a.h5", b"x")
    box.faults.add(fault, times=None, method="PROPFIND")
    with pytest.raises(ProtocolSurprise):
        list(door.list("/cta"))


def test_read_goes_through_the_pool_and_the_token_stays_home(
    box: Sandbox, door: WebDAVStorage
) -> None:
    box.put("/a.h5", DATA)
    assert read(door, "/a.h5") == DATA
    at_pool = [r for r in box.requests if r.server == "pool"]
    at_door = [r for r in box.requests if r.server == "door"]
    assert len(at_pool) == 1
    assert all("authorization" not in r.headers for r in at_pool)
    assert all("authorization" in r.headers for r in at_door)


@pytest.mark.parametrize(("start", "end"), [(0, 10), (5, 17), (100, None), (len(DATA) - 1, None)])
def test_ranges(box: Sandbox, door: WebDAVStorage, start: int, end: int | None) -> None:
    box.put("/a.h5", DATA)
    assert read(door, "/a.h5", start=start, end=end) == DATA[start:end]


def test_a_token_is_not_sent_in_clear(box: Sandbox) -> None:
    tokens = TokenProvider(box.settings())
    plain = box.settings(door_url="http://door.example.org:2880")
    with pytest.raises(UsageError, match="not sent to a door of http") as why:
        WebDAVStorage(plain, tokens)
    assert "CTAFLOWS_ALLOW_HTTP_DOOR" in (why.value.hint or "")
    WebDAVStorage(plain.replace(allow_http_door=True), tokens).close()
    WebDAVStorage(plain).close()
    WebDAVStorage(plain.replace(door_url="http://127.0.0.1:2880"), tokens).close()


def test_a_stale_pool_url_sends_home_with_the_token() -> None:
    with Sandbox(quirks=Quirks(pool_url_lifetime_s=0)) as box:
        box.put("/a.h5", DATA)
        settings = box.settings()
        with (
            WebDAVStorage(settings, TokenProvider(settings)) as stale,
            pytest.raises(ProtocolSurprise) as why,
        ):
            read(stale, "/a.h5")
        assert "redirects" in str(why.value)
        # it came home with the token each time, rather than without one and with a 401
        assert all(r.status != 401 for r in box.requests)


def test_a_pool_says_why_in_the_status_line() -> None:
    quirks = Quirks(pool_url_lifetime_s=0, stale_redirects_home=False)
    with Sandbox(quirks=quirks) as box:
        box.put("/a.h5", DATA)
        settings = box.settings()
        with (
            WebDAVStorage(settings, TokenProvider(settings)) as door,
            pytest.raises(ProtocolSurprise, match="Request is no longer valid"),
        ):
            read(door, "/a.h5")


def test_one_detour_is_no_harm(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a.h5", DATA)
    box.faults.add("redirect_loop", times=1, server="door", method="GET")
    assert read(door, "/a.h5") == DATA


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("redirect_elsewhere", NetworkError),
        ("redirect_http", ProtocolSurprise),
        ("redirect_loop", ProtocolSurprise),
    ],
)
def test_bad_redirects(
    box: Sandbox, door: WebDAVStorage, fault: str, expected: type[Exception]
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add(fault, times=None, server="door", method="GET")
    with pytest.raises(expected):
        read(door, "/a.h5")


def test_a_plain_http_pool_is_refused_unless_asked_for() -> None:
    with Sandbox(quirks=Quirks(pool_uses_http=True)) as box:
        box.put("/a.h5", DATA)
        settings = box.settings()
        with (
            WebDAVStorage(settings, TokenProvider(settings)) as strict,
            pytest.raises(ProtocolSurprise) as why,
        ):
            read(strict, "/a.h5")
        assert "CTAFLOWS_ALLOW_HTTP_POOLS" in (why.value.hint or "")
        settings = settings.replace(allow_http_pools=True)
        with WebDAVStorage(settings, TokenProvider(settings)) as lenient:
            assert read(lenient, "/a.h5") == DATA
        assert all("authorization" not in r.headers for r in box.requests if r.server == "pool")


@pytest.mark.parametrize("status", ["500", "502", "503", "429"])
def test_faults_that_pass_are_survived(box: Sandbox, door: WebDAVStorage, status: str) -> None:
    box.put("/a.h5", DATA)
    box.faults.add(status, times=2, server="door")
    assert read(door, "/a.h5") == DATA


@pytest.mark.parametrize(
    ("status", "expected"),
    [("503", DoorBusy), ("429", RateLimited), ("403", Refused)],
)
def test_faults_that_last(
    box: Sandbox, door: WebDAVStorage, status: str, expected: type[Exception]
) -> None:
    box.put("/a.h5", DATA)
    box.faults.add(status, times=None, server="door")
    with pytest.raises(expected):
        door.stat("/a.h5")


def test_what_the_door_says_is_told(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a.h5", DATA)
    box.uploading("/a.h5")
    with pytest.raises(DoorBusy, match="upload not yet completed"):
        read(door, "/a.h5")


def test_a_file_on_tape(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a.h5", DATA)
    box.locality("/a.h5", "NEARLINE")
    assert door.stat("/a.h5").locality == "NEARLINE"
    with pytest.raises(Nearline):
        read(door, "/a.h5")


def test_a_wrong_token_is_tried_once_and_renewed_once(box: Sandbox) -> None:
    box.put("/a.h5", DATA)
    settings = box.settings()
    provider = TokenProvider(settings)
    with WebDAVStorage(settings, provider) as door:
        box.revoke(provider.token())
        assert read(door, "/a.h5") == DATA
    assert [r.status for r in box.requests if r.server == "door"].count(401) == 1


def test_a_wrong_token_that_can_not_be_renewed_is_no_storm(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARER_TOKEN", "this.is.wrong")
    settings = box.settings(token_source="auto")
    with WebDAVStorage(settings, TokenProvider(settings)) as door, pytest.raises(Refused) as why:
        door.stat("/")
    assert [r.status for r in box.requests if r.server == "door"] == [401]
    assert why.value.said != "401", "dCache says the reason in the status line"
    assert "this.is.wrong" not in str(why.value) + repr(why.value) + (why.value.hint or "")


def test_an_unknown_ca_is_refused(box: Sandbox) -> None:
    settings = box.settings(ca_file=None)
    with WebDAVStorage(settings, None) as door, pytest.raises(NetworkError) as why:
        door.stat("/")
    assert not why.value.retryable
    assert "CTAFLOWS_CA_FILE" in (why.value.hint or "")
    assert len(box.requests) == 0


def test_a_door_that_is_away(box: Sandbox) -> None:
    with WebDAVStorage(box.settings(attempts=2), None) as door:
        box.close()
        with pytest.raises(NetworkError, match="can't be reached"):
            door.stat("/")


def test_mkdir(box: Sandbox, door: WebDAVStorage) -> None:
    door.mkdir("/x")
    assert (box.storage / "x").is_dir()
    with pytest.raises(AlreadyExists):
        door.mkdir("/x")
    door.mkdir("/x", exist_ok=True)
    with pytest.raises(NotFound):
        door.mkdir("/a/b/c")
    door.mkdir("/a/b/c", parents=True)
    assert (box.storage / "a/b/c").is_dir()
    box.put("/file", b"x")
    with pytest.raises(AlreadyExists):
        door.mkdir("/file", exist_ok=True)


def test_move(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/a", b"a")
    box.put("/b", b"b")
    with pytest.raises(AlreadyExists):
        door.move("/a", "/b")
    assert (box.storage / "b").read_bytes() == b"b"
    door.move("/a", "/b", overwrite=True)
    assert (box.storage / "b").read_bytes() == b"a"
    with pytest.raises(NotFound):
        door.move("/b", "/no/such/b")
    with pytest.raises(NotFound):
        door.move("/gone", "/c")


def test_remove_takes_no_directory(box: Sandbox, door: WebDAVStorage) -> None:
    box.put("/x/a", b"a")
    for path in ("/x", "/"):
        with pytest.raises(UsageError):
            door.remove(path)
    door.remove("/x/a")
    assert list((box.storage / "x").iterdir()) == []


@pytest.mark.parametrize("redirect", [True, False])
@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_putting(tmp_path: Path, redirect: bool, data: bytes) -> None:
    with Sandbox(quirks=Quirks(redirect_writes=redirect)) as box:
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            (tmp_path / "a.h5").write_bytes(data)
            with LocalSource(str(tmp_path / "a.h5")) as source:
                put(door, "/new/a.h5", source)
            put(door, "/new/b.h5", data)
        assert (box.storage / "new/a.h5").read_bytes() == data
        assert (box.storage / "new/b.h5").read_bytes() == data
        puts = [r for r in box.requests if r.method == "PUT" and r.server == "pool"]
        assert len(puts) == (2 if redirect and data else 0)
        for r in puts:
            assert "authorization" not in r.headers
            assert not {"content-type", "transfer-encoding"} & set(r.headers)


def test_many_threads_share_a_door(box: Sandbox, door: WebDAVStorage) -> None:
    for i in range(40):
        box.put(f"/d/{i}", bytes([i]) * 5000)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: read(door, f"/d/{i}"), range(40)))
    assert found == [bytes([i]) * 5000 for i in range(40)]


def test_connections_are_kept_over_redirects_and_refusals(
    box: Sandbox, door: WebDAVStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A door with many small files would otherwise pay a TLS handshake for each."""
    box.put("/a.h5", DATA)
    box.put("/small.h5", b"x")
    opened: list[object] = []
    begin = Connection.__init__
    monkeypatch.setattr(
        Connection, "__init__", lambda self, *args: opened.append(self) or begin(self, *args)
    )
    for _ in range(5):
        read(door, "/a.h5")
        read(door, "/small.h5")
        assert door.exists("/gone") is None
        with pytest.raises(NotFound):
            read(door, "/gone")
    assert len(opened) == 2, "one to the pool, and one to the door"


def test_what_a_server_says_does_not_steer_the_terminal(box: Sandbox, door: WebDAVStorage) -> None:
    with pytest.raises(NotFound) as why:
        door.stat("/a\u009b31m\u202e.h5")
    assert why.value.where is not None
    assert "\u009b" not in str(why.value)


@pytest.mark.parametrize("fault", ["reset", "truncate"])
def test_a_listing_that_breaks_off_is_asked_for_again(
    box: Sandbox, door: WebDAVStorage, fault: str
) -> None:
    for i in range(300):
        box.put(f"/d/{i:03}", b"x")
    box.faults.add(fault, times=2, method="PROPFIND")
    found = [e.name for e in door.list("/d")]
    assert sorted(found) == [f"{i:03}" for i in range(300)], "each once"
    box.faults.add(fault, times=2, method="PROPFIND")
    assert door.stat("/d/000").size_bytes == 1


@pytest.mark.parametrize("server", ["nginx/1.22.1", "Apache", "a proxy"])
def test_a_dcache_behind_a_proxy_is_not_believed(here: Path, server: str) -> None:
    """It lists what it can't read as empty, whatever the Server header."""
    with Sandbox(quirks=Quirks(server=server)) as box:
        box.put("/cta/secret/a.h5", b"a")
        (box.storage / "cta/empty").mkdir()
        box.deny("/cta/secret")
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            assert not list(door.list("/cta/secret"))
            with pytest.raises(Refused, match="shown as empty, but can't be read"):
                door.confirm_empty("/cta/secret")
            assert door.confirm_empty("/cta/empty")
            other = WebDAVStorage(settings, TokenProvider(settings)).told_by(door)
        with other, pytest.raises(Refused):
            other.confirm_empty("/cta/secret")


def test_an_empty_listing_of_storm_is_believed(here: Path) -> None:
    with Sandbox(quirks=Quirks.storm()) as box:
        (box.storage / "flat/empty").mkdir(parents=True)
        settings = box.settings()
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            assert not list(door.list("/flat/empty"))
            assert door.confirm_empty("/flat/empty")
        assert not [r for r in box.requests if r.method == "GET" and r.server == "door"]


def test_what_is_called_offline_is_not_read(
    box: Sandbox, door: WebDAVStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (box.storage / "empty").mkdir()

    def offline(request: Request, *rest: Any) -> Any:
        if request.method == "GET":
            raise Nearline("The file is on tape", status=403)
        return (yield from ask(request, *rest))

    monkeypatch.setattr("ctaflows.storage.webdav.ask", offline)
    assert not door.is_read_directly("/empty/a.h5")
    with pytest.raises(Nearline, match="shown as empty, but can't be read"):
        door.confirm_empty("/empty")
