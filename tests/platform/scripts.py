"""Runs ctadata's console scripts, in the test's process or as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import commands

run = commands.script


def ok(*words: str, **env: str) -> str:
    """Run a script that must succeed, and return its output."""
    return commands.succeeded(run(*words, **env))


def fails(code: int, *words: str, **env: str) -> str:
    """Run a script that must fail, and return its error output."""
    return commands.failed(code, run(*words, **env))


def alone(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script by its name as a process, as a shell finds it."""
    program = Path(sys.executable).parent / words[0]
    done = subprocess.run(
        [program, *words[1:]], text=True, capture_output=True, check=False, timeout=240,
        env={**os.environ, **env}, input=stdin,
    )  # fmt: skip
    done.args = list(words)
    return done
