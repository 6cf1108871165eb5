"""Mirrors: what they hold too much, and whether they are still intact."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import strategies as st

from ctaflows.errors import NotFound
from ctaflows.model import Checksum, Transfer
from ctaflows.transfer.decide import extraneous, files_here, remove_here
from ctaflows.transfer.manifest import Manifest
from ctaflows.transfer.verify import verify

DEADLINE_S = 60
MIB = 1 << 20
SIZES = st.integers(0, 1 << 42) | st.integers(0, 600 * MIB)


HERE = ["a.h5", "b.h5", "x/c.h5", "x/y/d.h5", "z/e.h5"]


@pytest.mark.parametrize(
    ("there", "empty", "patterns", "extra", "protected"),
    [
        (HERE, [], {}, [], []),
        (["a.h5"], [], {}, ["b.h5", "x/c.h5", "x/y/d.h5", "z/e.h5"], []),
        ([], [""], {}, [], HERE),
        (["a.h5"], ["x"], {}, ["b.h5", "z/e.h5"], ["x/c.h5", "x/y/d.h5"]),
        (["a.h5", "x/c.h5"], ["x/y"], {}, ["b.h5", "z/e.h5"], ["x/y/d.h5"]),
        (["a.h5"], ["x/y/d.h5", "a", "y", "z/e"], {}, ["b.h5", "x/c.h5", "x/y/d.h5", "z/e.h5"], []),
        ([], [], {"exclude": ["x"]}, ["a.h5", "b.h5", "z/e.h5"], []),
        ([], [], {"exclude": ["*.h5"]}, [], []),
        ([], [], {"include": ["b*", "z/*"]}, ["b.h5", "z/e.h5"], []),
        ([], ["z"], {"include": ["b*", "z/*"], "exclude": ["b*"]}, [], ["z/e.h5"]),
    ],
)  # fmt: skip
def test_what_a_mirror_holds_too_much(there, empty, patterns, extra, protected) -> None:
    assert extraneous(HERE, there, empty, **patterns) == (extra, protected)


@pytest.mark.parametrize("folder", ["", "x/", "x/y/"])
@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("manifest.jsonl", True),
        (".a.h5.part", True),
        (".a.h5.part.json", True),
        (".a.h5.part.ranges", True),
        (".a.h5.part.ranges.new", True),
        ("a.h5.part", False),
        (".hidden", False),
        ("my-manifest.jsonl", False),
        (".part", True),
        ("part", False),
    ],
)
def test_our_own_files_stay(folder: str, name: str, is_ours: bool) -> None:
    extra, protected = extraneous([folder + name], [], [])
    assert protected == []
    assert extra == ([] if is_ours else [folder + name])


def test_files_here_and_their_removal(tmp_path) -> None:
    folder = tmp_path / "mirror"
    assert list(files_here(folder)) == []
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").touch()
    for name in HERE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "link").symlink_to(outside)
    assert sorted(files_here(folder)) == HERE
    remove_here(folder, ["x/y/d.h5", "z/e.h5", "gone.h5"])
    assert sorted(files_here(folder)) == ["a.h5", "b.h5", "x/c.h5"]
    assert sorted(p.name for p in folder.iterdir()) == ["a.h5", "b.h5", "link", "x"]
    assert not (folder / "x/y").exists()
    remove_here(folder, ["a.h5", "b.h5", "x/c.h5"])
    assert folder.is_dir()
    assert (outside / "f").exists()


@pytest.fixture
def night(tmp_path):
    """Four files and their manifest; the fourth did not come."""
    folder = tmp_path / "night"
    manifest = Manifest(folder / "manifest.jsonl")
    for i, name in enumerate(["a.h5", "x/b.h5", "c.h5"]):
        data = os.urandom(1000 + i)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        checksum = Checksum("adler32", f"{zlib.adler32(data):08x}")
        if name == "c.h5":
            checksum = Checksum("sha256", hashlib.sha256(data).hexdigest())
        manifest.append(
            Transfer(f"/n/{name}", str(folder / name), len(data), checksum=checksum, verified=True)
        )
    manifest.append(Transfer("/n/d.h5", str(folder / "d.h5"), 7, error="Nearline: on tape"))
    return folder


def verdicts(where):
    return {v.path.removeprefix("/n/"): v.verdict for v in verify(where)}


GOOD = {"a.h5": "intact", "x/b.h5": "intact", "c.h5": "intact", "d.h5": "failed"}


def flip(file) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])


def test_what_is_intact_and_what_never_came(night) -> None:
    found = verify(night)
    assert {v.path.removeprefix("/n/"): v.verdict for v in found} == GOOD
    assert [v.path for v in found] == ["/n/a.h5", "/n/x/b.h5", "/n/c.h5", "/n/d.h5"]
    assert [v.ok for v in found] == [True, True, True, False]
    assert found[3].said == "Nearline: on tape"
    assert found[0].to_dict()["checksum"].startswith("adler32:")
    assert verdicts(night / "manifest.jsonl") == GOOD


@pytest.mark.parametrize("name", ["a.h5", "x/b.h5", "c.h5"])
def test_what_is_not_intact(night, name: str) -> None:
    flip(night / name)
    assert verdicts(night) == GOOD | {name: "damaged"}
    with (night / name).open("ab") as stream:
        stream.write(b"more")
    damaged = next(v for v in verify(night) if v.verdict == "damaged")
    assert damaged.local == str(night / name)
    assert "in the manifest" in (damaged.said or "")
    assert "bytes" in (damaged.said or "")
    (night / name).unlink()
    assert verdicts(night) == GOOD | {name: "missing"}
    (night / name).mkdir()
    assert verdicts(night)[name] in ("damaged", "unreadable")


def test_a_folder_that_was_moved_takes_its_proofs_along(night, tmp_path, monkeypatch) -> None:
    moved = night.rename(tmp_path / "elsewhere")
    assert verdicts(moved) == GOOD
    monkeypatch.chdir(moved)
    assert verdicts(moved.relative_to(moved)) == GOOD
    assert verdicts(tmp_path) == GOOD, "a manifest further below is found"
    flip(moved / "x/b.h5")
    assert verdicts(moved)["x/b.h5"] == "damaged"


def test_a_proof_without_a_checksum_says_so(night) -> None:
    manifest = Manifest(night / "manifest.jsonl")
    manifest.append(replace(manifest.proofs["/n/a.h5"], checksum=None, verified=False))
    first = verify(night)[0]
    assert first.ok
    assert first.said == "the manifest holds no checksum"


def test_no_manifest(tmp_path) -> None:
    with pytest.raises(NotFound, match=r"no manifest\.jsonl"):
        verify(tmp_path)
    with pytest.raises(NotFound):
        verify(tmp_path / "nothing")


@pytest.mark.parametrize("where", ["proofs", "absolute"])
def test_a_manifest_in_another_folder_than_its_files(tmp_path, monkeypatch, where: str) -> None:
    """As of `ctaflows get -r n there --manifest proofs/n.jsonl`."""
    monkeypatch.chdir(tmp_path)
    folder = Path("proofs") if where == "proofs" else tmp_path / "proofs"
    Path("there").mkdir()
    Path("there/a.h5").write_bytes(b"a")
    Manifest(folder / "n.jsonl").append(Transfer("/n/a.h5", "there/a.h5", 1))
    assert verdicts(folder / "n.jsonl") == {"a.h5": "intact"}
