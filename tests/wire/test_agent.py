"""The agent: one process a profile, early, patient, and gone when it shall be gone.

What it does over the hours is looked at in this process, on a clock that its pauses put forward.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import ok, run

from ctaflows.atomic_files import write_private
from ctaflows.auth import agent
from ctaflows.auth.renewal import TokenProvider
from ctaflows.auth.store import Store, TokenSet
from ctaflows.auth.tokens import claims
from ctaflows.errors import AuthError, TokenMissing
from ctaflows.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def status() -> dict[str, Any]:
    done = run("agent", "status", "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["state"] == "ok" else 1)
    return found


def becomes(what: Callable[[], object], seconds: float = 20.0) -> bool:
    ends_at = time.monotonic() + seconds
    while not what():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.02)
    return True


def agents_of(box: Sandbox) -> list[int]:
    """Look for agents of this box among all processes."""
    mark = f"CTAFLOWS_CONFIG_DIR={box.config_dir}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes()
            is_ours = b"ctaflows.auth.agent" in command
            if is_ours and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def made(monkeypatch: pytest.MonkeyPatch, lifetime_s: float) -> Iterator[Sandbox]:
    with Sandbox(token_lifetime_s=lifetime_s) as box:
        monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(box.config_dir))
        monkeypatch.setenv("CTAFLOWS_BACKOFF_S", "0.01")
        monkeypatch.setenv("CTAFLOWS_BUSY_S", "0.05")
        monkeypatch.setenv("CTAFLOWS_STALL_TIMEOUT_S", "0.5")
        try:
            yield box
        finally:
            box.faults.clear()
            for pid in agents_of(box):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    yield from made(monkeypatch, 3600)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    yield from made(monkeypatch, 3)


class Hours(threading.Event):
    """The hours of an agent in this process: its pauses take no time, and in each a story goes on.

    When the story ends the agent is stopped.
    """

    def __init__(self, story: Iterator[None], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._story, self._ahead_s, self._n_pauses = story, 0.0, 0
        for name in ("time", "monotonic"):
            clock = getattr(time, name)
            monkeypatch.setattr(time, name, lambda clock=clock: clock() + self._ahead_s)

    def wait(self, timeout: float | None = None) -> bool:
        self._ahead_s += timeout or 0.0
        self._n_pauses += 1
        assert self._n_pauses < 50_000, "the story does not go on"
        if next(self._story, self) is self:
            self.set()
        return self.is_set()


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Let an agent live through a story; say whether it ended before the story did."""

    def lived(box: Sandbox, story: Iterator[None], **changes: Any) -> bool:
        agent.Files(box.settings()).lock.touch()
        with monkeypatch.context() as patch:
            hours = Hours(story, patch)
            agent.Agent(box.settings(**changes), hours).run()
        return not hours.is_set()

    return lived


def told(box: Sandbox, what: str) -> Any:
    """What an agent has said of itself."""
    return agent.Files(box.settings()).read().get(what)


def in_process(box: Sandbox, name: str) -> Any:
    """Call the daemon's functions here: a process for each question takes half a second."""
    return getattr(agent, name)(box.settings())


def test_from_start_to_stop(box: Sandbox) -> None:
    assert status()["state"] == "stopped"
    said = ok("start-agent")
    pids = agents_of(box)
    assert len(pids) == 1
    assert f"process {pids[0]} on" in said
    found = status()
    assert (found["running"], found["pid"], found["state"]) == (True, pids[0], "ok")
    assert found["message"] is None
    assert abs(found["started_at"] - time.time()) < 30
    assert f"process {pids[0]} " in ok("agent", "status")
    assert f"process {pids[0]} on" in ok("start-agent"), "there is one already"
    assert agents_of(box) == pids
    assert "Stopped" in ok("stop-agent")
    assert becomes(lambda: not agents_of(box), 30)
    assert status()["state"] == "stopped"
    assert "no agent" in ok("stop-agent")
    left = sorted(p.name for p in (box.config_dir / "tokens").iterdir())
    assert "sandbox.agent.json" not in left
    assert "sandbox.agent.stop" not in left


def test_two_started_at_once_are_one(box: Sandbox) -> None:
    starts = [
        subprocess.Popen(
            [sys.executable, "-m", "ctaflows", "start-agent"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = {process.communicate(timeout=240)[0] for process in starts}
    assert [process.returncode for process in starts] == [0, 0, 0]
    assert becomes(lambda: len(agents_of(box)) == 1), "the others end"
    assert len(said) == 1
    assert f"process {agents_of(box)[0]} on" in said.pop()
    assert in_process(box, "status").pid == agents_of(box)[0]
    assert in_process(box, "stop")


@pytest.mark.parametrize("lifetime_s", [3, 60, 3600])
def test_the_token_never_runs_out(
    monkeypatch: pytest.MonkeyPatch, live: Callable[..., bool], lifetime_s: float
) -> None:
    with contextlib.contextmanager(made)(monkeypatch, lifetime_s) as box:
        bare, tokens = Store(box.settings()).bare_file, set()

        def story() -> Iterator[None]:
            ends_at = time.time() + 3 * lifetime_s
            while time.time() < ends_at:
                token = bare.read_text().strip()
                tokens.add(token)
                # exp is a whole second: a life of 3 s is one of 2 to 3
                assert claims(token)["exp"] > time.time()
                yield

        TokenProvider(box.settings()).refresh()
        assert not live(box, story())
        assert len(tokens) >= 3
        grants = [r.status for r in box.requests if r.path.endswith("/token")]
        assert grants == [200] * len(grants)
        assert len(grants) < 9, "but it does not ask all the time"


@pytest.mark.parametrize("fault", ["503", "reset", "hang", "html"])
def test_the_agent_survives_an_issuer_in_trouble(
    short: Sandbox, live: Callable[..., bool], fault: str
) -> None:
    store = Store(short.settings())

    def story() -> Iterator[None]:
        details = {"hang_s": 0.5} if fault == "hang" else {}
        short.faults.add(fault, server="issuer", times=None, **details)
        while told(short, "state") != "failing":
            yield
        assert told(short, "message")
        yield
        short.faults.clear()
        while told(short, "state") != "ok":
            yield
        assert told(short, "message") is None
        assert (store.read() or TokenSet("")).remaining_s() > 0

    TokenProvider(short.settings()).refresh()
    assert not live(short, story(), stall_timeout_s=0.2, attempts=2)


def test_sigterm_ends_it(box: Sandbox) -> None:
    pid = in_process(box, "start").pid
    os.kill(pid, signal.SIGTERM)
    assert becomes(lambda: not agents_of(box), 30)
    assert status()["state"] == "stopped"


def test_sighup_does_not(box: Sandbox) -> None:
    """The terminal it was started from is closed."""
    pid = in_process(box, "start").pid
    (ignored,) = re.findall(r"SigIgn:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert int(ignored, 16) & 1 << signal.SIGHUP - 1
    os.kill(pid, signal.SIGHUP)
    assert agents_of(box) == [pid]
    assert in_process(box, "stop")


def test_after_a_kill_it_starts_again(box: Sandbox) -> None:
    pid = in_process(box, "start").pid
    os.kill(pid, signal.SIGKILL)
    assert becomes(lambda: not agents_of(box), 30)
    found = status()
    assert (found["running"], found["state"], found["pid"]) == (False, "stopped", None)
    said = ok("start-agent")
    pids = agents_of(box)
    assert len(pids) == 1
    assert pids != [pid]
    assert f"process {pids[0]} on" in said, "not the one that is dead"
    assert in_process(box, "status").pid == pids[0]
    assert ok("stop-agent")
    assert becomes(lambda: not agents_of(box), 30)


def test_nobody_else_is_killed_for_a_dead_agent(box: Sandbox) -> None:
    """The state file of a killed agent names a number that another process has by now."""
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        pid = in_process(box, "start").pid
        files = agent.Files(box.settings())
        about = files.read()
        os.kill(pid, signal.SIGKILL)
        assert becomes(lambda: not agents_of(box), 30)
        write_private(files.state, json.dumps({**about, "pid": bystander.pid}))
        in_process(box, "start")
        in_process(box, "stop")
        assert bystander.poll() is None
        assert becomes(lambda: not agents_of(box), 30)
    finally:
        bystander.kill()
        bystander.wait()


def test_logout_ends_it(box: Sandbox) -> None:
    in_process(box, "start")
    assert "Logged out" in ok("token", "logout")
    assert becomes(lambda: not agents_of(box), 30)


def test_a_login_that_ends_without_us_ends_the_agent(
    short: Sandbox, live: Callable[..., bool]
) -> None:
    """Another machine of the same home logs out: the store is gone."""

    def story() -> Iterator[None]:
        TokenProvider(short.settings()).log_out()
        while True:
            yield

    assert live(short, story())
    assert told(short, "state") is None


def test_a_folder_that_is_gone_ends_it(short: Sandbox, live: Callable[..., bool]) -> None:
    def story() -> Iterator[None]:
        (short.config_dir / "tokens").rename(short.config_dir / "other")
        while True:
            yield

    live(short, story())
    assert not (short.config_dir / "tokens").exists(), "it is not made again"


def test_a_refused_login_is_said_and_a_new_one_is_taken_up(
    short: Sandbox, live: Callable[..., bool]
) -> None:
    store = Store(short.settings())

    def story() -> Iterator[None]:
        with store.lock():
            short.revoke((store.read() or TokenSet("")).refresh_token or "")
        while told(short, "state") != "login needed":
            yield
        assert "will not renew" in told(short, "message")
        # as `token login` stores it
        with store.lock():
            store.write(TokenSet(**short.tokens()))
        while told(short, "state") != "ok":
            yield

    assert not live(short, story())


def test_a_login_of_another_issuer_is_said_and_nothing_sent(
    short: Sandbox, live: Callable[..., bool]
) -> None:
    store = Store(short.settings())

    def story() -> Iterator[None]:
        with store.lock():
            store.write(TokenSet(**short.tokens(), issuer="https://elsewhere", client_id="another"))
            short.requests.clear()
        while told(short, "state") != "failing":
            yield
        assert "belongs to https://elsewhere, client another" in told(short, "message")

    assert not live(short, story())
    with pytest.raises(AuthError, match="belongs to"):
        in_process(short, "start")
    assert agents_of(short) == []
    assert not list(short.requests)


def test_it_is_stopped_from_another_machine(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(box, "start")
    monkeypatch.setattr(agent.socket, "gethostname", lambda: "elsewhere")
    assert in_process(box, "stop") is True
    assert becomes(lambda: not agents_of(box), 30)


def test_without_a_login_there_is_nothing_to_keep(box: Sandbox) -> None:
    Store(box.settings()).remove()
    with pytest.raises(TokenMissing) as why:
        in_process(box, "start")
    assert "ctaflows token login" in (why.value.hint or "")
    assert becomes(lambda: not agents_of(box), 30)


def test_a_start_that_can_not_log_in_exits_with_5(box: Sandbox) -> None:
    Store(box.settings()).remove()
    (box.config_dir / "client_secret").write_text("wrong")
    done = run("start-agent")
    assert done.returncode == 5, done.stderr
    assert "secret" in done.stderr
    assert becomes(lambda: not agents_of(box), 30)


def test_modes_and_the_log(box: Sandbox) -> None:
    old = os.umask(0)
    try:
        found = in_process(box, "start")
        assert becomes(lambda: Path(found.log_file).exists())
        files = [p for p in box.config_dir.rglob("*agent*") if p.is_file()]
        assert len(files) >= 3
        assert {p.name: oct(p.stat().st_mode & 0o777) for p in files} == {
            p.name: "0o600" for p in files
        }
        assert in_process(box, "stop")
    finally:
        os.umask(old)
    log = Path(found.log_file).read_text()
    assert "started" in log
    assert "ended" in log
    tokens = Store(box.settings()).read()
    assert tokens is not None
    for secret in (tokens.access_token, tokens.refresh_token, box.client_secret):
        assert str(secret) not in log


def test_the_log_is_turned_over(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, with a small size."""
    import logging

    monkeypatch.setattr(agent, "_LOG_BYTES", 2000)
    monkeypatch.setattr(agent.signal, "signal", lambda *_: None)
    # an agent that fails and recovers writes two lines each time
    n = 0

    def once(_self: object) -> float:
        nonlocal n
        n += 1
        agent.log.info("line %d", n)
        if n > 200:
            raise TokenMissing("enough")
        return 0.0

    monkeypatch.setattr(agent.Agent, "_renew_if_due", once)
    ours = logging.getLogger("ctaflows")
    before, level = list(ours.handlers), ours.level
    umask = os.umask(0)
    try:
        monkeypatch.setattr(agent._settings, "load", lambda _: box.settings())
        assert agent.main("sandbox") == 0
    finally:
        os.umask(umask)
        for handler in [h for h in ours.handlers if h not in before]:
            ours.removeHandler(handler)
            handler.close()
        ours.setLevel(level)
    logs = sorted(box.config_dir.glob("agent-sandbox.log*"))
    assert [p.name for p in logs] == [f"agent-sandbox.log{end}" for end in ("", ".1", ".2")]
    assert all(p.stat().st_size <= 2000 for p in logs)
    assert all(p.stat().st_mode & 0o077 == 0 for p in logs)


@pytest.mark.parametrize(
    ("expires_in", "age_s", "expected"),
    [
        (3600, 0, 60.0),  # looks at least once a minute
        (3600, 3290, 10.1),  # 300 s before its end
        (3600, 3600, 0.5),
        (60, 0, 30.1),  # at half of its life
        (3, 0, 1.6),
        (3, 100, 0.5),
        (None, 0, 60.0),
    ],
)
def test_how_long_it_sleeps(expires_in: float | None, age_s: float, expected: float) -> None:
    tokens = TokenSet("x", expires_in=expires_in, obtained_at=1000.0)
    assert agent.sleep_s(tokens, 1000.0 + age_s) == pytest.approx(expected)


def test_an_agent_and_many_users(short: Sandbox) -> None:
    """The users find what the agent renewed: no refresh token is ever used twice."""
    in_process(short, "start")
    settings, stop = short.settings(), threading.Event()
    wrong: list[str] = []

    def use() -> None:
        while not stop.is_set():
            token = TokenProvider(settings).token()
            if short._tokens.refusal(token) == "Token is not valid":
                wrong.append(token)
            stop.wait(0.05)

    def grants() -> list[int]:
        asked = [r.status for r in short.requests if r.path.endswith("/token")]
        return [status for status in asked if status is not None]  # the last is under way

    users = [threading.Thread(target=use) for _ in range(4)]
    began, n_before = time.monotonic(), len(grants())
    for user in users:
        user.start()
    assert becomes(lambda: len(grants()) >= n_before + 2)
    assert time.monotonic() - began > 1, "no token is renewed before half of its life is over"
    stop.set()
    for user in users:
        user.join()
    assert set(grants()) == {200}
    assert wrong == []
    assert in_process(short, "stop")


def test_a_stop_that_is_asked_before_it_is_up(box: Sandbox) -> None:
    """What a killed `stop-agent` left must not end the next agent."""
    files = agent.Files(box.settings())
    write_private(files.stop_asked, "")
    pid = in_process(box, "start").pid
    assert not files.stop_asked.exists(), "removed before an agent could look for it"
    assert agents_of(box) == [pid]
    assert in_process(box, "stop")
