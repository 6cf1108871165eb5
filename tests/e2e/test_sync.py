"""A mirror kept by `get -r` and `put -r`: proven later, mended, cut down, retried in part."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from commands import fails, ok, run

from ctaflows.storage import checksum as sums
from ctaflows.transfer import batch

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
    """Four files at the door, in /n; gives the place of their mirror."""
    for name, data in FILES.items():
        box.put(f"/n/{name}", data)
    return here / "there/n"


@pytest.fixture
def mirror(night: Path) -> Path:
    """The same four are here already."""
    return write(night)


def write(folder: Path, *names: str) -> Path:
    """Write the four files, or others, below a folder."""
    for name, data in dict.fromkeys(names, b"x").items() if names else FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def get(*words: str) -> str:
    return ok("get", "-r", "n", "there", *words)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def mirrored(folder: Path) -> dict[str, bytes]:
    """All files here but the manifest."""
    return {name: data for name, data in tree(folder).items() if name != "manifest.jsonl"}


def deletions(plan: str) -> set[str]:
    lines = plan.splitlines()
    return {line.removeprefix("delete ") for line in lines if line.startswith("delete ")}


def flip(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:10] + bytes([data[10] ^ 1]) + data[11:])


# -- get --------------------------------------------------------------------------------------


def test_what_was_fetched_can_be_proven_later_and_mended(night: Path) -> None:
    get()
    lines = [json.loads(line) for line in (night / "manifest.jsonl").read_text().splitlines()]
    assert {line["path"] for line in lines} == {f"/n/{name}" for name in FILES}
    assert {line["local"] for line in lines} == set(FILES), "relative: the folder may be moved"
    moved = night.rename(night.parent / "moved")
    done = run("verify", str(moved))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "4 of 4 files intact" in done.stderr

    moved.rename(night)
    flip(night / "x/c.h5")
    done = run("verify", "there")
    assert done.returncode == 7
    (line,) = done.stdout.splitlines()
    assert "damaged" in line
    assert "there/n/x/c.h5" in line
    records = json.loads(get("--json"))
    assert [r["path"] for r in records if not r["skipped"]] == ["/n/x/c.h5"]
    assert mirrored(night) == FILES
    assert [v["verdict"] for v in json.loads(ok("verify", "there/n", "--json"))] == ["intact"] * 4


def test_check_size_is_quick_and_blind_and_nothing_is_deleted_unasked(mirror: Path) -> None:
    flip(mirror / "a.h5")
    write(mirror, "b.log", "old.h5")
    get("--check", "size")
    assert (mirror / "b.log").read_bytes() == FILES["b.log"]
    assert (mirror / "a.h5").read_bytes() != FILES["a.h5"]
    get()
    assert mirrored(mirror) == FILES | {"old.h5": b"x"}


def test_delete_takes_away_what_is_not_there(box: Sandbox, mirror: Path) -> None:
    (box.storage / "n/a.h5").unlink()
    (box.storage / "n/x/y/d.h5").unlink()
    (box.storage / "n/x/y").rmdir()
    ours = {"manifest.jsonl", "old/manifest.jsonl", ".q.h5.part", ".q.h5.part.ranges"}
    write(mirror, "old/z.h5", "old/deep/e.h5", "keep.log", *ours)
    before = tree(mirror)
    plan = get("-n", "--delete", "--exclude", "*.log")
    assert tree(mirror) == before
    extra = {"a.h5", "x/y/d.h5", "old/z.h5", "old/deep/e.h5"}
    assert deletions(plan) == {f"there/n/{name}" for name in extra}
    get("--delete", "--exclude", "*.log")
    assert set(tree(mirror)) == set(before) - extra == {"b.log", "x/c.h5", "keep.log", *ours}
    assert not (mirror / "x/y").exists()
    assert not (mirror / "old/deep").exists()


def test_what_the_door_can_not_show_is_not_deleted(box: Sandbox, mirror: Path) -> None:
    box.deny("/n/x")
    (box.storage / "n/a.h5").unlink()
    done = run("get", "-r", "n", "there", "--delete")
    assert done.returncode == 10, done.stderr
    assert set(mirrored(mirror)) == {"b.log", "x/c.h5", "x/y/d.h5"}
    assert "2 files stay" in done.stderr
    assert "/n/x: Refused: The directory is shown as empty, but can't be read" in done.stderr
    box.deny("/n")
    assert "3 files stay" in run("get", "-r", "n", "there", "--delete").stderr
    assert set(mirrored(mirror)) == {"b.log", "x/c.h5", "x/y/d.h5"}


def test_an_unreadable_directory_is_named_beside_a_file_that_failed(
    box: Sandbox, night: Path
) -> None:
    box.deny("/n/x")
    box.locality("/n/a.h5", "LOST")
    done = run("get", "-r", "n", "there")
    assert done.returncode == 10
    assert "/n/a.h5" in done.stderr
    assert "The directory is shown as empty, but can't be read" in done.stderr
    assert "--retry" not in done.stderr, "it would leave the directory out"
    planned = run("get", "-r", "-n", "n", "there")
    assert planned.returncode == 10
    assert "/n/x: Refused: The directory is shown as empty, but can't be read" in planned.stderr
    assert run("get", "-r", "n", "there", "--include", "none").returncode == 10


def test_nothing_is_deleted_if_a_file_failed(box: Sandbox, mirror: Path) -> None:
    write(mirror, "old.h5")
    (mirror / "a.h5").unlink()
    box.locality("/n/a.h5", "NEARLINE")
    assert run("get", "-r", "n", "there", "--delete").returncode == 10
    assert (mirror / "old.h5").exists()


def test_delete_needs_a_directory(night: Path) -> None:
    assert "-r" in fails(2, "get", "n/a.h5", "there", "--delete")


def test_a_dry_run_changes_nothing(night: Path) -> None:
    assert get("-n").count("fetch: not here") == len(FILES)
    assert not night.parent.exists()
    write(night)
    write(night, "a.h5", "old.h5")
    before = tree(night)
    plan = get("-n", "--delete")
    assert deletions(plan) == {"there/n/old.h5"}
    assert plan.count("fetch: size differs") == 1
    assert tree(night) == before


def test_just_the_failed_ones_again(box: Sandbox, night: Path) -> None:
    box.locality("/n/x/c.h5", "NEARLINE")
    done = run("get", "-r", "n", "there")
    assert done.returncode == 10
    retry = ("get", "--retry", "there/n/manifest.jsonl")
    assert "ctaflows " + " ".join(retry) in done.stderr
    assert set(mirrored(night)) == set(FILES) - {"x/c.h5"}
    box.locality("/n/x/c.h5", "ONLINE")
    (night / "a.h5").unlink()
    records = json.loads(ok(*retry, "--json"))
    assert [r["path"] for r in records] == ["/n/x/c.h5"]
    assert (night / "x/c.h5").read_bytes() == FILES["x/c.h5"]
    assert not (night / "a.h5").exists()
    assert json.loads(ok(*retry, "--json")) == []
    assert "manifest" in fails(2, *retry, "n", "there")


def test_one_that_is_gone_keeps_no_other_from_being_retried(box: Sandbox, night: Path) -> None:
    gone = {"path": "/n/gone.h5", "local": "gone.h5", "error": "NetworkError: it broke"}
    still = {"path": "/n/a.h5", "local": "a.h5", "error": "NetworkError: it broke"}
    night.mkdir(parents=True)
    lines = "".join(json.dumps(values) + "\n" for values in (gone, still))
    (night / "manifest.jsonl").write_text(lines)
    assert run("get", "--retry", "there/n/manifest.jsonl").returncode in (3, 10)
    assert (night / "a.h5").exists()


def test_a_manifest_of_another_name_is_not_deleted(mirror: Path) -> None:
    write(mirror, "proofs.jsonl")
    get("--delete", "--manifest", "there/n/proofs.jsonl")
    assert (mirror / "proofs.jsonl").exists()


@pytest.mark.parametrize("written", ["there/n/x/../proofs.jsonl", "link/proofs.jsonl"])
def test_a_manifest_is_not_deleted_however_it_is_named(mirror: Path, written: str) -> None:
    (mirror.parent.parent / "link").symlink_to("there/n")
    get("--delete", "--manifest", written)
    assert (mirror / "proofs.jsonl").exists()


def test_what_comes_while_files_are_fetched_is_not_deleted(
    box: Sandbox, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(night, "old.h5")
    real = batch.fetch_many

    def meanwhile(*args: Any, **options: Any) -> Any:
        done = real(*args, **options)
        write(night, "mine.txt")
        return done

    monkeypatch.setattr(batch, "fetch_many", meanwhile)
    get("--delete")
    assert (night / "mine.txt").exists()
    assert not (night / "old.h5").exists()


def test_a_manifest_in_a_file_s_place_is_refused(box: Sandbox, night: Path) -> None:
    said = fails(2, "get", "-r", "n", "there", "--manifest", "there/n/x/../a.h5")
    assert "the manifest and /n/a.h5" in said
    assert not night.exists()


def test_what_was_fetched_before_an_error_is_reported(box: Sandbox, night: Path) -> None:
    box.put("/m/c", b"x")
    box.put("/m/.c.part", b"x")
    done = run("get", "-r", "n", "m", "-o", "there", "--json")
    assert done.returncode == 2
    assert len(json.loads(done.stdout)) == len(FILES)
    assert "under which another one is fetched" in done.stderr


def test_what_ctaflows_keeps_in_a_mirror_stays(mirror: Path) -> None:
    write(mirror, "night.html", "inspections.jsonl", ".complete")
    get("--delete")
    assert {"night.html", "inspections.jsonl", ".complete"} <= set(tree(mirror))


def test_a_directory_that_is_emptied_is_emptied_here(box: Sandbox, mirror: Path) -> None:
    (box.storage / "n/x/y/d.h5").unlink()
    done = run("get", "-r", "n", "there", "--delete")
    assert done.returncode == 0
    assert set(mirrored(mirror)) == {"a.h5", "b.log", "x/c.h5"}
    assert "empty" not in done.stderr


def test_a_directory_in_the_place_of_a_failed_file(box: Sandbox, night: Path) -> None:
    box.faults.add("403", times=None, method="GET", path="*a.h5*")
    assert run("get", "-r", "n", "there").returncode == 10
    box.faults.clear()
    (night / "a.h5").mkdir()
    assert "directory of that name" in fails(10, "get", "--retry", str(night / "manifest.jsonl"))
    assert not list((night / "a.h5").iterdir())


def test_two_directories_of_one_name_do_not_delete_each_other(box: Sandbox, mirror: Path) -> None:
    box.put("/other/n/z.h5", b"x")
    write(mirror, "z.h5")
    run("get", "-r", "n", "other/n", "there", "--delete")
    assert set(mirrored(mirror)) == {*FILES, "z.h5"}


def test_no_manifest(night: Path) -> None:
    get("--no-manifest")
    assert tree(night) == FILES


@pytest.mark.parametrize("words", [["get", "-r", "n", "there"], ["put", "-r", "n", "up"]])
def test_what_is_no_rate(here: Path, words: list[str]) -> None:
    assert "is not a rate such as 50M" in fails(2, *words, "--bwlimit", "fast")
    assert list(here.iterdir()) == []


def test_a_limit_is_kept(box: Sandbox, here: Path) -> None:
    box.put("/n/a.h5", bytes(600_000))
    (record,) = json.loads(ok("get", "--json", "--bwlimit", "400k", "n/a.h5"))
    assert record["seconds"] >= 0.9  # half a second is given in advance
    assert (here / "a.h5").stat().st_size == 600_000


# -- put --------------------------------------------------------------------------------------


@pytest.fixture
def up(box: Sandbox, here: Path) -> Path:
    """Four files here, in n; gives the place of their mirror at the door."""
    write(here / "n")
    (box.storage / "up").mkdir()
    return box.storage / "up/n"


def put(*words: str) -> str:
    return ok("put", "-r", "n", "up", *words)


def test_put_what_is_selected(up: Path) -> None:
    assert put("-n", "--exclude", "*.log").count("upload: not there") == 3
    assert not up.exists()
    put("--include", "*.h5", "--exclude", "y")
    assert tree(up) == {name: FILES[name] for name in ("a.h5", "x/c.h5")}


def test_put_delete_takes_away_what_is_not_here(up: Path, here: Path) -> None:
    write(up)
    (here / "n/a.h5").unlink()
    (here / "n/x/y/d.h5").unlink()
    (here / "n/x/y").rmdir()
    write(up, "old.h5", "old.log", "manifest.jsonl", ".q.h5.part", "../beside.h5")
    before = tree(up.parent)
    plan = put("-n", "--delete", "--exclude", "*.log")
    assert tree(up.parent) == before
    assert deletions(plan) == {f"/up/n/{name}" for name in ("a.h5", "old.h5", "x/y/d.h5")}
    put("--delete", "--exclude", "*.log")
    kept = {"b.log", "old.log", "x/c.h5", "manifest.jsonl", ".q.h5.part"}
    assert set(tree(up)) == kept
    assert (up.parent / "beside.h5").exists()


def nothing_is_deleted(up: Path, n_kept: int) -> None:
    """Put with --delete; what was at the door is there still, and that is said."""
    before = tree(up)
    done = run("put", "-r", "n", "up", "--delete")
    assert done.returncode == 0, done.stderr
    assert f"{n_kept} files stay at the door, since their local folder is empty" in done.stderr
    assert tree(up).items() >= before.items()


def test_put_deletes_nothing_because_of_an_empty_folder(up: Path, here: Path) -> None:
    write(up)
    shutil.rmtree(here / "n")
    (here / "n/x/y").mkdir(parents=True)  # folders alone, as where a disk is mounted
    nothing_is_deleted(up, 4)


def test_put_deletes_nothing_below_an_empty_folder_or_a_link(up: Path, here: Path) -> None:
    write(up)
    write(up, "latest/e.h5")
    shutil.rmtree(here / "n/x/y")
    (here / "n/x/y").mkdir()
    write(here / "run5", "e.h5")
    (here / "n/latest").symlink_to(here / "run5")
    nothing_is_deleted(up, 2)


def test_put_deletes_nothing_from_a_folder_that_is_a_link(up: Path, here: Path) -> None:
    write(up, "at-the-door.h5")
    (here / "n").rename(here / "real")
    (here / "real/n").mkdir()
    (here / "real").rename(here / "elsewhere")
    write(here / "elsewhere/n", "a.h5")
    (here / "n").symlink_to(here / "elsewhere/n")
    nothing_is_deleted(up, 1)


def test_put_deletes_no_file_in_a_folder_s_place(box: Sandbox, here: Path) -> None:
    box.put("/up/n", b"a file")
    write(here / "n", "a.log")
    fails(2, "put", "-r", "n", "up/", "--delete", "--exclude", "*.log")
    assert (box.storage / "up/n").read_bytes() == b"a file"


def test_put_delete_tells_of_a_directory_that_can_t_be_read(box: Sandbox, here: Path) -> None:
    box.put("/up/n/d/old", b"x")
    box.deny("/up/n/d")
    write(here / "n", "a.log")
    assert "keep" in ok("put", "-r", "-n", "n", "up/", "--delete")
    done = run("put", "-r", "n", "up/", "--delete")
    assert done.returncode == 10
    assert "/up/n/d: The directory is shown as empty, but can't be read" in done.stderr
    assert (box.storage / "up/n/d/old").read_bytes() == b"x"


def test_a_dry_run_of_a_name_that_no_door_takes(box: Sandbox, here: Path) -> None:
    write(here / "n", "a.h5", "b\nc.h5")
    said = ok("put", "-r", "-n", "n", "up/")
    assert "n/a.h5 -> " in said
    assert "(refuse: " in said


def test_put_delete_needs_a_folder(up: Path) -> None:
    assert "-r" in fails(2, "put", "n/b.log", "up/", "--delete")


def test_put_deletes_nothing_if_a_file_failed(up: Path, here: Path) -> None:
    write(up)
    write(up, "old.h5")
    write(here / "n", "a.h5")
    assert run("put", "-r", "n", "up", "--delete").returncode == 10
    assert tree(up) == FILES | {"old.h5": b"x"}


def test_two_folders_of_one_name_do_not_delete_each_other(up: Path, here: Path) -> None:
    write(up)
    write(up, "z.h5")
    write(here / "other/n", "z.h5")
    run("put", "-r", "n", "other/n", "up/", "--delete")
    assert set(tree(up)) == {*FILES, "z.h5"}


def put_in_part(box: Sandbox) -> None:
    """Upload with a manifest; one file fails."""
    box.faults.add("403", times=None, method="PUT", path="*c.h5*")
    done = run("put", "-r", "n", "up", "--manifest", "put.jsonl")
    assert done.returncode == 10
    assert "ctaflows put --retry put.jsonl" in done.stderr
    box.faults.clear()


def test_put_just_the_failed_ones_again(box: Sandbox, up: Path, here: Path) -> None:
    put_in_part(box)
    assert set(tree(up)) == set(FILES) - {"x/c.h5"}
    lines = [json.loads(line) for line in (here / "put.jsonl").read_text().splitlines()]
    assert {line["local"] for line in lines} == {f"n/{name}" for name in FILES}
    assert [line["local"] for line in lines if line["error"]] == ["n/x/c.h5"]
    (up / "a.h5").unlink()
    (record,) = json.loads(ok("put", "--json", "--retry", "put.jsonl"))
    assert record["path"] == "/up/n/x/c.h5"
    assert tree(up) == {name: data for name, data in FILES.items() if name != "a.h5"}


def test_what_was_retried_well_has_not_failed_any_more(box: Sandbox, up: Path) -> None:
    put_in_part(box)
    ok("put", "--retry", "put.jsonl")
    assert ok("verify", "put.jsonl") == ""


def manifest_lines(file: Path) -> list[dict[str, Any]]:
    """Read a manifest, line by line."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_an_error_of_a_file_that_is_there_now_is_over(box: Sandbox, up: Path, here: Path) -> None:
    put_in_part(box)
    write(up / "x", "c.h5")  # another has brought it
    (up / "x/c.h5").write_bytes((here / "n/x/c.h5").read_bytes())
    done = run("put", "--retry", "put.jsonl")
    assert "1 in place, 0 failed" in done.stderr
    assert [x["verified"] for x in manifest_lines(here / "put.jsonl") if "c.h5" in x["path"]] == [
        False, True,
    ]  # fmt: skip
    n_lines = len(manifest_lines(here / "put.jsonl"))
    run("put", "--retry", "put.jsonl")
    assert len(manifest_lines(here / "put.jsonl")) == n_lines


def test_files_that_are_there_already_get_their_line(up: Path, here: Path) -> None:
    ok("put", "-r", "n", "up")
    for _ in range(2):
        ok("put", "-r", "n", "up", "--manifest", "put.jsonl")
        lines = manifest_lines(here / "put.jsonl")
        assert sorted(line["local"] for line in lines) == sorted(f"n/{name}" for name in FILES)
        assert all(line["verified"] for line in lines)


def test_a_directory_that_is_left_out_is_not_listed(box: Sandbox, up: Path) -> None:
    """Nor does it matter that it can't be."""
    write(up)
    write(up / "secret", "a.h5")
    box.faults.add("403", times=None, method="PROPFIND", path="*/secret*")
    assert run("get", "-r", "up/n", "there").returncode == 5
    before = len(box.requests)
    ok("get", "-r", "up/n", "here", "--exclude", "secret")
    asked = {r.path for r in list(box.requests)[before:] if r.method == "PROPFIND"}
    assert not {path for path in asked if "secret" in path}


@pytest.mark.parametrize("more", [(), ("--check", "checksum")])
def test_a_dry_run_looks_at_what_the_real_run_looks_at(
    up: Path, here: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    """What the manifest proves is not read again, unless that is asked for."""
    write(up)
    ok("get", "-r", "up/n", ".")
    read: list[Path] = []
    real = sums.of_file

    def of_file(file: Path, *args: Any, **how: Any) -> Any:
        read.append(file)
        return real(file, *args, **how)

    monkeypatch.setattr(sums, "of_file", of_file)
    ok("get", "-r", "-n", "up/n", ".", *more)
    in_dry_run = len(read)
    ok("get", "-r", "up/n", ".", *more)
    assert in_dry_run == len(read) - in_dry_run == (len(FILES) if more else 0)


def test_put_of_a_name_that_is_no_remote_one_uploads_the_others(box: Sandbox, here: Path) -> None:
    """A control character in one name of many is a failure of that file alone."""
    (here / "n").mkdir()
    for number in range(9):  # so many that their directory is listed
        (here / f"n/{number}.h5").write_bytes(b"x")
    (here / "n/a\tb.h5").write_bytes(b"x")
    done = run("put", "-r", "n", "up", "--json")
    assert done.returncode == 10
    failed = [r for r in json.loads(done.stdout) if r["error"]]
    assert [r["local"] for r in failed] == ["n/a\tb.h5"]
    assert "control characters" in failed[0]["error"]
    assert len(list((box.storage / "up/n").iterdir())) == 9
    planned = run("put", "-r", "n", "up", "-n")
    assert "refuse: A remote path can't hold" in planned.stdout
