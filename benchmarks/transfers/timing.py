"""Time and memory of a command, and the order in which commands take turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_STOPWATCH = Path(__file__).with_name("stopwatch.py")


class Failed(Exception):
    """A command failed, or took too long."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Time and memory of one run.

    Attributes
    ----------
    wall_s : float
        Wall time from start to end.
    cpu_s : float
        User and system time, including child processes.
    peak_mb : float
        Maximum resident size of its largest process, MiB.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure(
    command: Sequence[str],
    *,
    env: dict[str, str],
    folder: Path,
    limit_s: float,
    exit_codes: Sequence[int] = (0,),
) -> tuple[Cost, Path]:
    """Run a command in a new session.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    env : dict
        Its complete environment.
    folder : Path
        Working directory, also for the files with its output.
    limit_s : float
        Seconds after which it is killed.
    exit_codes : sequence of int
        Exit codes that are not taken for a failure.

    Returns
    -------
    Cost, Path
        Time and memory, and the file with its output.

    Raises
    ------
    Failed
        It ended with another exit code, or was killed.
    """
    out, err = folder / "stdout", folder / "stderr"
    words = [sys.executable, "-I", "-S", str(_STOPWATCH), str(out), str(err), *command]
    with subprocess.Popen(
        words, env=env, cwd=folder, stdout=subprocess.PIPE, start_new_session=True
    ) as watch:
        try:
            told, _ = watch.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"not finished after {limit_s:g} s") from None
        finally:
            if watch.poll() is None:
                os.killpg(watch.pid, signal.SIGKILL)
    if watch.returncode:
        raise Failed("it can't be started")
    said = json.loads(told)
    code = said.pop("exit_code")
    if code not in exit_codes:
        raise Failed(_last_line(err) or _last_line(out) or f"it ended with {code}")
    return Cost(**said), out


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(
        median(c.wall_s for c in costs),
        median(c.cpu_s for c in costs),
        median(c.peak_mb for c in costs),
    )


def turns(contestants: Sequence[T], repeat: int) -> list[T]:
    """Return the order within a repetition: each time another one is first."""
    first = repeat % len(contestants) if contestants else 0
    return [*contestants[first:], *contestants[:first]]
