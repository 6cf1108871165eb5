"""The machine and software of a run: versions, cores, load."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

_ASKED = {
    "curl": ["curl", "--version"],
    "davix": ["davix-get", "--version"],
    "rclone": ["rclone", "--version"],
    "aria2": ["aria2c", "--version"],
    "xrdcp": ["xrdcp", "--version"],
}
_LIBRARIES = ("ctaflows", "httpx", "pycurl", "zlib-ng", "webdav4")


def versions() -> dict[str, str]:
    """Return the versions of all programs and libraries, by name; those missing are "absent"."""
    return {
        **{name: _library(name) for name in _LIBRARIES},
        **{name: _program(words) for name, words in _ASKED.items()},
        "Python": platform.python_version(),
        "Debian": _debian(),
        "Linux": _number(platform.release()) or "unknown",
        "cores": str(len(os.sched_getaffinity(0))),
    }


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def _library(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _program(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        return "absent"
    return _number(done.stdout + done.stderr) or "unknown"


def _number(said: str) -> str | None:
    found = re.search(r"\d+(\.\d+)+", said)
    return found.group() if found else None


def _debian() -> str:
    file = Path("/etc/debian_version")
    return file.read_text().strip() if file.exists() else "absent"
