"""The command line and `cta://`, as people use them, at every storage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import fsspec
import pytest
from commands import ok, run
from targets import DATA

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from targets import Place
    from ways import Ways

FILES = {"0.h5": DATA[:50_000], "x/1.h5": DATA[1:50_002]}


def content(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.jsonl")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


@pytest.fixture
def night(here: Path) -> Path:
    for name, data in FILES.items():
        (here / "night" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "night" / name).write_bytes(data)
    return here / "night"


def test_a_tree_is_put_listed_got_verified_and_put_again(
    place: Place, ways: Ways, night: Path
) -> None:
    overwrite = [] if place.storage.can_rename else ["--overwrite"]
    ok("put", "-r", *overwrite, "night", f"{place.to}/")
    listed = json.loads(ok("ls", "-r", "--json", f"{place.at}/night"))
    sizes = {e["path"]: e["size_bytes"] for e in listed if e["type"] == "file"}
    assert sizes == {f"{place.at}/night/{name}": len(data) for name, data in FILES.items()}
    first = json.loads(ok("get", "-r", "--json", f"{place.at}/night", "down"))
    assert content(night.parent / "down/night") == FILES
    assert sum(t["moved_bytes"] for t in first) == sum(map(len, FILES.values()))
    again = json.loads(ok("get", "-r", "--json", f"{place.at}/night", "down"))
    assert (len(again), sum(t["moved_bytes"] for t in again)) == (len(FILES), 0)
    ok("verify", "down")
    again = run("put", "-r", "--json", "night", f"{place.to}/")
    if place.storage.can_rename:
        assert sum(t["moved_bytes"] for t in json.loads(again.stdout)) == 0
        assert {t["verified"] for t in json.loads(again.stdout)} == {bool(ways.checksums)}
    else:  # nothing tells that they are the same
        assert again.returncode != 0
        assert "there" in again.stderr


def test_files_are_opened_by_fsspec(shelf: Place) -> None:
    path = shelf.kept(10_000)
    storage = fsspec.filesystem("cta", skip_instance_cache=True)
    assert path in [entry["name"] for entry in storage.ls(shelf.at)]
    assert storage.info(path)["size"] == 10_000
    if not shelf.storage.has_ranges:
        with pytest.raises(UsageError, match="can't read parts of a file"):
            storage.open(path)
        return
    with fsspec.open(f"cta:/{path}") as file:
        file.seek(9_990)
        assert file.read() == DATA[9_990:10_000]
