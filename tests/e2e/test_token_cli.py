"""`ctaflows token` as a person uses it: real processes, a real issuer, a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
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
from shell import fails, ok, run

from ctaflows.auth.store import Store, TokenSet
from ctaflows.sandbox import Quirks, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    import signal

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
