"""`ctaflows night` as a person uses it: a real door, exit codes and words."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from commands import fails, ok, run
from nights import make_night

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

DAY = dt.date(2024, 11, 14)


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    make_night(box.storage, DAY, subruns=(3, 2), events=20)
    return box.storage / "cta/DL1/20241114/v0.1/tailcut84"


def look(code: int, *words: str) -> dict:
    done = run("night", "20241114", "--json", *words)
    assert done.returncode == code, done.stderr
    (census,) = json.loads(done.stdout)
    return census


def test_a_night_becomes_whole(night: Path) -> None:
    text = ok("night", "20241114")
    assert "complete: 2 runs, 5 subruns, 10 files" in text
    assert "11113" in text
    # what is missing, and what has changed since
    (night / "dl1_LST-1.Run11111.0001.h5").unlink()
    found = look(10)
    assert (found["verdict"], found["missing"]) == ("incomplete", ["Run11111.0001"])
    assert found["datacheck_without_data"] == ["Run11111.0001"]
    assert found["changes"]["verdict"] == "complete"
    assert found["changes"]["gone"] == ["tailcut84/dl1_LST-1.Run11111.0001.h5"]
    # a file is written just now
    (night / "dl1_LST-1.Run11111.0001.h5").write_bytes(b"\x89HDF")
    found = look(11)
    assert (found["verdict"], found["growing"]) == ("growing", ["dl1_LST-1.Run11111.0001.h5"])
    assert found["changes"]["verdict"] == "incomplete"
    os.utime(night / "dl1_LST-1.Run11111.0001.h5", (1.73e9, 1.73e9))
    text = ok("night", "2024-11-14")
    assert "growing; since then 1 changed" in text
    assert "nothing has changed since" in ok("night", "20241114")


def test_versions_and_run_summary(box: Sandbox, here: Path, night: Path) -> None:
    make_night(box.storage, DAY, subruns=(3, 2), version="v0.2", events=20, datacheck=False)
    found = look(0)
    assert (found["version"], found["versions"]) == ("v0.2", ["v0.1", "v0.2"])
    assert [d["n_files"] for d in found["doubles"]] == [3, 2]
    summary = here / "RunSummary_20241114.ecsv"
    summary.write_text("run_id n_subruns run_type\n11111 4 DATA\n11113 2 DATA\n")
    found = look(10, "--run-summary", str(summary), "--version", "v0.1")
    assert found["missing"] == ["Run11111.0003"]
    assert "of 4" in run("night", "20241114", "--run-summary", str(summary)).stdout


def test_the_last_look_is_where_it_is_told(here: Path, night: Path) -> None:
    state = here / "look.json"
    assert look(0, "--no-state")["changes"] is None
    assert look(0, "--state", str(state))["changes"] is None
    assert look(0, "--state", str(state))["changes"]["new"] == []
    state.write_text("{damaged")
    assert look(0, "--state", str(state))["changes"] is None
    assert look(0, "--state", str(state))["changes"]["verdict"] == "complete"
    done = run("night", "20241114", "--state", str(state / "below"))
    assert done.returncode == 0
    assert "can't be kept" in done.stderr


def test_several_nights(box: Sandbox, night: Path) -> None:
    make_night(box.storage, dt.date(2024, 11, 15), subruns=(1, 1), events=20, datacheck=False)
    (box.storage / "cta/DL1/20241115/v0.1/tailcut84/dl1_LST-1.Run11113.0000.h5").write_bytes(b"")
    done = run("night", "20241114", "20241115", "--json")
    verdicts = [census["verdict"] for census in json.loads(done.stdout)]
    assert (done.returncode, verdicts) == (11, ["complete", "growing"])


def test_bad_input(night: Path) -> None:
    assert "no night 20200101" in fails(3, "night", "20200101")
    assert "v9" in fails(3, "night", "20241114", "--version", "v9")
    assert "no date" in fails(2, "night", "tomorrow")
    assert "run summary" in fails(2, "night", "20241114", "--run-summary", "none.ecsv")
    assert "single night" in fails(2, "night", "20241114", "20241115", "--state", "x")
    fails(2, "night")
    assert "Usage: ctaflows night" in ok("night", "--help")


def test_it_is_light(night: Path) -> None:
    code = (
        "import sys\n"
        "from ctaflows.tasks.dl1 import look_at_night\n"
        "assert look_at_night('20241114').verdict == 'complete'\n"
        "heavy = {'prefect', 'h5py', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
