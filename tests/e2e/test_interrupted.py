"""Ctrl-C, SIGTERM and SIGKILL in the middle: an end within seconds, and the next run goes on."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from nights import make_night

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

RUN = ["run", "fetch-dl1", "--date", "20241114", "--json"]
GET = ["get", "-r", "cta/DL1/20241114", "there", "--json"]


def final_names(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.h5") if not p.name.startswith("."))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        pytest.param(number, words, id=f"{number.name}-{words[0]}", marks=marks)
        for number, words, marks in (
            (signal.SIGINT, RUN, ()),
            (signal.SIGTERM, RUN, pytest.mark.slow),
            (signal.SIGKILL, RUN, pytest.mark.slow),
            (signal.SIGINT, GET, pytest.mark.slow),
            (signal.SIGTERM, GET, ()),
            (signal.SIGKILL, GET, ()),
        )
    ],
)
def test_it_ends_and_goes_on(
    box: Sandbox, here: Path, number: signal.Signals, words: list[str]
) -> None:
    written = make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 2))
    box.faults.add("slow", times=None, server="pool", path="*Run11113*", rate_bytes_s=20_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "ctaflows", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    # a slow one's: those of the others may be whole before the signal is heard
    while not any(p.stat().st_size > 30_000 for p in here.rglob(".*Run11113*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.send_signal(number)
    code = process.wait(60)
    assert code == (-9 if number == signal.SIGKILL else 130)
    if number != signal.SIGKILL:
        assert process.stderr is not None
        assert b"stopped; what is done is kept" in process.stderr.read()
    process.stderr and process.stderr.close()
    sizes = {p.name: p.stat().st_size for p in written}
    assert all(p.stat().st_size == sizes[p.name] for p in final_names(here)), "none is half"
    box.faults.clear()
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert sum(r["resumed_bytes"] for r in records) > 30_000
    assert all(r["verified"] for r in records)
    found = {p.name: p.read_bytes() for p in final_names(here)}
    assert found == {p.name: p.read_bytes() for p in written}


@pytest.mark.slow
def test_the_readme_s_unreliable_door(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", "sandbox", "--fault", "503:3", "--fault", "reset:2",
         "--", sys.executable, "-m", "ctaflows", "get", "-r", "cta/DL1/20241114", "night"],
        env={**os.environ, "CTAFLOWS_BACKOFF_S": "0.01"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(final_names(here / "night")) == 14
