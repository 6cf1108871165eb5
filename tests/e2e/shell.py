"""`ctaflows` in processes of its own, as a person or a script runs it."""

from __future__ import annotations

import os
import subprocess
import sys


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `ctaflows` without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "ctaflows", *words], text=True, capture_output=True, check=False,
        env={**os.environ, **env}, timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def ok(*words: str, **env: str) -> str:
    """Run a command that must succeed, and give what it prints."""
    done = run(*words, **env)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def fails(code: int, *words: str, **env: str) -> str:
    """Run a command that must fail, and give what it says."""
    done = run(*words, **env)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(("ctaflows: ", "Usage: ")), done.stderr
    return done.stderr
