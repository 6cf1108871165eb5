"""Small files, many at once: one that is a weapon is one that fails; no server hears too much."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from commandline import run
from commands import ctaflows
from ctaflows.transfer.fetch import Job
from ctaflows.transfer.many import fetch_many
from littledoor import Tunnel
from test_hostile_answers import BODIES, MOST_MB

if TYPE_CHECKING:
    from pathlib import Path

    from littledoor import Handler, LittleDoor

    from ctaflows.storage.webdav import WebDAVStorage

FILES = {f"/n/{i}.h5": random.Random(i).randbytes(5000 + i) for i in range(9)}
BAD = "/n/4.h5"


@pytest.fixture
def wire() -> str:
    """Over httpx they go one by one."""
    return "libcurl"


def on_one(answer: Any, origin: str) -> Any:
    """Let one file be answered otherwise."""

    def hook(handler: Handler) -> bool | None:
        asked = handler.command == "GET" and handler.name == BAD
        return answer(handler) if asked and handler.server.name == origin else None

    return hook


@pytest.mark.parametrize("origin", ["door", "pool"])
@pytest.mark.parametrize("kind", BODIES)
def test_one_of_many_is_a_weapon(little: LittleDoor, aimed: Path, kind: str, origin: str) -> None:
    little.files |= FILES
    little.hooks.append(on_one(BODIES[kind], origin))
    done = run("get", "-r", "n", "here", CTAFLOWS_ATTEMPTS="2", CTAFLOWS_BACKOFF_S="0.01")
    assert done.code == 10, done.err
    assert "4.h5" in done.err
    assert done.peak_mb < MOST_MB
    here = {p.name: p.read_bytes() for p in (aimed / "here/n").iterdir() if p.suffix == ".h5"}
    assert here == {name[3:]: data for name, data in FILES.items() if name != BAD}


def test_where_the_token_goes(little: LittleDoor, door: WebDAVStorage, tmp_path: Path) -> None:
    """Door to pool, pool back to the door, door to elsewhere: only the door sees it."""
    little.files |= FILES
    elsewhere = little.server("elsewhere").port
    there = f"https://localhost:{elsewhere}{BAD}"
    little.hooks.append(on_one(lambda h: h.reply(302, {"Location": there}), "door"))
    home = little.url
    little.hooks.append(
        lambda h: (
            h.server.name == "pool"
            and h.name == "/n/5.h5"
            and h.reply(302, {"Location": home + "/n/6.h5"})
        )
    )
    jobs = [Job(e, tmp_path / e.name) for e in door.list("/n")]
    report = fetch_many(door, jobs)
    assert {t.path for t in report.failed} == {"/n/5.h5"}, "the bytes are those of another file"
    for heard in little.heard:
        assert bool(heard.values("authorization")) == (heard.origin == "door"), heard.text()


def test_through_a_proxy(little: LittleDoor, aimed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own answers are none of the door's."""
    little.files |= FILES
    with Tunnel() as tunnel:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, tunnel.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert ctaflows("get", "-r", "n", "here").code == 0
    asked = [h for h in little.heard if h.method == "GET"]
    assert len(asked) == 2 * len(FILES), "each once at the door and once at the pool"
    assert tunnel.heads
    for head in tunnel.heads:
        assert "uthorization" not in head
