"""What README and tutorial say, done: each snippet is taken out of the page and run."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import run
from nights import make_night

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
#: Done elsewhere (the demo, Prefect's server, other sandboxes), or by the person who reads.
ELSEWHERE = re.compile(r"make |pip |export |prefect |eval |ctaflows (sandbox|demo|token login)|\. ")


def snippets(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def night(box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(4, 3))
    sample = box.storage / "cta/DL1/20241114/v0.1/tailcut84/dl1_LST-1.Run11111.0000.h5"
    shutil.copy(sample, here)
    (here / "dl2_LST-1.Run11111.h5").write_bytes(b"results")
    bin_dir = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{bin_dir}{os.pathsep}{os.environ['PATH']}")
    return here


def done_in_shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, shell=True, text=True, capture_output=True, check=False, timeout=240
    )


def done(line: str) -> subprocess.CompletedProcess[str]:
    """Do a line: in this process, with the words that a shell makes of it, where that can be."""
    if not line.startswith("ctaflows ") or re.search(r"[|&;<>]", line):
        return done_in_shell(line)
    words = done_in_shell(rf"printf '%s\0' {line}").stdout.split("\0")
    return run(*words[1:-1])


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "page", ["README.md", pytest.param("docs/tutorial.md", marks=pytest.mark.servers)]
)
def test_shell_lines(page: str, night: Path) -> None:
    lines = [
        line.partition("  #")[0].strip()
        for block in snippets(page, "sh")
        for line in block.splitlines()
        if line.strip() and not ELSEWHERE.match(line.strip())
    ]
    assert sum(line.startswith("ctaflows ") for line in lines) >= 5
    for line in lines:
        what = done(line)
        assert what.returncode == 0, f"{line}\n{what.stdout}{what.stderr}"


@pytest.mark.parametrize("page", ["README.md", "docs/library.md", "docs/tutorial.md"])
def test_python_without_prefect(page: str, night: Path) -> None:
    blocks = [b for b in snippets(page, "python") if "prefect" not in b]
    assert blocks
    for block in blocks:
        code = block + "\nimport sys\nassert 'prefect' not in sys.modules\n"
        done = subprocess.run(
            [sys.executable, "-c", code], text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        assert done.stdout


def test_the_page_on_python_names_every_function() -> None:
    import ctaflows
    from ctaflows import tasks

    page = (ROOT / "docs/library.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    assert {name for name in ctaflows.__all__ if name in tasks.__all__} <= named
