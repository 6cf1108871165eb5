"""`ctaflows` in processes of its own, where it is about processes; else see `commands`."""

from __future__ import annotations

import os
import subprocess
import sys

from commands import failed, succeeded


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `ctaflows` without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", *words], text=True, capture_output=True, check=False,
        env={**os.environ, **env}, timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    done.args = ["ctaflows", *words]
    return done


def ok(*words: str, **env: str) -> str:
    """Run a command that must succeed, and give what it prints."""
    return succeeded(run(*words, **env))


def fails(code: int, *words: str, **env: str) -> str:
    """Run a command that must fail, and give what it says."""
    return failed(code, run(*words, **env))
