"""Links, pipes and devices at names that others can predict: nothing is written through them."""

from __future__ import annotations

import datetime as dt
import os
import stat
from typing import TYPE_CHECKING

import pytest
from commands import ctaflows
from nights import make_night

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

DATA = b"events " * 300_000  # too many to come in memory
VICTIM = b"years of work\n"


@pytest.fixture
def victim(box: Sandbox, here: Path) -> Path:
    """A file of ours elsewhere; the door has one to be fetched into n/."""
    box.put("/n/a.h5", DATA)
    (here / "n").mkdir()
    file = here / "thesis.tex"
    file.write_bytes(VICTIM)
    return file


ENDINGS = ["", ".json", ".json.new", ".ranges", ".ranges.new"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("how", ["symbolic", "hard", "dangling"])
def test_a_part_file_s_name_leads_nowhere(here: Path, victim: Path, ending: str, how: str) -> None:
    planted = here / f"n/.a.h5.part{ending}"
    target = victim.with_name("nowhere") if how == "dangling" else victim
    planted.hardlink_to(target) if how == "hard" else planted.symlink_to(target)
    done = ctaflows("get", "-r", "n", ".")
    assert done.code in (0, 10)
    assert victim.read_bytes() == VICTIM
    assert not (here / "nowhere").exists()
    if done.code == 0:
        assert (here / "n/a.h5").read_bytes() == DATA
        assert stat.S_ISREG((here / "n/a.h5").lstat().st_mode)
    else:
        assert "Something else lies where a file of ours is to be" in done.err
        assert not os.path.lexists(here / "n/a.h5")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_pipe_at_such_a_name_does_not_hang(here: Path, victim: Path, ending: str) -> None:
    os.mkfifo(here / f"n/.a.h5.part{ending}")
    assert ctaflows("get", "n/a.h5", "n/").code in (0, 2)


def test_what_a_kill_left_is_not_tidied_through_a_link(here: Path, victim: Path) -> None:
    (here / "n/a.h5").write_bytes(DATA)
    (here / "n/.a.h5.part").symlink_to(here / "nowhere")
    assert ctaflows("get", "n/a.h5", "n/").code == 0
    assert not (here / "nowhere").exists()


def test_a_manifest_s_name_leads_nowhere(here: Path, victim: Path) -> None:
    (here / "n/manifest.jsonl").symlink_to(victim)
    done = ctaflows("get", "-r", "n", ".")
    assert done.code == 2
    assert "manifest.jsonl" in done.err
    assert victim.read_bytes() == VICTIM


@pytest.mark.slow
def test_nor_do_those_of_what_else_is_kept_with_a_night(box: Sandbox, here: Path) -> None:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 2), events=20)
    kept = here / "20241114"
    kept.mkdir()
    victim = here / "thesis.tex"
    victim.write_bytes(VICTIM)
    names = ("inspections.jsonl", ".complete", ".watch-night.part.state")
    for name in names:
        (kept / name).symlink_to(victim)
    for flow, *more in (["fetch-dl1"], ["watch-night", "--polls", "1"]):
        assert ctaflows("run", flow, "--date", "20241114", *more).code == 0
    assert victim.read_bytes() == VICTIM


@pytest.mark.slow
def test_a_pipe_at_the_name_of_what_was_found_in_files_does_not_hang(
    box: Sandbox, here: Path
) -> None:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 2), events=20)
    (here / "20241114").mkdir()
    os.mkfifo(here / "20241114/inspections.jsonl")
    assert ctaflows("run", "fetch-dl1", "--date", "20241114").code == 0
