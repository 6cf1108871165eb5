"""What goes wrong for a time at the sandbox: pools, logins, too many requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from fetching import job
from sinkkit import fetch
from talk import BROKEN, DATA, PATH, PROBE, SRM, Talker, eventually

from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import NoSpace, Refused
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage
from ctaflows.transfer.batch import fetch_many
from ctaflows.transfer.download import Job
from ctaflows.transfer.uploads import upload_alone

if TYPE_CHECKING:
    from pathlib import Path

LOCALITY = f"{SRM}FileLocality"


def locality(talk: Talker) -> str | None:
    return talk.list("/lst", names=[LOCALITY])[PATH]["200"][LOCALITY]


def held(talk: Talker, method: str = "GET", server: str = "door") -> int:
    """Return how many requests a server has received and not answered."""
    seen = [r for r in talk.box.requests if r.server == server and r.method == method]
    return sum(r.status is None for r in seen)


def test_restart_of_a_pool(make):
    talk = make()
    url = talk.door("GET", PATH).location
    talk.box.restart_pool(away_s=1000, unavailable_s=1000)
    reply = talk.door("GET", PATH)
    assert (reply.status, b"Route for >p1@pool1< not found at >core<" in reply.body) == (500, True)
    assert reply.body.startswith(b"Internal problem: Failed to deliver PoolDeliverFileMessage")
    assert talk.door("PUT", "/new", headers=PROBE).status == 500
    assert talk.door("HEAD", "/new").status == 404, "the door removes what it made"
    assert locality(talk) == "ONLINE"
    with pytest.raises(BROKEN):
        talk.ask("GET", url)
    talk.box.advance(1000)
    assert locality(talk) == "UNAVAILABLE"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Talker(talk.box).get)
        eventually(lambda: held(talk) == 1)
        talk.box.advance(1000)
        assert waiting.result().body == DATA
    assert locality(talk) == "ONLINE"
    talk.connections.pop(talk.box.pool_url)
    assert talk.ask("GET", url).status == 307, "the pool has forgotten its URLs"


def test_restart_of_a_pool_in_the_middle_of_a_file(box: Sandbox, tmp_path: Path) -> None:
    """`ctaflows.transfer.download.download` asks again, and ends with the whole file."""
    box.put(PATH, DATA)
    box.faults.add("slow", server="pool", rate_bytes_s=len(DATA))
    settings = box.settings(attempts=100)
    with (
        WebDAVStorage(settings, TokenProvider(settings)) as door,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(fetch, door, job(door, PATH, tmp_path))
        eventually(lambda: "pool" in [r.server for r in box.requests if r.status])
        box.restart_pool(away_s=1000, unavailable_s=0)
        eventually(lambda: 500 in [r.status for r in box.requests])
        box.advance(1000)
        assert running.result().verified
    assert [r.server for r in box.requests if r.method == "GET"].count("pool") == 2


def test_a_dead_pool(make):
    talk = make()
    talk.box.kill_pool(away_s=240, held_s=180)
    assert talk.door("GET", PATH).status == 500
    assert talk.door("PUT", "/new", headers=PROBE).status == 500
    talk.box.advance(240)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Talker(talk.box).door, "GET", PATH)
        eventually(lambda: held(talk) == 1)
        assert locality(talk) == "ONLINE"
        reply = talk.door("PUT", "/new", headers=PROBE)
        assert b"No write pools online" in reply.body
        talk.box.advance(180)
        reply = waiting.result()
    assert reply.status == 500
    assert reply.body == b"Internal problem: Request to [>PoolManager@core] timed out.\n"
    talk.box.restart_pool(away_s=0, unavailable_s=0)
    assert talk.get().body == DATA


def test_a_full_pool_is_told(box: Sandbox, door: WebDAVStorage, tmp_path: Path) -> None:
    """507 becomes `NoSpace`, which is not tried again."""
    box.fill_pool(free_bytes=1000, gap_bytes=2000)
    (tmp_path / "a").write_bytes(b"a" * 100)
    with pytest.raises(NoSpace, match="SER_DISK_FULL"):
        upload_alone(door, tmp_path / "a", "/new/a")
    assert [r.method for r in box.requests].count("PUT") == 1
    assert not [p for p in box.storage.rglob("*") if p.is_file()]
    box.fill_pool(free_bytes=float("inf"))
    assert upload_alone(door, tmp_path / "a", "/new/a").verified


def test_a_nearly_full_pool_is_silent_and_loses_its_threads(make):
    talk = make()
    talk.box.fill_pool(free_bytes=1000, gap_bytes=500)
    assert talk.put("/small", b"a" * 900).status == 201
    read = talk.door("GET", PATH).location
    urls = [talk.door("PUT", f"/big{i}", headers=PROBE).location for i in range(4)]
    with ThreadPoolExecutor(5) as pool:
        # each has a connection of its own, whose end the pool does not notice
        waiting = [pool.submit(Talker(talk.box).ask, "PUT", url, DATA) for url in urls]
        eventually(lambda: held(talk, "PUT", "pool") == 4)
        waiting.append(pool.submit(Talker(talk.box).ask, "GET", read))
        eventually(lambda: held(talk, "GET", "pool") == 1)
        assert not any(w.done() for w in waiting)
        talk.box.restart_pool(away_s=0, unavailable_s=0)
        assert all(isinstance(w.exception(), BROKEN) for w in waiting)
    assert talk.get().body == DATA


def test_a_sandbox_ends_while_requests_are_held(make):
    talk = make()
    talk.box.kill_pool(away_s=0, held_s=1000)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Talker(talk.box).door, "GET", PATH)
        eventually(lambda: held(talk) == 1)
        talk.box.close()
        assert isinstance(waiting.exception(), BROKEN)


# -- logins and rates ------------------------------------------------------------------------------


def test_keys_of_the_issuer_are_kept_for_an_hour(make):
    talk = make(issuer_keys_s=3600.0, failed_logins_s=600.0, block_after_401=False)
    assert talk.door("HEAD", PATH).status == 200
    talk.box.change_key()
    token = talk.box.issue_token(86400)
    assert talk.door("HEAD", PATH, token=token).status == 401
    assert talk.door("HEAD", PATH).status == 200, "a token with the old key"
    talk.box.advance(3500)
    assert talk.door("HEAD", PATH, token=token).status == 401
    talk.box.advance(100)
    assert talk.door("HEAD", PATH, token=token).status == 401, "a failed login is remembered, too"
    assert talk.door("HEAD", PATH, token=talk.box.issue_token()).status == 200
    talk.box.advance(500)
    assert talk.door("HEAD", PATH, token=token).status == 200


def test_a_new_key_is_told_as_a_refused_token(box: Sandbox) -> None:
    """`TokenProvider` renews once, and no more: three 401s would block the address."""
    settings = box.settings()
    box.put(PATH, DATA)
    with WebDAVStorage(settings, TokenProvider(settings)) as door:
        assert door.stat(PATH)
        box.change_key()
        box.revoke(TokenProvider(settings).token())
        with pytest.raises(Refused, match="login failed"):
            door.stat(PATH)
        assert [r.status for r in box.requests].count(401) == 2
        box.advance(3600)
        assert door.stat(PATH)


def test_logins_are_remembered(make):
    talk = make(logins_s=600.0)
    token = talk.box.issue_token()
    assert talk.door("HEAD", PATH, token=token).status == 200
    talk.box.revoke(token)
    assert talk.door("HEAD", PATH, token=token).status == 200
    talk.box.advance(601)
    assert talk.door("HEAD", PATH, token=token).status == 401


def test_requests_per_s(make):
    talk = make(requests_per_s=10)
    now = [0.0]
    talk.box._clock.now = lambda: now[0]
    assert [talk.door("HEAD", PATH).status for _ in range(2)] == [200, 429]
    now[0] = 60.0
    statuses = [talk.door("HEAD", PATH).status for _ in range(13)]
    assert statuses == [200] * 11 + [429] * 2, "what was not used is kept for one second"
    now[0] = 60.1
    assert [talk.door("HEAD", PATH).status for _ in range(2)] == [200, 429]


def test_many_files_at_a_limited_rate(tmp_path: Path) -> None:
    """After 429 the product pauses: none of the files fails."""
    with Sandbox(quirks=Quirks(requests_per_s=50)) as box:
        paths = [f"/n/{i:03}" for i in range(80)]
        for path in paths:
            box.put(path, path.encode())
        settings = box.settings(attempts=20, busy_s=1.0)
        with WebDAVStorage(settings, TokenProvider(settings)) as door:
            jobs = [Job(e, tmp_path / e.name) for e in door.list("/n")]
            report = fetch_many(door, jobs)
        assert not report.failed
        assert len(list(tmp_path.iterdir())) == 80
        assert 429 in [r.status for r in box.requests]
