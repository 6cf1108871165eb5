"""The agent under ctadata's names: a login by a person, a process, and what is left of neither."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts import fails, ok, run

from ctaflows.auth import secret
from ctaflows.auth.store import Store, TokenSet
from ctaflows.sandbox import Quirks, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CODE = re.compile(r"the code ([A-Z0-9-]+)\n")


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """Nobody has logged in yet, and polls come quickly."""
    with Sandbox(quirks=Quirks(login_interval_s=0.2)) as sandbox:
        Store(sandbox.settings()).remove()
        yield sandbox


@pytest.fixture(autouse=True)
def no_agent_is_left(box: Sandbox, here: Path) -> Iterator[None]:
    yield
    run("cta-data", "stop-agent")


def log_in(decide: Callable[[str], object], *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Run a script, and let somebody decide on the code that it shows."""
    process = subprocess.Popen(
        [Path(sys.executable).parent / words[0], *words[1:]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(stdin)
    process.stdin.close()
    said = ""
    for line in process.stderr:
        said += line
        if found := CODE.search(line):
            decide(found[1])
    out = process.stdout.read()
    return process.wait(60), out, said


@pytest.mark.parametrize("script", ["cta-data", "cta-data-direct"])
def test_start_use_stop(script: str, box: Sandbox) -> None:
    code, out, said = log_in(box.approve, script, "start-agent")
    assert code == 0, said
    assert f"{box.issuer_url}/device" in said
    assert "agent runs" in out
    assert '"state": "ok"' in ok("ctaflows", "agent", "status", "--json")
    assert "agent runs" in ok(script, "start-agent"), "a second time nobody is asked"
    done = run("cta-data", "print-token")
    assert done.stdout.count(".") == 2
    assert done.stderr.startswith("valid till 20")
    assert ok("cta-data", "stop-agent") == "Stopped.\n"
    assert ok("cta-data", "stop-agent") == "There was no agent.\n"


def test_get_token(box: Sandbox) -> None:
    code, out, said = log_in(box.approve, "cta-data-direct", "get-token")
    assert (code, out) == (0, ""), said
    assert Store(box.settings()).read() is not None
    ok("cta-data-direct", "get-token")


def forget_secret(box: Sandbox) -> None:
    (box.config_dir / "client_secret").unlink()
    config = box.config_dir / "config.toml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "secret" not in line))


def test_the_secret_of_0_6_stands_on_the_command_line(box: Sandbox) -> None:
    forget_secret(box)
    words = ("cta-data-direct", "start-agent", "-s", box.client_secret)
    code, _, said = log_in(box.approve, *words)
    assert code == 0, said
    assert "can be seen by others" in said
    assert box.client_secret not in said
    kept = secret.kept_file(box.settings())
    assert kept.read_text() == box.client_secret
    assert kept.stat().st_mode & 0o077 == 0


def test_the_secret_of_0_7_is_asked_for(box: Sandbox) -> None:
    forget_secret(box)
    words = ("cta-data", "start-agent", "-s")
    code, _, said = log_in(box.approve, *words, stdin=f"{box.client_secret}\n")
    assert code == 0, said
    assert "Enter client secret" in said
    assert secret.kept_file(box.settings()).read_text() == box.client_secret


def test_no_secret(box: Sandbox) -> None:
    forget_secret(box)
    said = fails(5, "cta-data", "start-agent")
    assert "client" in said
    assert "-s" in said
    assert "Enter client secret" in run("cta-data", "start-agent", "-s").stderr
    assert run("cta-data", "start-agent", "-s").returncode == 2


def test_a_wrong_secret(box: Sandbox) -> None:
    forget_secret(box)
    assert "hunter2" not in fails_with(5, "cta-data-direct", "start-agent", "-s", "hunter2")


def fails_with(code: int, *words: str) -> str:
    done = run(*words)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_person_says_no(box: Sandbox) -> None:
    code, out, said = log_in(box.deny_login, "cta-data", "start-agent")
    assert code == 5
    assert out == ""
    assert "refused in the browser" in said


def test_no_token_to_print(box: Sandbox) -> None:
    assert "no token" in fails(5, "cta-data", "print-token")
    assert "no token" in fails(5, "cta-data-direct", "list", "/")


def test_the_development_instance_has_an_agent_of_its_own(box: Sandbox) -> None:
    config = box.config_dir / "config.toml"
    text = config.read_text()
    table = text.partition("[profiles.sandbox]")[2]
    config.write_text(f"{text}\n[profiles.cscs-dev]\n{table}")
    code, _, said = log_in(box.approve, "cta-data", "-d", "start-agent")
    assert code == 0, said
    assert (box.config_dir / "tokens/cscs-dev.json").exists()
    assert not (box.config_dir / "tokens/sandbox.json").exists()
    assert ok("cta-data", "--dev", "print-token").count(".") == 2
    assert ok("cta-data", "stop-agent") == "There was no agent.\n"
    assert ok("cta-data", "-d", "stop-agent") == "Stopped.\n"


def test_the_library_starts_it_too(box: Sandbox) -> None:
    Store(box.settings()).write(TokenSet(**box.tokens()))
    code = "from ctaflows import ctadata; ctadata.start_agent_daemon(); print('goes on')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "goes on\n", done.stderr
    assert ok("cta-data", "stop-agent") == "Stopped.\n"
