"""`ctaflows token` as a person uses it: real processes, a real issuer, a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import resource
import signal
import stat
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import fails, ok, run

from ctaflows.auth.store import Store, TokenSet
from ctaflows.sandbox import Quirks, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Held

CODE = re.compile(r"type the code\s+(?:\x1b\[1m\s*)?([A-Z0-9-]{4,})\s")
BLOCKS = "▀▄█"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """Nobody has logged in yet, and polls come quickly."""
    with Sandbox(quirks=Quirks(login_interval_s=0.2)) as sandbox:
        Store(sandbox.settings()).remove()
        yield sandbox


@pytest.fixture
def logged_in(box: Sandbox, here: Path) -> TokenSet:
    tokens = TokenSet(**box.tokens())
    Store(box.settings()).write(tokens)
    return tokens


def stored(box: Sandbox) -> TokenSet:
    tokens = Store(box.settings()).read()
    assert tokens is not None
    return tokens


@dataclass
class Done:
    code: int
    stdout: str
    stderr: str
    command_lines: set[bytes]


def log_in(
    decide: Callable[[str], object], *words: str, terminal: tuple[int, int] | None = None
) -> Done:
    """Run a login, let somebody decide on the code that is shown, and watch the command line."""
    master, slave = pty.openpty() if terminal else (-1, -1)
    if terminal:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *terminal, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "ctaflows", *(words or ("token", "login"))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave if terminal else subprocess.PIPE,
    )
    if terminal:
        os.close(slave)
    source = master if terminal else process.stderr.fileno()  # type: ignore[union-attr]
    said, command_lines = bytearray(), set()

    def watch() -> None:
        is_decided = False
        while True:
            try:
                block = os.read(source, 65536)
            except OSError:  # EIO: a terminal without a process
                break
            if not block:
                break
            said.extend(block)
            found = CODE.search(said.decode("utf-8", "ignore"))
            if found and not is_decided:
                is_decided = True
                command_lines.add(Path(f"/proc/{process.pid}/cmdline").read_bytes())
                decide(found[1])

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stdout is not None
    stdout = process.stdout.read().decode()
    code = process.wait(60)
    watcher.join(10)
    if terminal:
        os.close(master)
    elif process.stderr:
        process.stderr.close()
    process.stdout.close()
    return Done(code, stdout, said.decode(), command_lines)


# -- login -----------------------------------------------------------------------------------------


def test_login_without_a_terminal(box: Sandbox, here: Path) -> None:
    done = log_in(box.approve)
    assert done.code == 0, done.stderr
    assert f"{box.issuer_url}/device" in done.stderr
    assert not set(BLOCKS) & set(done.stderr), "no picture in a log file"
    assert "\x1b" not in done.stderr
    assert "sandbox-user" in done.stdout
    assert "Waiting" not in done.stdout
    tokens = stored(box)
    for text in (done.stdout, done.stderr):
        assert tokens.access_token not in text
        assert str(tokens.refresh_token) not in text
    assert done.command_lines
    assert not [line for line in done.command_lines if box.client_secret.encode() in line]
    assert ok("ls", "/") == ""


def test_login_at_a_terminal_shows_a_picture(box: Sandbox, here: Path) -> None:
    done = log_in(box.approve, terminal=(60, 120))
    assert done.code == 0, done.stderr
    assert set(BLOCKS) & set(done.stderr), "a QR code"
    assert "sandbox-user" in done.stdout
    assert stored(box)


@pytest.mark.parametrize("size", [(60, 20), (12, 120), (0, 0)], ids=["narrow", "low", "unknown"])
def test_a_terminal_without_room_gets_no_picture(
    box: Sandbox, here: Path, size: tuple[int, int]
) -> None:
    done = log_in(box.approve, terminal=size)
    assert done.code == 0, done.stderr
    assert not set(BLOCKS) & set(done.stderr)
    assert f"{box.issuer_url}/device" in done.stderr


@pytest.fixture
def secretless(box: Sandbox, here: Path) -> str:
    """The settings name no secret; give it."""
    config = box.config_dir / "config.toml"
    lines = [
        line for line in config.read_text().splitlines() if not line.startswith("client_secret")
    ]
    config.write_text("\n".join(lines) + "\n")
    (box.config_dir / "client_secret").unlink()
    return box.client_secret


def test_a_secret_from_a_file_is_kept(box: Sandbox, secretless: str, tmp_path: Path) -> None:
    assert "secret" in fails(5, "token", "login")
    file = tmp_path / "my secret"
    file.write_text(secretless + "\n")
    done = log_in(box.approve, "token", "login", "--secret-file", str(file))
    assert done.code == 0, done.stderr
    assert done.command_lines
    assert not [line for line in done.command_lines if secretless.encode() in line]
    file.unlink()
    kept = box.config_dir / "tokens/sandbox.secret"
    assert kept.read_text().strip() == secretless
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    ok("token", "refresh")
    ok("token", "logout")
    assert not kept.exists()


def test_a_secret_file_that_is_not_there(box: Sandbox, here: Path) -> None:
    done = run("token", "login", "--secret-file", "nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert not list(box.requests)


def test_a_secret_file_that_is_no_text(box: Sandbox, here: Path) -> None:
    Path("odd").write_bytes(b"\xff\xfe\x00")
    assert "odd" in fails(2, "token", "login", "--secret-file", "odd")


def test_a_secret_is_asked_for_at_a_terminal_and_not_shown(box: Sandbox, secretless: str) -> None:
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "ctaflows", "token", "login"])
    said, step = bytearray(), 0
    ends_at = time.monotonic() + 120
    while time.monotonic() < ends_at:
        try:
            block = os.read(master, 65536)
        except OSError:
            break
        if not block:
            break
        said.extend(block)
        text = said.decode("utf-8", "ignore")
        if step == 0 and "Secret of the client" in text:
            step = 1
            flags = termios.tcgetattr(master)[3]
            while flags & termios.ECHO and time.monotonic() < ends_at:
                flags = termios.tcgetattr(master)[3]
            os.write(master, secretless.encode() + b"\n")
        found = CODE.search(text)
        if step == 1 and found:
            step = 2
            box.approve(found[1])
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 0, said.decode()
    assert step == 2
    assert secretless.encode() not in said
    assert (box.config_dir / "tokens/sandbox.secret").read_text().strip() == secretless


def test_a_wrong_secret(box: Sandbox, here: Path) -> None:
    said = fails(5, "token", "login", CTAFLOWS_CLIENT_SECRET="wrong")
    assert "invalid_client" in said
    assert "Check CTAFLOWS_CLIENT_ID" in said


def test_a_person_says_no(box: Sandbox, here: Path) -> None:
    done = log_in(box.deny_login)
    assert done.code == 5
    assert "refused in the browser" in done.stderr
    assert not (box.config_dir / "tokens/sandbox.json").exists()


def test_nobody_comes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(quirks=Quirks(login_interval_s=0.2, login_lifetime_s=1)) as box:
        monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(box.config_dir))
        before = stored(box)
        done = log_in(lambda _: None)
        assert done.code == 5
        assert "in time" in done.stderr
        assert "Begin again" in done.stderr
        assert stored(box) == before, "an old login stays"


def test_ctrl_c_ends_a_login(box: Sandbox, here: Path) -> None:
    processes: list[int] = []

    def stop(_: str) -> None:
        for child in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            processes.extend(int(pid) for pid in child.read_text().split())
        for pid in processes:
            if b"token\0login" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGINT)

    done = log_in(stop)
    assert done.code == 130
    assert "Traceback" not in done.stderr


def test_an_issuer_that_is_away(box: Sandbox, here: Path) -> None:
    box.faults.add("reset", server="issuer", times=None)
    assert "Traceback" not in fails(9, "token", "login")
    box.faults.clear()
    box.faults.add("503", server="issuer", times=None)
    fails(8, "token", "login")


# -- nothing is lost -------------------------------------------------------------------------------


@contextlib.contextmanager
def begun(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that may be sent signals, whoever ignores which of them around us."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ctaflows", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGINT],
        [signal.SIGTERM, signal.SIGTERM],  # as coreutils' timeout sends them
        [signal.SIGHUP, signal.SIGHUP],  # the kernel, then the shell
    ],
    ids=["Ctrl-C", "timeout", "hangup"],
)
def test_a_signal_while_the_login_is_renewed_does_not_lose_it(
    box: Sandbox, logged_in: TokenSet, held: Held, signals: list[signal.Signals]
) -> None:
    with begun("token", "refresh") as process:
        assert held.made.wait(60)
        for number in signals:
            process.send_signal(number)
        assert process.stderr is not None
        assert "Waiting for the tokens" in process.stderr.readline()
        held.sent.set()
        assert process.wait(20) == 130
        assert "stopped; what is done is kept" in process.stderr.read()
    assert stored(box).refresh_token != logged_in.refresh_token
    ok("token", "refresh")


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_nor_does_a_second_signal(
    box: Sandbox, logged_in: TokenSet, held: Held, second: signal.Signals
) -> None:
    with begun("token", "refresh") as process:
        assert held.made.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "Waiting for the tokens" in process.stderr.readline()
        process.send_signal(second)
        assert "New tokens are on their way" in process.stderr.readline()
        held.sent.set()
        assert process.wait(20) == 130
    ok("token", "refresh")


def test_a_signal_while_an_approved_login_comes_does_not_lose_it(
    box: Sandbox, here: Path, held: Held
) -> None:
    with begun("token", "login") as process:
        assert process.stderr is not None
        said = ""
        while not (found := CODE.search(said)):
            said += process.stderr.readline()
        box.approve(found[1])
        assert held.made.wait(60)
        process.send_signal(signal.SIGINT)
        while "Waiting for the tokens" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        held.sent.set()
        assert process.wait(20) == 130
    ok("token", "refresh")


ENDS = ["", "from ctaflows.cli import app; app._used = 'ls'; app._leave(0)"]


@pytest.mark.parametrize("end", ENDS, ids=["library", "command"])
def test_a_process_that_ends_while_another_thread_renews_does_not_lose_the_login(
    box: Sandbox, logged_in: TokenSet, held: Held, end: str
) -> None:
    lines = [
        "import sys, threading",
        "from ctaflows import settings",
        "from ctaflows.auth.renewal import TokenProvider",
        "provider = TokenProvider(settings.load())",
        "threading.Thread(target=provider.refresh, daemon=True).start()",
        "sys.stdin.read()",
        end,
    ]
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdin=subprocess.PIPE
    ) as process:
        assert held.made.wait(60)
        assert process.stdin is not None
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        held.sent.set()
        assert process.wait(20) == 0
    assert stored(box).refresh_token != logged_in.refresh_token
    ok("token", "refresh")


def without_room(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `ctaflows` where no file can become larger than a few bytes."""
    return subprocess.run(
        [sys.executable, "-m", "ctaflows", *words],
        text=True, capture_output=True, check=False, timeout=20, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400)),
    )  # fmt: skip


def tokens_folder(box: Sandbox) -> dict[str, str]:
    folder = box.config_dir / "tokens"
    return {f.name: f.read_text() for f in folder.iterdir() if f.suffix != ".lock"}


def test_a_full_home_uses_no_login_up(box: Sandbox, logged_in: TokenSet) -> None:
    aged = replace(logged_in, obtained_at=time.time() - 3590)
    Store(box.settings()).write(aged)
    before = tokens_folder(box)
    done = without_room("token", "print")
    assert (done.returncode, done.stdout) == (0, aged.access_token + "\n"), "it still holds"
    assert "the issuer was not asked" in done.stderr
    done = without_room("token", "refresh")
    assert done.returncode == 8
    assert "the issuer was not asked" in done.stderr
    assert "Make room" in done.stderr
    assert "File too large" in done.stderr
    assert tokens_folder(box) == before, "nothing is changed, nothing is left"
    assert not list(box.requests)
    ok("token", "refresh")


def test_a_full_home_bothers_nobody_with_a_login(box: Sandbox, here: Path) -> None:
    done = without_room("token", "login")
    assert done.returncode == 8
    assert "the issuer was not asked" in done.stderr
    assert not tokens_folder(box)
    assert not list(box.requests)


def test_a_login_goes_to_no_other_issuer(box: Sandbox, logged_in: TokenSet) -> None:
    with Sandbox() as other:
        elsewhere = {
            "CTAFLOWS_ISSUER_URL": other.issuer_url,
            "CTAFLOWS_CA_FILE": str(other.ca_file),
        }
        said = fails(5, "token", "refresh", **elsewhere)
        assert box.issuer_url in said
        assert other.issuer_url in said
        assert "Mend CTAFLOWS_ISSUER_URL" in said
        assert stored(box) == logged_in, "nothing is noted"
        assert "the issuer could not be told" in ok("token", "logout", **elsewhere)
        assert not list(other.requests)
    assert not list(box.requests)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "watch-night", "--date", "20241114", "--dest", "n", "--polls", "1"],
        ["rm", "-f", "/cta/x.txt"],
        ["night", "20241114"],
        ["stat", "/cta/x.txt"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_an_issuer_that_is_not_found_says_nothing_of_files(
    box: Sandbox, logged_in: TokenSet, issuer_says: Callable[..., None], words: list[str]
) -> None:
    box.put("/cta/x.txt", b"x")
    Store(box.settings()).write(replace(logged_in, obtained_at=time.time() - 4000))
    issuer_says(404)
    done = run(*words)
    assert done.returncode == 5, done.stderr
    assert f"The issuer {box.issuer_url}" in done.stderr
    assert "Check CTAFLOWS_ISSUER_URL" in done.stderr
    assert "not there" not in done.stdout + done.stderr
    assert {r.server for r in box.requests} == {"issuer"}


# -- status, print, refresh, logout ----------------------------------------------------------------


def test_status(box: Sandbox, logged_in: TokenSet) -> None:
    said = ok("token", "status")
    assert "sandbox-user" in said
    assert logged_in.access_token not in said
    record = json.loads(ok("token", "status", "--json"))
    assert record["subject"] == "sandbox-user"
    assert record["issuer"] == box.issuer_url
    assert record["source"] == str(box.config_dir / "tokens/sandbox.json")
    assert record["scopes"] == ["openid", "offline_access"]
    assert record["refreshable"] is True
    assert 3500 < record["expires_in_s"] <= 3600
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\S*Z", record["expires_at"])
    assert not list(box.requests), "nobody is asked"


@pytest.mark.parametrize(
    "words", [["status"], ["status", "--json"], ["print"], ["print", "--file"], ["refresh"],
              ["refresh", "--json"], ["logout"]],
)  # fmt: skip
def test_without_a_login(box: Sandbox, here: Path, words: list[str]) -> None:
    said = fails(5, "token", *words)
    assert "no token for profile “sandbox”" in said
    assert "ctaflows token login" in said


def test_print(box: Sandbox, logged_in: TokenSet) -> None:
    done = run("token", "print")
    assert (done.returncode, done.stdout, done.stderr) == (0, logged_in.access_token + "\n", "")
    Store(box.settings()).write(replace(logged_in, obtained_at=time.time() - 4000))
    newer = ok("token", "print").strip()
    assert newer == stored(box).access_token != logged_in.access_token


def test_print_of_a_token_that_can_not_be_renewed(box: Sandbox, logged_in: TokenSet) -> None:
    Store(box.settings()).write(replace(logged_in, obtained_at=time.time() - 4000))
    box.revoke(logged_in.refresh_token or "")
    for _ in range(2):
        said = fails(5, "token", "print")
        assert "will not renew" in said
        assert "ctaflows token login" in said
    assert sum(r.path.endswith("/token") for r in box.requests) == 1
    assert json.loads(ok("token", "status", "--json"))["refreshable"] is False


def test_print_file_for_other_tools(box: Sandbox, logged_in: TokenSet) -> None:
    box.put("/a/b.h5", b"x")
    file = Path(ok("token", "print", "--file").strip())
    assert file.read_text() == logged_in.access_token + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ctaflows = f"{sys.executable} -m ctaflows"
    done = subprocess.run(
        f"export BEARER_TOKEN_FILE=$({ctaflows} token print --file) "
        f"CTAFLOWS_TOKEN_SOURCE=environment; {ctaflows} token status --json && {ctaflows} ls a",
        shell=True, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nb.h5\n")
    assert json.loads(done.stdout.removesuffix("b.h5\n"))["source"] == str(file)


def test_print_file_of_an_expired_token_is_of_a_new_one(box: Sandbox, logged_in: TokenSet) -> None:
    Store(box.settings()).write(replace(logged_in, obtained_at=time.time() - 4000))
    file = Path(ok("token", "print", "--file").strip())
    assert file.read_text().strip() == stored(box).access_token != logged_in.access_token


def test_print_file_where_the_file_is_gone(box: Sandbox, logged_in: TokenSet) -> None:
    Store(box.settings()).bare_file.unlink()
    file = Path(ok("token", "print", "--file").strip())
    assert file.read_text().strip() == logged_in.access_token


def test_refresh(box: Sandbox, logged_in: TokenSet) -> None:
    record = json.loads(ok("token", "refresh", "--json"))
    first = stored(box)
    assert record["subject"] == "sandbox-user"
    assert first.access_token != logged_in.access_token
    assert first.refresh_token != logged_in.refresh_token
    assert "sandbox-user" in ok("token", "refresh")
    assert stored(box).access_token != first.access_token


@pytest.mark.parametrize(("fault", "code"), [("html", 8), ("reset", 9)])
def test_refresh_while_the_issuer_is_away(
    box: Sandbox, logged_in: TokenSet, fault: str, code: int
) -> None:
    box.faults.add(fault, server="issuer", times=None)
    fails(code, "token", "refresh")
    assert stored(box) == logged_in
    assert ok("token", "print").strip() == logged_in.access_token
    assert ok("ls", "/") == ""


def test_logout(box: Sandbox, logged_in: TokenSet) -> None:
    assert "at the issuer" in ok("token", "logout")
    assert box._tokens.hand_in(logged_in.refresh_token or "") is None
    fails(5, "token", "status")
    fails(5, "ls", "/")
    left = {p.name for p in (box.config_dir / "tokens").iterdir()}
    assert left <= {"sandbox.lock"}


def test_logout_while_the_issuer_is_away(box: Sandbox, logged_in: TokenSet) -> None:
    box.faults.add("503", server="issuer", times=None)
    assert "the issuer could not be told" in ok("token", "logout")
    fails(5, "token", "status")


@pytest.mark.parametrize("words", [["login"], ["logout"]])
def test_an_unknown_profile(box: Sandbox, here: Path, words: list[str]) -> None:
    assert "no profile “nowhere”" in fails(2, "token", *words, "--profile", "nowhere")


@pytest.mark.parametrize("words", [["print"], ["print", "--file"], ["status", "--json"]])
def test_a_failure_prints_nothing_that_could_be_taken_for_a_token(
    box: Sandbox, here: Path, words: list[str]
) -> None:
    done = run("token", *words)
    assert (done.returncode, done.stdout) == (5, "")
