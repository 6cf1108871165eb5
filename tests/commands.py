"""Runs commands within the test's process, which is faster than a process of each.

A command begins as it would in a process of its own: with no connections, nothing remembered, and
no terminal. Tests of signals, memory, streams, the environment at the start or of what is imported
start a process instead (`shell`, `scripts`).
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

from ctaflows import block_profiles
from ctaflows.auth import prefect_blocks
from ctaflows.cli import app, console
from ctaflows.storage import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click


@dataclass(frozen=True)
class Done:
    """The result of a command: its exit code and output."""

    code: int
    out: str
    err: str


def ctaflows(*words: str, **env: str) -> Done:
    """Run a command, without a terminal."""
    done = run(*words, **env)
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `ctaflows`."""
    return script("ctaflows", *words, **env)


def script(name: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a console script by its name; `env` is added to the environment."""
    out, err = _stream(), _stream()
    with (
        _begun_anew(),
        mock.patch.dict("os.environ", env),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO())),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = app.exit_code(_command(name), name, list(words))
    return subprocess.CompletedProcess([name, *words], code, _text(out), _text(err))


def ok(*words: str, **env: str) -> str:
    """Run a command that must succeed, and return its output."""
    return succeeded(run(*words, **env))


def fails(code: int, *words: str, **env: str) -> str:
    """Run a command that must fail, and return its error output."""
    return failed(code, run(*words, **env))


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a command that must have succeeded."""
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def failed(code: int, done: subprocess.CompletedProcess[str]) -> str:
    """Return the error output of a command that must have failed."""
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith((f"{done.args[0]}: ", "Usage: ")), done.stderr
    return done.stderr


def _command(name: str) -> click.Command:
    """Return the command behind a console script."""
    if name == "ctaflows":
        return app.cli
    from ctaflows.cli import ctadata

    mains = {
        "ctadata": ctadata.ctadata_main,
        "cta-data": ctadata.cta_data_main,
        "cta-data-direct": ctadata.main,
    }
    # these put their subcommands together when they begin
    with mock.patch.object(app, "run") as begun:
        mains[name]()
    command: click.Command = begun.call_args.args[0]
    assert begun.call_args.args[1] == name
    return command


@contextlib.contextmanager
def _begun_anew() -> Iterator[None]:
    """Isolate a command from connections and cached state of those before and after it."""
    with contextlib.ExitStack() as until_the_end:
        for known in (
            connect._storages,
            block_profiles._known,
            prefect_blocks._known,
        ):
            until_the_end.enter_context(mock.patch.dict(known, clear=True))
        until_the_end.callback(_close_doors)
        until_the_end.enter_context(mock.patch.object(console, "verbosity", 0))
        yield


def _close_doors() -> None:
    for _, door in connect._storages.values():
        door.close()


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True
    )


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
