"""Runs `ctaflows` as a process, and measures its duration and memory."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """The result of a command.

    Attributes
    ----------
    code : int
        Exit code, negative for a signal.
    out, err : str
        What it said.
    peak_mb : float
        The most memory it held, MB.
    """

    code: int
    out: str
    err: str
    peak_mb: float


def run(*words: str, limit_s: float = 120, **env: str) -> Run:
    """Run a command; one that does not end within the limit is killed, and has failed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ctaflows", *words], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env},
    )  # fmt: skip
    said: dict[str, bytes] = {}
    readers = [
        threading.Thread(target=lambda n=name, s=stream: said.update({n: s.read()}))
        for name, stream in (("out", process.stdout), ("err", process.stderr))
    ]
    for thread in readers:
        thread.start()
    deadline, peak_mb = time.monotonic() + limit_s, 0.0
    while process.poll() is None and time.monotonic() < deadline:
        peak_mb = max(peak_mb, _peak_mb(process.pid))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    has_ended = process.poll() is not None
    process.kill()
    for thread in readers:
        thread.join()
    process.communicate()
    out, err = (said[name].decode(errors="replace") for name in ("out", "err"))
    assert has_ended, f"no end within {limit_s} s: {out[-2000:]} {err[-2000:]}"
    assert "Traceback" not in err, err
    return Run(process.returncode, out, err, peak_mb)


def _peak_mb(pid: int) -> float:
    """Return the peak memory in MB; that of `wait4` would include the parent process."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0
