"""The flow mirror: what moves, what does not, what is deleted and what never."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ctaflows.cli.run import flow_command
from ctaflows.errors import CtaflowsError, NotFound, PartialFailure, UsageError
from ctaflows.flows.mirror import mirror
from ctaflows.transfer.verify import verify

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
def door(box: Sandbox, here: Path) -> Sandbox:
    """Four files at the door, in /n."""
    for name, data in FILES.items():
        box.put(f"/n/{name}", data)
    return box


def tree(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.jsonl")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def requests(box: Sandbox, *methods: str) -> int:
    return sum(r.method in methods for r in box.requests)


def newest(server: Any) -> Any:
    return max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)


# tracked -----------------------------------------------------------------------------------------


def test_a_tree_is_tracked_and_a_finished_one_is_one_listing(
    prefect_server: Any, door: Sandbox, here: Path
) -> None:
    tally = mirror.tracked("n", dest="there")
    assert tree(here / "there/n") == FILES
    assert all(verdict.ok for verdict in verify(here / "there/n"))
    assert "4 of 4 files in place, 4 verified, 4 moved" in tally.verdict()
    run = newest(prefect_server)
    assert (run.name, run.state.name) == ("mirror-n", "Completed")
    tasks = prefect_server.task_runs(run.id, 2)
    assert [t.state.name for t in tasks] == ["Completed"] * 2
    assert min(t.name for t in tasks) == "fetch a.h5 to d.h5, 4 files"

    asked = requests(door, "GET")
    again = mirror.tracked("n", dest="there")
    assert len(again.transfers) == 4
    assert all(t.skipped and t.verified for t in again.transfers)
    assert requests(door, "GET") == asked
    run = newest(prefect_server)
    assert [t.name.rpartition("-")[0] for t in prefect_server.task_runs(run.id, 1)] == ["list-tree"]


def test_many_files_are_few_task_runs(prefect_server: Any, box: Sandbox, here: Path) -> None:
    for i in range(250):
        box.put(f"/many/{i:03d}", b"%d" % i)
    mirror.tracked("many")
    run = newest(prefect_server)
    assert len(prefect_server.task_runs(run.id, 4)) == 4
    assert len(tree(here / "many")) == 250


def test_some_files_fail_and_the_run_says_so(
    prefect_server: Any, door: Sandbox, here: Path
) -> None:
    door.locality("/n/x/c.h5", "NEARLINE")
    with pytest.raises(PartialFailure, match="1 failed"):
        mirror.tracked("n")
    run = newest(prefect_server)
    assert run.state.name == "Failed"
    assert "1 failed" in run.state.message
    assert set(tree(here / "n")) == set(FILES) - {"x/c.h5"}
    door.locality("/n/x/c.h5", "ONLINE")
    (here / "n/a.h5").unlink()
    tally = mirror.tracked("n")
    assert {t.path for t in tally.moved} == {"/n/a.h5", "/n/x/c.h5"}
    assert tree(here / "n") == FILES

    from prefect.artifacts import Artifact

    with prefect_server.client:
        artifact = Artifact.get("mirror-n")
    assert artifact is not None
    assert "2 moved" in (artifact.description or "")
    assert "x/c.h5" in str(artifact.data)


def test_its_parameters_make_a_form(prefect_server: Any) -> None:
    schema = mirror.parameters
    assert schema.required == ["path"]
    assert all(field.get("description") for field in schema.properties.values())
    assert schema.properties["check"]["enum"] == ["proof", "checksum", "size"]
    assert schema.properties["delete"]["default"] is False


@pytest.mark.slow
def test_an_ended_run_ends_within_seconds_and_the_next_goes_on(
    prefect_server: Any, box: Sandbox, here: Path
) -> None:
    data = os.urandom(400_000)
    box.put("/n/slow.h5", data)
    box.faults.add("slow", times=None, server="pool", rate_bytes_s=50_000)
    code = "from ctaflows.flows.mirror import mirror; mirror.tracked('n')"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PREFECT_API_URL": prefect_server.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    part = here / "n/.slow.h5.part"
    deadline = time.monotonic() + 120
    while not (part.exists() and part.stat().st_size > 50_000):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # as Prefect cancels
    began = time.monotonic()
    process.wait(60)
    assert time.monotonic() - began < 45, "5 s on a machine that is not busy"
    assert part.exists()
    box.faults.clear()
    (done,) = mirror.plain("n").transfers
    assert done.resumed_bytes > 50_000
    assert (here / "n/slow.h5").read_bytes() == data


# plain -------------------------------------------------------------------------------------------


def test_only_what_is_wanted_comes(door: Sandbox, here: Path) -> None:
    mirror.plain("n", include=["*.h5"], exclude=["y"])
    assert set(tree(here / "n")) == {"a.h5", "x/c.h5"}
    assert not any(r.method == "PROPFIND" and "/n/x/y" in r.path for r in door.requests)


def test_nothing_is_deleted_unasked(door: Sandbox, here: Path) -> None:
    mirror.plain("n")
    (door.storage / "n/a.h5").unlink()
    (here / "n/old.h5").write_bytes(b"x")
    mirror.plain("n")
    assert tree(here / "n") == FILES | {"old.h5": b"x"}


def test_delete_takes_what_is_not_there(door: Sandbox, here: Path) -> None:
    mirror.plain("n", manifest="n/proofs.jsonl")
    (door.storage / "n/a.h5").unlink()
    for name in ("old.h5", "old.log", "x/old.h5", ".q.h5.part", ".watch-night.part.state"):
        (here / "n" / name).write_bytes(b"x")
    options: dict[str, Any] = {"manifest": "n/proofs.jsonl", "exclude": ["*.log"], "delete": True}
    before = tree(here / "n")
    planned = mirror.plain("n", dry_run=True, **options)
    assert planned.deleted == ("a.h5", "old.h5", "x/old.h5")
    assert tree(here / "n") == before
    done = mirror.plain("n", **options)
    assert done.deleted == planned.deleted
    assert set(tree(here / "n")) == set(before) - set(done.deleted)
    assert (here / "n/proofs.jsonl").exists()


def test_what_the_door_can_not_show_is_not_deleted(door: Sandbox, here: Path) -> None:
    mirror.plain("n")
    door.deny("/n/x")
    (door.storage / "n/a.h5").unlink()
    with pytest.raises(PartialFailure, match="/n/x: Refused: The directory is shown") as why:
        mirror.plain("n", delete=True)
    tally = why.value.report
    assert tally.deleted == ("a.h5",)
    assert tally.kept == ("x/c.h5", "x/y/d.h5")
    assert [(t.path, t.local) for t in tally.failed] == [("/n/x", str(here / "n/x"))]
    with pytest.raises(PartialFailure, match="/n/x: Refused"):
        mirror.plain("n", dry_run=True)
    door.deny("/n")
    with pytest.raises(PartialFailure, match="/n: Refused") as why:
        mirror.plain("n", delete=True)
    assert why.value.report.deleted == ()
    assert set(tree(here / "n")) == set(FILES) - {"a.h5"}


@pytest.mark.parametrize("fault", ["garbage_xml", "empty207", "503", "truncate"])
def test_a_listing_that_can_not_be_read_deletes_nothing(
    door: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("CTAFLOWS_ATTEMPTS", "2")
    mirror.plain("n")
    (door.storage / "n/a.h5").unlink()
    door.faults.add(fault, times=None, method="PROPFIND", path="/n/x*")
    with pytest.raises(CtaflowsError) as why:
        mirror.plain("n", delete=True)
    if isinstance(why.value, PartialFailure):
        assert set(tree(here / "n")) >= set(FILES) - {"a.h5"}
        assert "x/c.h5" in why.value.report.kept
    else:
        assert tree(here / "n") == FILES


def test_nothing_is_deleted_if_a_file_failed(door: Sandbox, here: Path) -> None:
    mirror.plain("n")
    (here / "n/old.h5").write_bytes(b"x")
    (here / "n/a.h5").unlink()
    door.locality("/n/a.h5", "LOST")
    with pytest.raises(PartialFailure):
        mirror.plain("n", delete=True)
    assert (here / "n/old.h5").exists()


@pytest.mark.parametrize(("check", "is_mended"), [("proof", False), ("checksum", True)])
def test_how_closely_to_look(door: Sandbox, here: Path, check: Any, is_mended: bool) -> None:
    mirror.plain("n")
    file = here / "n/a.h5"
    about = file.stat()
    file.write_bytes(b"X" + FILES["a.h5"][1:])
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    mirror.plain("n", check=check)
    assert (file.read_bytes() == FILES["a.h5"]) is is_mended
    assert len(mirror.plain("n", check="size").moved) == 0


def test_what_can_not_be_mirrored(door: Sandbox, here: Path) -> None:
    with pytest.raises(NotFound):
        mirror.plain("nothing", delete=True)
    with pytest.raises(UsageError, match="That is a file"):
        mirror.plain("n/a.h5")
    assert list(here.iterdir()) == []


def test_from_the_command_line(door: Sandbox, here: Path) -> None:
    command = flow_command("mirror", mirror)
    shown = CliRunner().invoke(command, ["--help"]).output
    for option in ("--path", "--dest", "--include", "--delete", "--check", "--dry-run"):
        assert option in shown
    done = CliRunner().invoke(
        command, ["--no-track", "--path", "n", "--dest", "there", "--exclude", "*.log", "--json"]
    )
    assert done.exit_code == 0, done.output
    records = json.loads(done.stdout)
    assert {r["path"] for r in records} == {"/n/a.h5", "/n/x/c.h5", "/n/x/y/d.h5"}
    assert all(r["verified"] for r in records)


def test_outside_a_run_prefect_is_not_imported(door: Sandbox, here: Path) -> None:
    code = """
import sys
from ctaflows.flows.mirror import mirror
from ctaflows.flows.upload_results import upload_results
from ctaflows.flows.watch_night import watch_night
assert len(mirror("n").transfers) == 4
assert len(upload_results(["n"], "up").transfers) == 5
assert watch_night("20241114", polls=1).state == "absent"
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"prefect", "h5py", "matplotlib"}, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
