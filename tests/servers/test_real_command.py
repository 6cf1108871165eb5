"""`ctaflows` as a person runs it, on real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from serverplace import TOKEN

from ctaflows import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from serverplace import Place

FILES = {f"{sub}{i}.h5": os.urandom(50_000 + i) for sub in ("", "x/", "x/y z/") for i in range(4)}


def ok(*words: str) -> str:
    """Run a command that must succeed, and give what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", *words], text=True, capture_output=True, check=False,
        timeout=240, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout


def content(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.jsonl")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def test_get_a_tree_and_again(place: Place, here: Path) -> None:
    for name, data in FILES.items():
        place.put(f"night/{name}", data)
    first = json.loads(ok("get", "-r", "--json", f"{place.at}/night", "."))
    assert content(here / "night") == FILES
    assert sum(t["moved_bytes"] for t in first) == sum(map(len, FILES.values()))
    again = json.loads(ok("get", "-r", "--json", f"{place.at}/night", "."))
    assert sum(t["moved_bytes"] for t in again) == 0
    assert len(again) == len(FILES)


@pytest.mark.uploads
def test_put_a_tree_and_again(place: Place, here: Path) -> None:
    files = {name.replace(" ", "-"): data for name, data in FILES.items()}
    for name, data in files.items():
        file = here / "night" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    ok("put", "-r", "night", f"{place.at}/")
    assert place.files() == {f"night/{name}": data for name, data in files.items()}
    if place.server.name == "xrootd":  # without checksums nothing tells that they are the same
        again = json.loads(ok("put", "-r", "--json", "night", f"{place.at}/"))
        assert sum(t["moved_bytes"] for t in again) == 0


def test_tasks(place: Place, here: Path) -> None:
    for name, data in FILES.items():
        place.put(f"night/{name}", data)
    found = tasks.find(f"{place.at}/night", include=["x"])
    wanted = {name: data for name, data in FILES.items() if name.startswith("x/")}
    assert len(found) == len(wanted)
    report = tasks.fetch_files(found, "here", base=f"{place.at}/night")
    assert not report.failed
    assert content(here / "here") == wanted
    assert tasks.fetch_dir(f"{place.at}/night", ".").moved_bytes == sum(map(len, FILES.values()))
    assert content(here / "night") == FILES
    assert [e.name for e in tasks.list_dir(f"{place.at}/night")] == sorted(
        {name.partition("/")[0] for name in FILES}
    )
    entry = tasks.stat(f"{place.at}/night/0.h5")
    assert bool(entry.checksums) is (place.server.name == "xrootd")
