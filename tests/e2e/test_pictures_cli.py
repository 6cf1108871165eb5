"""Pictures from the command line, and the page that a night's fetch leaves."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from commands import fails, ok, run
from nights import make_night

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

RUNS = "cta/DL1/20241114/v0.1/tailcut84"


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 1))
    return here


def test_a_night_leaves_its_page(box: Sandbox, night: Path, request: pytest.FixtureRequest) -> None:
    text = ok("run", "fetch-dl1", "--date", "20241114")
    file = night / "20241114" / "night.html"
    assert f"page     {file}" in text
    assert "at door  complete: 3 subruns" in text
    page = file.read_text()
    assert "<h1>DL1 night 20241114 v0.1</h1>" in page
    assert page.count("<tr data-verdict=") == 6
    assert page.count("<svg") == 5
    assert "Complete. Files: " in page
    request.getfixturevalue("without_pictures")
    # a folder in its place costs the page, not the night
    file.unlink()
    file.mkdir()
    done = run("run", "fetch-dl1", "--date", "20241114")
    assert done.returncode == 0, done.stderr
    assert "The night has no page" in done.stderr
    assert "page     " not in done.stdout


def test_inspect_draws(box: Sandbox, night: Path, request: pytest.FixtureRequest) -> None:
    local = box.storage / RUNS / "dl1_LST-1.Run11111.0000.h5"
    (night / "cut.h5").write_bytes(local.read_bytes()[:9000])
    words = ("inspect", "--json", "--plot", "n.png", "--html", "n.html")
    done = run(*words, str(local), f"{RUNS}/dl1_LST-1.Run11113.0000.h5", "cut.h5")
    assert done.returncode == 7, done.stderr
    assert "ctaflows: n.png is written" in done.stderr
    assert (night / "n.png").read_bytes().startswith(b"\x89PNG")
    page = (night / "n.html").read_text()
    assert page.count("<tr data-verdict=") == 3
    assert "Truncated" in page
    request.getfixturevalue("without_pictures")
    (night / "bounds.toml").write_text("[events]\nbad = [1e9, inf]\nwarn = [1e9, inf]\n")
    ok("inspect", "-q", "--html", "b.html", "--bounds", "bounds.toml", str(local))
    assert "events 140, not within 1e+09 to" in (night / "b.html").read_text()
    # said before anything is read
    assert "ends in one of .png, .pdf, .svg" in fails(2, "inspect", "--plot", "n.gif", "none.h5")
