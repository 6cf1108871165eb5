"""A mirror kept by `get -r` and `put -r`: proven later, mended, cut down, retried in part."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from shell import fails, ok, run

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

FILES = {
    "a.h5": b"first " * 5_000,
    "b.log": b"second " * 10,
    "x/c.h5": b"third " * 20_000,
    "x/y/d.h5": b"fourth " * 100,
}


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    """Four files at the door, in /n; gives the mirror's place."""
    for name, data in FILES.items():
        box.put(f"/n/{name}", data)
    return here / "there/n"


def get(*words: str) -> str:
    return ok("get", "-r", "n", "there", *words)


def moved() -> dict[str, bool]:
    """Fetch once more and tell of each file whether it moved."""
    records = json.loads(get("--json"))
    return {r["path"].removeprefix("/n/"): not r["skipped"] for r in records}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def mirrored(folder: Path) -> dict[str, bytes]:
    """All files here but the manifest."""
    return {name: data for name, data in tree(folder).items() if name != "manifest.jsonl"}


def flip(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:10] + bytes([data[10] ^ 1]) + data[11:])


# -- get --------------------------------------------------------------------------------------


def test_what_was_fetched_can_be_proven_later_and_mended(night: Path) -> None:
    get()
    lines = [json.loads(line) for line in (night / "manifest.jsonl").read_text().splitlines()]
    assert {line["path"] for line in lines} == {f"/n/{name}" for name in FILES}
    assert {line["local"] for line in lines} == set(FILES), "relative: the folder may be moved"
    assert ok("verify", "there/n") == ""
    assert ok("verify", "there") == ""
    moved_to = night.rename(night.parent / "moved")
    assert "4 of 4 files intact" in run("verify", str(moved_to)).stderr
    moved_to.rename(night)

    flip(night / "x/c.h5")
    done = run("verify", "there/n")
    assert done.returncode == 7
    assert "there/n/x/c.h5" in done.stdout
    assert "damaged" in done.stdout
    assert "a.h5" not in done.stdout
    verdicts = json.loads(run("verify", "there/n", "--json").stdout)
    assert [v["verdict"] for v in verdicts if v["path"] == "/n/x/c.h5"] == ["damaged"]
    assert moved() == {name: name == "x/c.h5" for name in FILES}
    assert mirrored(night) == FILES
    assert ok("verify", "there/n") == ""
    (night / "a.h5").unlink()
    assert "missing" in run("verify", "there/n").stdout


def test_nothing_to_verify(here: Path) -> None:
    assert "no manifest.jsonl" in fails(3, "verify", ".")


def test_check_size_is_quick_and_blind(night: Path) -> None:
    get()
    flip(night / "a.h5")
    flip(night / "x/c.h5")
    (night / "b.log").write_bytes(b"shorter")
    assert get("-n", "--check", "size").count("fetch: ") == 1
    get("--check", "size")
    assert (night / "b.log").read_bytes() == FILES["b.log"]
    assert (night / "a.h5").read_bytes() != FILES["a.h5"]
    get()
    assert mirrored(night) == FILES


def test_delete_takes_away_what_is_not_there(box: Sandbox, night: Path) -> None:
    get()
    (box.storage / "n/a.h5").unlink()
    (box.storage / "n/x/y/d.h5").unlink()
    (box.storage / "n/x/y").rmdir()
    (night / "old").mkdir()
    for name in ("old/z.h5", "keep.log", ".q.h5.part", ".q.h5.part.ranges", "old/manifest.jsonl"):
        (night / name).write_text("x")
    (night / "old/deep").mkdir()
    (night / "old/deep/e.h5").write_text("x")
    before = tree(night)
    plan = get("-n", "--delete", "--exclude", "*.log")
    assert tree(night) == before
    assert {line for line in plan.splitlines() if line.startswith("delete ")} == {
        f"delete there/n/{name}" for name in ("a.h5", "x/y/d.h5", "old/z.h5", "old/deep/e.h5")
    }
    get("--delete", "--exclude", "*.log")
    kept = {"b.log", "x/c.h5", "keep.log", ".q.h5.part", ".q.h5.part.ranges", "manifest.jsonl",
            "old/manifest.jsonl"}  # fmt: skip
    assert set(tree(night)) == kept
    assert not (night / "x/y").exists()
    assert not (night / "old/deep").exists()


def test_without_delete_nothing_is_deleted(box: Sandbox, night: Path) -> None:
    get()
    (box.storage / "n/a.h5").unlink()
    get()
    assert mirrored(night) == FILES


def test_what_the_door_can_not_show_is_not_deleted(box: Sandbox, night: Path) -> None:
    get()
    box.deny("/n/x")
    (box.storage / "n/a.h5").unlink()
    done = run("get", "-r", "n", "there", "--delete")
    assert done.returncode == 0, done.stderr
    assert set(mirrored(night)) == {"b.log", "x/c.h5", "x/y/d.h5"}
    assert "2 files stay" in done.stderr
    box.deny("/n")
    done = run("get", "-r", "n", "there", "--delete")
    assert set(mirrored(night)) == {"b.log", "x/c.h5", "x/y/d.h5"}
    assert "3 files stay" in done.stderr


def test_nothing_is_deleted_if_a_file_failed(box: Sandbox, night: Path) -> None:
    get()
    (night / "old.h5").write_text("x")
    (night / "a.h5").unlink()
    box.locality("/n/a.h5", "NEARLINE")
    assert run("get", "-r", "n", "there", "--delete").returncode == 10
    assert (night / "old.h5").exists()


def test_delete_needs_a_directory(night: Path) -> None:
    assert "-r" in fails(2, "get", "n/a.h5", "there", "--delete")


def test_a_dry_run_changes_nothing(night: Path) -> None:
    assert get("-n").count("fetch: not here") == len(FILES)
    assert not night.parent.exists()
    get()
    (night / "a.h5").write_text("x")
    (night / "old.h5").write_text("x")
    before = tree(night)
    plan = get("-n", "--delete")
    assert "delete there/n/old.h5" in plan
    assert plan.count("fetch: ") == 1
    assert tree(night) == before


def test_just_the_failed_ones_again(box: Sandbox, night: Path) -> None:
    box.locality("/n/x/c.h5", "NEARLINE")
    done = run("get", "-r", "n", "there")
    assert done.returncode == 10
    assert "ctaflows get --retry there/n/manifest.jsonl" in done.stderr
    assert set(mirrored(night)) == set(FILES) - {"x/c.h5"}
    assert "failed" in run("verify", "there/n").stdout
    assert run("get", "--retry", "there/n/manifest.jsonl").returncode != 0, "it is still on tape"
    box.locality("/n/x/c.h5", "ONLINE")
    (night / "a.h5").unlink()
    box.requests.clear()
    records = json.loads(ok("get", "--json", "--retry", "there/n/manifest.jsonl"))
    assert [r["path"] for r in records] == ["/n/x/c.h5"]
    assert (night / "x/c.h5").read_bytes() == FILES["x/c.h5"]
    assert not (night / "a.h5").exists()
    assert json.loads(ok("get", "--json", "--retry", "there/n/manifest.jsonl")) == []
    assert "missing" in run("verify", "there/n").stdout
    assert "manifest" in fails(2, "get", "--retry", "there/n/manifest.jsonl", "n", "there")


def test_one_that_is_gone_keeps_no_other_from_being_retried(box: Sandbox, night: Path) -> None:
    for name in ("a.h5", "x/c.h5"):
        box.locality(f"/n/{name}", "NEARLINE")
    assert run("get", "-r", "n", "there").returncode == 10
    (box.storage / "n/a.h5").unlink()
    box.locality("/n/x/c.h5", "ONLINE")
    assert run("get", "--retry", "there/n/manifest.jsonl").returncode in (3, 10)
    assert (night / "x/c.h5").exists()


def test_a_manifest_in_another_folder_finds_its_files(night: Path, here: Path) -> None:
    get("--manifest", "proofs/n.jsonl")
    assert ok("verify", "proofs/n.jsonl") == ""


def test_a_manifest_of_another_name_is_not_deleted(night: Path) -> None:
    for _ in range(2):
        get("--delete", "--manifest", "there/n/proofs.jsonl")
    assert (night / "proofs.jsonl").exists()


def test_two_directories_of_one_name_do_not_delete_each_other(box: Sandbox, night: Path) -> None:
    box.put("/other/n/z.h5", b"z")
    for _ in range(2):
        run("get", "-r", "n", "other/n", "there", "--delete")
    assert (night / "a.h5").exists()
    assert (night / "z.h5").exists()


def test_no_manifest(night: Path) -> None:
    get("--no-manifest")
    assert tree(night) == FILES


@pytest.mark.parametrize("rate", ["fast", "0", "-1M"])
@pytest.mark.parametrize("words", [["get", "-r", "n", "there"], ["put", "-r", "local", "up"]])
def test_what_is_no_rate(here: Path, words: list[str], rate: str) -> None:
    said = fails(2, *words, "--bwlimit", rate)
    assert "is no rate such as 50M" in said
    assert list(here.iterdir()) == []


def test_a_limit_is_kept(box: Sandbox, here: Path) -> None:
    box.put("/n/a.h5", bytes(600_000))
    record = json.loads(ok("get", "--json", "--bwlimit", "400k", "n/a.h5"))[0]
    assert record["seconds"] >= 0.9  # half a second is given in advance
    assert (here / "a.h5").stat().st_size == 600_000


# -- put --------------------------------------------------------------------------------------


@pytest.fixture
def local(box: Sandbox, here: Path) -> Path:
    """Four files here, in n; gives the place of their mirror at the door."""
    for name, data in FILES.items():
        (here / "n" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "n" / name).write_bytes(data)
    (box.storage / "up").mkdir()
    return box.storage / "up/n"


def put(*words: str) -> str:
    return ok("put", "-r", "n", "up", *words)


def test_put_what_is_selected(local: Path) -> None:
    plan = put("-n", "--exclude", "*.log")
    assert plan.count("upload: not there") == 3
    assert not local.exists()
    put("--include", "*.h5", "--exclude", "y")
    assert set(tree(local)) == {"a.h5", "x/c.h5"}
    put()
    assert tree(local) == FILES


def test_put_delete_takes_away_what_is_not_here(local: Path, here: Path) -> None:
    put()
    (here / "n/a.h5").unlink()
    (here / "n/x/y/d.h5").unlink()
    for name in ("old.h5", "old.log", "manifest.jsonl", ".q.h5.part"):
        (local / name).write_text("x")
    (local.parent / "beside.h5").write_text("x")
    before = tree(local)
    plan = put("-n", "--delete", "--exclude", "*.log")
    assert tree(local) == before
    assert {line for line in plan.splitlines() if line.startswith("delete ")} == {
        f"delete /up/n/{name}" for name in ("a.h5", "old.h5", "x/y/d.h5")
    }
    put("--delete", "--exclude", "*.log")
    kept = {"b.log", "old.log", "x/c.h5", "manifest.jsonl", ".q.h5.part"}
    assert set(tree(local)) == kept
    assert (local.parent / "beside.h5").exists()
    assert "-r" in fails(2, "put", "n/b.log", "up/", "--delete")


def test_put_deletes_nothing_if_a_file_failed(local: Path, here: Path) -> None:
    put()
    (local / "old.h5").write_text("x")
    (here / "n/a.h5").write_text("another")
    assert run("put", "-r", "n", "up", "--delete").returncode == 10
    assert (local / "old.h5").exists()
    assert (local / "a.h5").read_bytes() == FILES["a.h5"]


def test_two_folders_of_one_name_do_not_delete_each_other(local: Path, here: Path) -> None:
    (here / "other/n").mkdir(parents=True)
    (here / "other/n/z.h5").write_text("z")
    for _ in range(2):
        run("put", "-r", "n", "other/n", "up/", "--delete")
    assert (local / "a.h5").exists()
    assert (local / "z.h5").exists()


def test_put_just_the_failed_ones_again(box: Sandbox, local: Path, here: Path) -> None:
    box.faults.add("403", times=None, method="PUT", path="*c.h5*")
    done = run("put", "-r", "n", "up", "--manifest", "put.jsonl")
    assert done.returncode == 10
    assert "ctaflows put --retry put.jsonl" in done.stderr
    assert set(tree(local)) == set(FILES) - {"x/c.h5"}
    lines = [json.loads(line) for line in (here / "put.jsonl").read_text().splitlines()]
    assert {line["path"].removeprefix("/").removeprefix("up/n/") for line in lines} == set(FILES)
    box.faults.clear()
    (local / "a.h5").unlink()
    records = json.loads(ok("put", "--json", "--retry", "put.jsonl"))
    assert [r["path"].removeprefix("/") for r in records] == ["up/n/x/c.h5"]
    assert tree(local) == {name: data for name, data in FILES.items() if name != "a.h5"}
    assert json.loads(ok("put", "--json", "--retry", "put.jsonl")) == []
    assert ok("verify", "put.jsonl") == ""


def test_a_put_manifest_in_another_folder_finds_its_files(
    box: Sandbox, local: Path, here: Path
) -> None:
    put("--manifest", "proofs/put.jsonl")
    assert ok("verify", "proofs/put.jsonl") == ""
