"""What every server on the way is told: the token is for the door's origin, and for nobody else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import ctaflows as run
from littledoor import Handler, LittleDoor, Tunnel, digest
from sinkkit import fetch

from ctaflows.auth.renewal import TokenProvider
from ctaflows.auth.store import Store
from ctaflows.errors import CtaflowsError
from ctaflows.model import Entry
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.download import Job
from ctaflows.transfer.uploads import upload_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("short_ranges")

SMALL = random.Random(1).randbytes(20_000)
MIDDLE = random.Random(2).randbytes(900_000)
LARGE = random.Random(3).randbytes(66 << 16)  # comes in several ranges, since they are short
CREDENTIALS = ("authorization", "proxy-authorization", "cookie", "authentication")


@pytest.fixture
def issued(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """All tokens and secrets that there are, also those that are still to come."""
    tokens = Store(box.settings()).read()
    assert tokens is not None
    known = {tokens.access_token, tokens.refresh_token or "", box.client_secret}
    make = box._tokens.pair

    def noted(*args: Any, **kwargs: Any) -> dict[str, Any]:
        pair = make(*args, **kwargs)
        known.update({pair["access_token"], pair["refresh_token"]})
        return pair

    monkeypatch.setattr(box._tokens, "pair", noted)
    return known


def check(little: LittleDoor, issued: set[str]) -> None:
    """Compare what each origin heard with what it may hear."""
    for heard in little.heard:
        said = heard.values("authorization")
        if heard.origin == "door":
            assert len(said) == 1, heard.text()
            assert said[0].removeprefix("Bearer ") in issued
            assert not heard.values("cookie"), heard.text()
        else:
            assert not [name for name in CREDENTIALS if heard.values(name)], heard.text()
            assert not [s for s in issued if s in heard.text()], heard.text()
            assert not [s for s in issued if s.encode() in heard.body]
        assert not [s for s in issued if s in heard.target]


def requests(little: LittleDoor, origin: str) -> set[str]:
    return {h.method for h in little.heard if h.origin == origin}


def refuse(handler: Handler) -> bool:
    return handler.reply(401, {"WWW-Authenticate": 'Basic realm="dCache"'})


def test_a_tour_of_all_commands(little: LittleDoor, aimed: Path, issued: set[str]) -> None:
    """Every request of every command, each kind of it refused once with a 401."""
    little.files |= {"/n/a.h5": SMALL, "/n/b.h5": MIDDLE, "/n/c.h5": LARGE}
    (aimed / "new.h5").write_bytes(SMALL)
    (aimed / "tree/sub").mkdir(parents=True)
    (aimed / "tree/sub/x.h5").write_bytes(MIDDLE)
    for method in ("PROPFIND", "GET", "PUT", "MOVE", "MKCOL", "DELETE"):
        little.when(method, refuse, times=1)
    # the pool breaks off once, and sends to the door once
    little.when("GET", cut_short, origin="pool", times=1)
    little.when("GET", go_home, origin="pool", times=1)
    for words in (
        ["ls", "-l", "n"],
        ["stat", "n/a.h5"],
        ["get", "-r", "n", "here"],
        ["put", "new.h5", "u/"],
        ["put", "-r", "tree", "u"],
        ["mkdir", "u/empty"],
        ["mv", "u/new.h5", "u/newer.h5"],
        ["rm", "u/newer.h5"],
    ):
        done = run(*words)
        assert done.code == 0, (words, done.err)
    assert (aimed / "here/n/c.h5").read_bytes() == LARGE
    assert little.files["/u/tree/sub/x.h5"] == MIDDLE
    assert requests(little, "door") >= {"PROPFIND", "GET", "PUT", "MOVE", "MKCOL", "DELETE"}
    assert requests(little, "pool") == {"GET", "PUT"}
    from_pool = [h for h in little.heard if h.origin == "pool"]
    assert len([h for h in from_pool if h.values("range")]) >= 3, "several ranges"
    used = {v for h in little.heard for v in h.values("authorization")}
    assert len(used) >= 6, "each refused request was repeated with a new token"
    check(little, issued)


def cut_short(handler: Handler) -> bool:
    data = handler.place.files[handler.name]
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\nDigest: {digest(data)}\r\n\r\n"
    return handler.raw(head, [data[: len(data) // 2]])


def go_home(handler: Handler) -> bool:
    return handler.reply(307, {"Location": handler.place.url + handler.path.partition("?")[0]})


def test_a_transfer_that_goes_on_later(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path, issued: set[str]
) -> None:
    little.files["/n/b.h5"] = MIDDLE
    little.when("GET", cut_short, origin="pool", times=1)
    little.when("GET", refuse, times=1)
    done = fetch(door, Job(door.stat("/n/b.h5"), tmp_path / "b.h5"))
    assert done.verified
    ranges = [h.values("range") for h in little.heard if h.origin == "pool"]
    assert ranges[0] == []
    assert ranges[1][0].startswith("bytes=")
    check(little, issued)


def test_a_pool_that_asks_for_the_token_does_not_get_it(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path, issued: set[str]
) -> None:
    """It refuses, it asks for a proxy's password, it sets cookies: nothing comes."""
    little.files["/n/a.h5"] = SMALL
    (tmp_path / "up.h5").write_bytes(MIDDLE)
    entry = door.stat("/n/a.h5")
    for status in (401, 407):
        for method in ("GET", "PUT"):
            challenge = {"WWW-Authenticate": "Bearer", "Proxy-Authenticate": "Basic"}
            little.when(
                method, lambda h, s=status, c=challenge: h.reply(s, c), origin="pool", times=1
            )
        with pytest.raises(CtaflowsError):
            fetch(door, Job(entry, tmp_path / "a.h5"))
        with pytest.raises(CtaflowsError):
            upload_alone(door, tmp_path / "up.h5", "/u/up.h5")
    assert requests(little, "pool") == {"GET", "PUT"}
    check(little, issued)


def test_a_door_s_cookies_are_the_door_s(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path
) -> None:
    """A cookie is a login too, and cookies know no ports: the pool is on the door's host."""
    little.files["/n/a.h5"] = SMALL
    little.always.append(("Set-Cookie", "session=worth-a-login; Path=/"))
    for name in ("one", "two"):
        fetch(door, Job(door.stat("/n/a.h5"), tmp_path / name))
    (tmp_path / "up.h5").write_bytes(MIDDLE)
    upload_alone(door, tmp_path / "up.h5", "/u/up.h5")
    list(door.list("/n"))
    assert requests(little, "pool") == {"GET", "PUT"}
    to_pool = [h.text() for h in little.heard if h.origin == "pool"]
    assert not [text for text in to_pool if "worth-a-login" in text]


def test_passwords_of_other_tools_stay_where_they_are(
    little: LittleDoor, aimed: Path, issued: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    little.files |= {"/n/a.h5": SMALL, "/n/b.h5": MIDDLE}
    netrc = Path.home() / ".netrc"
    netrc.write_text("machine localhost login me password hidden-word\n"
                     "default login me password hidden-word\n")  # fmt: skip
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert run("get", "-r", "n", "here").code == 0
    check(little, issued)


def test_a_proxy_sees_no_token(
    little: LittleDoor, aimed: Path, issued: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy goes a tunnel to the door and another one to the pool."""
    little.files |= {"/n/a.h5": SMALL, "/n/b.h5": MIDDLE}
    (aimed / "up.h5").write_bytes(MIDDLE)
    with Tunnel() as tunnel:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, tunnel.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert run("get", "-r", "n", "here").code == 0
        assert run("put", "up.h5", "u/").code == 0
    wheres = {head.split()[1] for head in tunnel.heads}
    assert {url.removeprefix("https://") for url in (little.url, little.pool_url)} <= wheres
    for head in tunnel.heads:
        assert head.startswith("CONNECT ")
        assert "uthorization" not in head
        assert not [s for s in issued if s in head]
    check(little, issued)


#: Places that one reader of addresses may take for the door, and another for the other server.
CROOKED: list[Callable[[int, int], str]] = [
    lambda _home, other: f"https://localhost:{other}/n/a.h5",
    lambda _home, other: f"//localhost:{other}/n/a.h5",
    lambda home, other: f"https://localhost:{home}@localhost:{other}/n/a.h5",
    lambda home, other: f"https://localhost:{other}#@localhost:{home}/n/a.h5",
    lambda home, other: f"https://localhost:{home}\\@localhost:{other}/n/a.h5",
    lambda home, other: f"https://localhost:{other}\\@localhost:{home}/n/a.h5",
    lambda home, other: f"https://localhost:{other}?@localhost:{home}/n/a.h5",
    lambda home, other: f"https://localhost:{home}\t@localhost:{other}/n/a.h5",
    lambda home, other: f"https://localhost:{home};@localhost:{other}/n/a.h5",
    lambda _home, other: f"https:localhost:{other}/n/a.h5",
    lambda _home, other: f"https:///localhost:{other}/n/a.h5",
    lambda _home, other: f"\\\\localhost:{other}\\n\\a.h5",
    lambda _home, other: f"https://LOCALHOST:{other}/n/a.h5",
    lambda home, _other: f"https://127.0.0.1:{home}/n/a.h5",
    lambda home, _other: f"https://localhost.:{home}/n/a.h5",
    lambda home, _other: f"https://[::ffff:127.0.0.1]:{home}/n/a.h5",
    lambda home, _other: f"https://127.1:{home}/n/a.h5",
    lambda home, _other: f"https://2130706433:{home}/n/a.h5",
]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_redirect_that_can_be_read_in_two_ways(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path, issued: set[str], method: str
) -> None:
    little.files["/n/a.h5"] = SMALL
    (tmp_path / "up.h5").write_bytes(MIDDLE)
    entry = door.stat("/n/a.h5")
    home, elsewhere = int(little.url.rpartition(":")[2]), little.server("elsewhere").port
    status = 302 if method == "GET" else 307
    for location in [crooked(home, elsewhere) for crooked in CROOKED]:
        little.hooks.clear()
        little.when(method, lambda h, w=location: h.reply(status, {"Location": w}), times=6)
        try:
            if method == "GET":
                fetch(door, Job(entry, tmp_path / "a.h5"))
            else:
                upload_alone(door, tmp_path / "up.h5", "/u/up.h5")
        except CtaflowsError as why:
            assert not [s for s in issued if s in str(why)]
        (tmp_path / "a.h5").unlink(missing_ok=True)
        little.files.pop("/u/up.h5", None)
    assert len([h for h in little.heard if h.method == method]) >= len(CROOKED)
    for heard in little.heard:
        host = heard.values("host")[0]
        if heard.origin != "door" or host.lower() != f"localhost:{home}":
            assert not heard.values("authorization"), heard.text()
            assert not [s for s in issued if s in heard.text()], heard.text()


ACTS: dict[str, Callable[[WebDAVStorage], object]] = {
    "PROPFIND": lambda door: door.stat("/n/a.h5"),
    "HEAD": lambda door: door.checksums("/n/a.h5"),
    "MKCOL": lambda door: door.mkdir("/u"),
    "MOVE": lambda door: door.move("/n/a.h5", "/n/b.h5"),
    "DELETE": lambda door: door.delete("/n/a.h5", is_dir=False),
}


@pytest.mark.parametrize("method", ACTS)
def test_a_method_that_is_sent_on_goes_without_the_token(
    little: LittleDoor, door: WebDAVStorage, issued: set[str], method: str
) -> None:
    """An XRootD manager sends all on: a data server is asked without the token, or not at all.

    A door can be hostile, and send a DELETE to a server that only this machine may reach. That
    server would do for nobody what it does without a token, and GET and PUT were always sent on.
    """
    little.files["/n/a.h5"] = SMALL
    act = ACTS[method]
    elsewhere = f"https://localhost:{little.server('elsewhere').port}/n/a.h5"
    for status in (301, 302, 303, 307, 308):
        little.hooks.clear()
        little.when(method, lambda h, s=status: h.reply(s, {"Location": elsewhere}))
        # the page of a login, to which the others lead, must not be taken for success
        goes = status in (307, 308) or method in ("HEAD", "PROPFIND")
        # 501 is what a pool says of these methods
        with pytest.raises(CtaflowsError, match="501" if goes else "Refused a redirect"):
            act(door)
        assert [h.method for h in little.heard if h.origin == "elsewhere"] == [method] * goes
        check(little, issued)
        little.heard.clear()
    assert little.files == {"/n/a.h5": SMALL}


@pytest.mark.parametrize("method", ACTS)
def test_only_bytes_may_be_in_clear(little: LittleDoor, door: WebDAVStorage, method: str) -> None:
    """Their checksum is compared. What is listed in clear could be anything."""
    little.files["/n/a.h5"] = SMALL
    there = f"http://localhost:{little.server('elsewhere', tls=False).port}/n/a.h5"
    little.when(method, lambda h: h.reply(307, {"Location": there}))
    settings = door.settings.replace(allow_http_pools=True)
    with (
        WebDAVStorage(settings, door.tokens) as lenient,
        pytest.raises(CtaflowsError, match="to http"),
    ):
        ACTS[method](lenient)
    assert little.connections["elsewhere"] == 0
    assert little.files == {"/n/a.h5": SMALL}


def test_the_check_finds_a_token_elsewhere(
    little: LittleDoor, door: WebDAVStorage, tmp_path: Path, issued: set[str], box: Sandbox
) -> None:
    """The proofs above are worth something: what a pool should not hear is found."""
    little.files["/n/a.h5"] = SMALL
    token = TokenProvider(box.settings()).token()
    entry = Entry("/n/a.h5", size_bytes=len(SMALL))
    little.when("GET", lambda h: h.reply(302, {"Location": f"{little.pool_url}/n/a.h5?t={token}"}))
    fetch(door, Job(entry, tmp_path / "a.h5"))
    with pytest.raises(AssertionError):
        check(little, issued)
