"""ctadata's console scripts: in this process, and in processes where it is about these."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import commands

run = commands.script


def ok(*words: str, **env: str) -> str:
    """Run a script that must succeed, and give what it prints."""
    return commands.succeeded(run(*words, **env))


def fails(code: int, *words: str, **env: str) -> str:
    """Run a script that must fail, and give what it says."""
    return commands.failed(code, run(*words, **env))


def alone(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script by its name in a process of its own, as a shell finds it."""
    program = Path(sys.executable).parent / words[0]
    done = subprocess.run(
        [program, *words[1:]], text=True, capture_output=True, check=False, timeout=240,
        env={**os.environ, **env}, input=stdin,
    )  # fmt: skip
    done.args = list(words)
    return done
