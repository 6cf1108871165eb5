"""Many files that go up at once: a door that lies about one of them, and who sees the token."""

from __future__ import annotations

import base64
import hashlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import ctaflows as run
from littledoor import Tunnel

from ctaflows.transfer import uploads

if TYPE_CHECKING:
    from collections.abc import Callable

    from littledoor import Handler, LittleDoor

    from ctaflows.storage.webdav import WebDAVStorage

FILES = {f"{i}.h5": random.Random(i).randbytes(5000 + i) for i in range(12)}
BAD = "4.h5"


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[str, str]]:
    (tmp_path / "n").mkdir()
    for name, data in FILES.items():
        (tmp_path / "n" / name).write_bytes(data)
    return uploads.files_of(tmp_path / "n", "/up")


def lie(
    little: LittleDoor, method: str, answer: Callable[[Handler], object], *, times: int = 1
) -> None:
    """Answer otherwise for the file's temporary name."""

    def hook(handler: Handler) -> bool:
        if f"/.{BAD}." not in handler.name:
            return False
        return answer(handler) is not False

    def counted(handler: Handler) -> bool:
        nonlocal times
        if handler.command != method or handler.server.name != "door" or not times:
            return False
        if hook(handler):
            times -= 1
            return True
        return False

    little.hooks.append(counted)


def arrived(little: LittleDoor) -> dict[str, bytes]:
    return {name.removeprefix("/up/n/"): data for name, data in little.files.items()}


def moves(little: LittleDoor) -> int:
    return sum(h.method == "MOVE" and f"/.{BAD}." in h.target for h in little.heard)


def raw(head: str) -> Callable[[Handler], bool]:
    return lambda handler: handler.raw(head)


LIES = {
    "too short": raw("HTTP/1.1 200 OK\r\nContent-Length: 5003\r\nConnection: close\r\n\r\n"),
    "too long": raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n"),
    "another sum": raw(
        "HTTP/1.1 200 OK\r\nContent-Length: 5004\r\nDigest: adler32=00000001\r\n"
        "Connection: close\r\n\r\n"
    ),
    "no HTTP": raw("SSH-2.0-OpenSSH\r\n"),
    "gone": lambda handler: handler.reply(404),
    "elsewhere": lambda handler: handler.reply(302, {"Location": "https://localhost:1/x"}),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_lie_about_what_arrived(
    little: LittleDoor,
    door: WebDAVStorage,
    pairs: list[tuple[str, str]],
    kind: str,
) -> None:
    little.digest = lambda _: {}  # type: ignore[method-assign]  so that HEAD is asked
    door.tells_locality = False
    lie(little, "HEAD", LIES[kind])
    report = uploads.upload_many(door, pairs)
    assert not report.failed
    assert arrived(little) == FILES


@pytest.mark.parametrize("is_right", [True, False])
def test_a_door_that_keeps_another_sum(
    little: LittleDoor, door: WebDAVStorage, pairs: list[tuple[str, str]],
    is_right: bool,
) -> None:  # fmt: skip
    def md5(path: str) -> dict[str, str]:
        data = little.files[path] if is_right else b"something else"
        return {"Digest": f"md5={base64.b64encode(hashlib.md5(data).digest()).decode()}"}

    little.digest = md5  # type: ignore[method-assign]
    report = uploads.upload_many(door, pairs)
    assert bool(report.failed) != is_right
    assert arrived(little) == (FILES if is_right else {})
    if is_right:
        assert {t.checksum and t.checksum.algorithm for t in report.transfers} == {"md5"}
        assert all(t.verified for t in report.transfers)


def test_bytes_that_change_on_their_way(
    little: LittleDoor, door: WebDAVStorage, pairs: list[tuple[str, str]]
) -> None:
    bad = FILES[BAD]
    little.on_its_way = lambda data: data[::-1] if data == bad else data
    report = uploads.upload_many(door, pairs)
    assert [t.path for t in report.failed] == [f"/up/n/{BAD}"]
    assert (report.failed[0].error or "").startswith("ChecksumMismatch: ")
    assert arrived(little) == {n: data for n, data in FILES.items() if n != BAD}


def done_but(answer: Callable[[Handler], bool]) -> Callable[[Handler], bool]:
    """Move the file and say something else."""

    def act(handler: Handler) -> bool:
        files = handler.place.files
        files[f"/up/n/{BAD}"] = files.pop(handler.name)
        return answer(handler)

    return act


@pytest.mark.parametrize("status", [404, 409, 412, 500, 502, 503])
@pytest.mark.parametrize("is_done", [True, False])
def test_a_lie_about_the_move(
    little: LittleDoor, door: WebDAVStorage, pairs: list[tuple[str, str]],
    status: int, is_done: bool,
) -> None:  # fmt: skip
    def answer(handler: Handler) -> bool:
        return handler.reply(status)

    lie(little, "MOVE", done_but(answer) if is_done else answer)
    report = uploads.upload_many(door, pairs)
    if status == 412 and not is_done:
        assert [t.path for t in report.failed] == [f"/up/n/{BAD}"]
        assert (report.failed[0].error or "").startswith("AlreadyExists: ")
        assert arrived(little) == {n: data for n, data in FILES.items() if n != BAD}
        return
    assert not report.failed
    assert arrived(little) == FILES
    assert moves(little) == (1 if is_done else 2)


def test_a_move_of_which_nothing_is_heard(
    little: LittleDoor, door: WebDAVStorage, pairs: list[tuple[str, str]]
) -> None:
    """It is done, and the connection broken: libcurl may ask again, and hear that it is gone."""
    lie(little, "MOVE", done_but(lambda handler: handler.raw("")))
    report = uploads.upload_many(door, pairs)
    assert not report.failed
    assert arrived(little) == FILES


def test_a_file_that_is_nowhere_after_the_move(
    little: LittleDoor, door: WebDAVStorage, pairs: list[tuple[str, str]]
) -> None:
    def lost(handler: Handler) -> bool:
        del handler.place.files[handler.name]
        return handler.reply(500)

    lie(little, "MOVE", lost)
    report = uploads.upload_many(door, pairs)
    assert [t.path for t in report.failed] == [f"/up/n/{BAD}"]
    assert (report.failed[0].error or "").startswith("DoorBusy: The server can't do it now")


def test_where_the_token_goes(
    little: LittleDoor, door: WebDAVStorage, pairs: list[tuple[str, str]]
) -> None:
    """Door to pool, door to elsewhere, pool back to the door: only the door sees it."""
    elsewhere = little.server("elsewhere").port
    home = little.url

    def aside(handler: Handler) -> bool | None:
        if handler.command != "PUT":
            return None
        if handler.server.name == "door" and f"/.{BAD}." in handler.name:
            there = f"https://localhost:{elsewhere}{handler.path}"
            return handler.reply(307, {"Location": there})
        if handler.server.name == "pool" and "/.5.h5." in handler.name:
            return handler.reply(307, {"Location": home + handler.name})
        return None

    little.hooks.append(aside)
    report = uploads.upload_many(door, pairs)
    assert not report.failed
    assert arrived(little) == FILES
    assert {h.origin for h in little.heard} == {"door", "pool", "elsewhere"}
    for heard in little.heard:
        assert bool(heard.values("authorization")) == (heard.origin == "door"), heard.text()
        if heard.method == "PUT":
            assert not heard.values("content-type"), heard.text()


def test_through_a_proxy(
    little: LittleDoor, aimed: Path, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own answers are none of the door's."""
    with Tunnel() as tunnel:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, tunnel.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        done = run("put", "-r", str(Path(pairs[0][0]).parent), "up")
    assert done.code == 0, done.err
    assert arrived(little) == FILES
    assert tunnel.heads
    for head in tunnel.heads:
        assert "uthorization" not in head
