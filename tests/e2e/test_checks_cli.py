"""`ctaflows check` as a person uses it: words, JSON, exit codes."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest
from commands import fails, ok, run
from nights import make_night

from ctaflows.dl1.quality.rules import RULES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    day = dt.date(2024, 11, 14)
    made = make_night(tmp_path, day, runs=[11111], subruns=[2], datacheck=False)
    monkeypatch.chdir(made[0].parent)
    return [path.name for path in made]


def test_check(files: list[str], tmp_path: Path) -> None:
    assert ok("check", files[0]).split() == ["ok", files[0]]
    table = ok("check", "--all", files[0])
    assert all(name in table for name in ("readable", "flatfield_charge", "62.1 to 75.9"))
    (record,) = json.loads(ok("check", "--whole", "--json", files[0]))
    assert (record["file"], record["verdict"], record["error"]) == (files[0], "ok", None)
    assert [c["name"] for c in record["checks"]] == ["readable", *RULES]
    bounds = tmp_path / "bounds.toml"
    bounds.write_text("[flatfield_charge]\nwarn = [90, 99]\nbad = [80, 110]\n")
    done = run("check", "--bounds", str(bounds), files[0])
    assert done.returncode == 7
    assert "bad: flatfield_charge" in done.stdout


def test_bad_files(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "page.h5").write_text("<html>")
    done = run("check", *files, str(tmp_path / "page.h5"), "none.h5")
    assert done.returncode == 7
    assert [line[:5].strip() for line in done.stdout.splitlines() if line[0] != " "] == [
        "ok", "ok", "bad", "bad",
    ]  # fmt: skip
    assert "NotHDF5" in done.stdout
    assert "NotFound" in done.stdout
    assert done.stderr.strip() == "2 ok, 2 bad"
    assert "can't be read" in fails(2, "check", "--bounds", "none.toml", files[0])
    fails(2, "check")
