"""What a kill leaves beside a file that is in place goes with the next run."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import pytest

from ctaflows.tasks import fetch_dir, fetch_file

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

#: By the order in which they come and go.
LEFT = (
    [""],
    ["", ".json.new"],
    ["", ".json"],
    ["", ".json", ".ranges"],
    [".json", ".ranges"],
    [".json"],
)


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if ".part" in p.name)


@pytest.mark.parametrize("endings", LEFT, ids=" ".join)
@pytest.mark.parametrize("size_bytes", [10, 100_000])
def test_they_go(box: Sandbox, here: Path, endings: list[str], size_bytes: int) -> None:
    for i in range(6):
        box.put(f"/n/{i}.h5", bytes([i]) * size_bytes)
    fetch_dir("n", here)
    for ending in endings:
        (here / "n" / f".3.h5.part{ending}").write_text("left by a kill")
    report = fetch_dir("n", here)
    assert not report.failed
    assert len(report.skipped) == 6
    assert leftovers(here / "n") == []


def test_what_somebody_is_at_stays(box: Sandbox, here: Path) -> None:
    box.put("/n/3.h5", b"x" * 100)
    fetch_file("n/3.h5", here / "3.h5")
    part = here / ".3.h5.part"
    (here / ".3.h5.part.json").write_text("{}")
    with part.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert fetch_file("n/3.h5", here / "3.h5").skipped
    assert leftovers(here) == [".3.h5.part", ".3.h5.part.json"]


def test_who_begins_meanwhile_keeps_its_part(
    box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the open and the lock, the holder ends and another one makes a part of its own."""
    box.put("/n/3.h5", b"x" * 100)
    fetch_file("n/3.h5", here / "3.h5")
    part = here / ".3.h5.part"
    part.write_text("of the holder")
    real = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        if part.read_text() == "of the holder":
            part.unlink()
            part.write_text("of another one")
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert fetch_file("n/3.h5", here / "3.h5").skipped
    assert part.read_text() == "of another one"


def test_a_part_that_was_tidied_away_is_not_used(
    box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("/n/3.h5", b"x" * 100)
    part = here / ".3.h5.part"
    real, gone = fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not gone and part.exists():
            gone.append(part.unlink())
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    done = fetch_file("n/3.h5", here / "3.h5")
    assert gone
    assert done.verified
    assert (here / "3.h5").read_bytes() == b"x" * 100
