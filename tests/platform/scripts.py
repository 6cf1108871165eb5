"""ctadata's console scripts in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(*words: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script by its name, as a shell finds it."""
    program = Path(sys.executable).parent / words[0]
    return subprocess.run(
        [program, *words[1:]], text=True, capture_output=True, check=False, timeout=240,
        env={**os.environ, **env}, input=stdin or "",
    )  # fmt: skip


def ok(*words: str, stdin: str | None = None, **env: str) -> str:
    """Run a script that must succeed, and give what it prints."""
    done = run(*words, stdin=stdin, **env)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def fails(code: int, *words: str, **env: str) -> str:
    """Run a script that must fail, and give what it says."""
    done = run(*words, **env)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith((f"{words[0]}: ", "Usage: ")), done.stderr
    return done.stderr
