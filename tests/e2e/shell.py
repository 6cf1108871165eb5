"""Runs `ctaflows` as a process, for tests that need one; others use `commands`."""

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
    """Run a command that must succeed, and return its output."""
    return succeeded(run(*words, **env))


def fails(code: int, *words: str, **env: str) -> str:
    """Run a command that must fail, and return its error output."""
    return failed(code, run(*words, **env))
