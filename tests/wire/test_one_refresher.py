"""One refresher for all: many processes and threads ask at once; processes are killed at will."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from examples import INTERRUPTIONS

from ctaflows.auth.renewal import TokenProvider
from ctaflows.auth.store import Store, TokenSet
from ctaflows.sandbox import Quirks, Sandbox
from ctaflows.storage.webdav import WebDAVStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.auth.oidc import DeviceLogin

PROCESSES = THREADS = 16
ROUNDS = KILLS = 2 * INTERRUPTIONS

ASKER = """
import sys
from ctaflows import settings
from ctaflows.auth.renewal import TokenProvider
provider = TokenProvider(settings.load())
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(provider.token(), flush=True)
    except Exception as why:
        print(repr(why), flush=True)
"""


@contextlib.contextmanager
def askers(n: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that give a token for each line they are told."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(n)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def make_short(box: Sandbox, store: Store) -> TokenSet:
    """Let the stored token be over, here and at the door."""
    with store.lock():
        tokens = store.read()
        assert tokens is not None
        store.write(replace(tokens, obtained_at=time.time() - 2 * (tokens.expires_in or 0)))
    box.revoke(tokens.access_token)
    return tokens


@pytest.mark.slow
@pytest.mark.repeats
@pytest.mark.timeout(300 + ROUNDS)
def test_all_ask_at_once_and_one_renews(box: Sandbox, here: Path) -> None:
    box.put("/a", b"x")
    settings = box.settings()
    store = Store(settings)
    started = time.monotonic()
    with (
        askers(PROCESSES) as processes,
        ThreadPoolExecutor(THREADS) as pool,
        WebDAVStorage(settings, TokenProvider(settings)) as door,
    ):
        ready_s = time.monotonic() - started
        for number in range(ROUNDS):
            old = make_short(box, store)
            box.requests.clear()
            barrier = threading.Barrier(THREADS + 1)

            def ask(barrier: threading.Barrier = barrier) -> str:
                barrier.wait(120)
                return TokenProvider(settings).token()

            futures = [pool.submit(ask) for _ in range(THREADS)]
            barrier.wait(120)
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            answers = [process.stdout.readline().strip() for process in processes if process.stdout]
            answers += [future.result(60) for future in futures]

            assert len(answers) == PROCESSES + THREADS
            assert len(set(answers)) == 1, f"round {number}: {len(set(answers))} answers"
            newer = store.read()
            assert newer is not None
            assert newer.access_token == answers[0] != old.access_token
            assert newer.refresh_token != old.refresh_token
            grants = [r.status for r in box.requests if r.path.endswith("/token")]
            assert grants == [200], f"round {number}"
            door.stat("/a")
            assert {r.status for r in box.requests if r.server == "door"} == {207}
    print(f"{ROUNDS} rounds: {time.monotonic() - started:.1f} s, of it {ready_s:.1f} s to start")


def test_reuse_would_be_seen(box: Sandbox, here: Path) -> None:
    """The proof above is worth something: without the lock the issuer refuses."""
    settings = box.settings()
    store = Store(settings)
    make_short(box, store)
    tokens = store.read()
    assert tokens is not None
    for _ in range(2):
        provider = TokenProvider(settings)
        with contextlib.suppress(Exception):
            provider._exchanged(tokens.refresh_token or "", lambda _: None)
    assert [r.status for r in box.requests if r.path.endswith("/token")] == [200, 400]


# -- killed ----------------------------------------------------------------------------------------

FORKER = """
import os, sys, time
from ctaflows import settings
from ctaflows.auth.renewal import TokenProvider
settings_ = settings.load()
import ctaflows.transport.tls_context, httpx, ssl
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            TokenProvider(settings_).refresh()
        except BaseException as why:
            os.write(2, repr(why).encode() + b"\\n")
            os._exit(1)
        os._exit(0)
    os.write(1, b"%d\\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(1, b"%d\\n" % status)
"""


def lock_is_free(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


class Forker:
    """Forks a refresher when told so."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            assert waiting.select(60), "it says nothing"
        return self._process.stdout.readline().decode().strip()

    def begin(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        return int(self._line())

    def status(self) -> int:
        return int(self._line())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def forker(here: Path) -> Iterator[Forker]:
    forker = Forker()
    yield forker
    forker.close()


@pytest.mark.repeats
@pytest.mark.timeout(300 + KILLS)
def test_a_refresher_that_is_killed_at_any_moment(box: Sandbox, forker: Forker) -> None:
    seed = int(os.environ.get("CTAFLOWS_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (CTAFLOWS_TEST_SEED repeats it)")
    chance = random.Random(seed)
    store = Store(box.settings())
    lock = store.file.with_suffix(".lock")
    known = {store.read().access_token}  # type: ignore[union-attr]

    lives = []
    for _ in range(5):
        start = time.monotonic()
        forker.begin()
        assert forker.status() == 0
        lives.append(time.monotonic() - start)
    whole_s = max(lives)

    n_killed = n_old = n_new = 0
    for trial in itertools.count():
        if trial >= KILLS and n_killed > trial / 3 and n_old > trial / 10 and n_new > trial / 40:
            break
        assert trial < 10 * KILLS, f"of {trial}: {n_killed} killed, {n_old} old, {n_new} new"
        given = TokenSet(**box.tokens())
        store.write(given)
        known.add(given.access_token)
        longest_s = 0.03 if trial % 2 else 1.2 * whole_s  # the later half of its life too
        pid = forker.begin()
        time.sleep(chance.uniform(0, longest_s))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        status = forker.status()
        n_killed += status == signal.SIGKILL
        found = store.read()
        assert found is not None
        assert found.refused is None
        if found == given:
            n_old += 1
        else:
            n_new += 1
            assert found.access_token not in known
            assert box._tokens.refusal(found.access_token) is None
            known.add(found.access_token)
            again = box._tokens._refreshes[found.refresh_token or ""]
            assert not again.is_used, "the stored refresh token is the unused one"
        assert lock_is_free(lock)
        assert json.loads(store.file.read_text())["access_token"] == found.access_token
        # what is left behind is private, and nobody takes it for the store
        for file in store.file.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0
    print(f"killed {n_killed}, old {n_old}, new {n_new}; a whole refresh takes {whole_s:.3f} s")
    store.write(TokenSet(**box.tokens()))
    TokenProvider(box.settings()).refresh()


def test_a_half_written_file_is_never_read(box: Sandbox) -> None:
    store = Store(box.settings())
    tokens = store.read()
    left = store.file.with_name(f".{store.file.name}.123.456")
    left.write_text('{"access_token": "half')
    assert store.read() == tokens
    TokenProvider(box.settings()).refresh()


def test_what_a_killed_refresher_left_goes_with_the_logout(box: Sandbox) -> None:
    """It may hold a refresh token: nobody would ever remove it."""
    store = Store(box.settings())
    for file in (store.file, store.bare_file):
        left = file.with_name(f".{file.name}.4194304.456")  # of a process that can't exist
        left.write_text("secret")
    TokenProvider(box.settings()).log_out()
    assert [f.name for f in store.file.parent.iterdir() if "secret" in f.read_text()] == []


def test_what_a_killed_refresher_left_goes_with_the_next_renewal() -> None:
    """What somebody is about to use stays: the room for the tokens of a login under way."""
    with Sandbox(quirks=Quirks(login_interval_s=0.05)) as box:
        store = Store(box.settings())

        def temporaries() -> list[str]:
            return sorted(f.name for f in store.file.parent.glob(".*"))

        def meanwhile(login: DeviceLogin) -> None:
            (room,) = temporaries()
            for file in (store.file, store.bare_file):
                left = file.with_name(f".{file.name}.4194304.456")  # of a process that can't exist
                left.write_text("secret")
            TokenProvider(box.settings()).refresh()
            assert temporaries() == [room]
            box.approve(login.user_code)

        TokenProvider(box.settings()).log_in(meanwhile)
        assert temporaries() == []
        assert TokenProvider(box.settings()).refresh()


def test_a_killed_refresher_between_store_and_bare_file_is_mended(box: Sandbox) -> None:
    """The bare file may be one token behind after a kill: the next to ask for it puts it right."""
    provider = TokenProvider(box.settings())
    provider.refresh()
    behind = provider.store.bare_file.read_text()
    tokens = replace(TokenSet(**box.tokens()), obtained_at=time.time())
    provider.store.write(tokens)
    provider.store.bare_file.write_text(behind)
    provider.ensure_valid(60.0)
    assert provider.store.bare_file.read_text().strip() == tokens.access_token


def test_a_bare_file_that_is_missing_is_made(box: Sandbox) -> None:
    """As in the sandbox's fresh store: `token print --file` promises a file."""
    provider = TokenProvider(box.settings())
    provider.store.bare_file.unlink(missing_ok=True)
    tokens = provider.ensure_valid(60.0)
    assert provider.store.bare_file.read_text().strip() == tokens.access_token


@pytest.mark.parametrize("meanwhile", ["refresh", "log_out"])
def test_mending_puts_no_older_token_back(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Between our look at the store and the mending another process renews, or logs out."""
    provider, other = TokenProvider(box.settings()), TokenProvider(box.settings())
    provider.refresh()
    real, done = provider.store.read, []

    def read() -> TokenSet | None:
        tokens = real()
        if not done:
            done.append(True)
            getattr(other, meanwhile)()
        return tokens

    monkeypatch.setattr(provider.store, "read", read)
    provider.ensure_valid(60.0)
    bare = provider.store.bare_file
    if meanwhile == "log_out":
        assert not bare.exists(), "no token is left behind after a logout"
    else:
        stored = real()
        assert stored is not None
        assert bare.read_text().strip() == stored.access_token
