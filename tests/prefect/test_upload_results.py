"""The flow upload-results: what goes where, the proofs, and what becomes of failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ctaflows.cli.run import flow_command
from ctaflows.errors import NotFound, PartialFailure, UsageError
from ctaflows.flows.upload_results import upload_results
from ctaflows.transfer.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

FILES = {
    "dl2.h5": b"first " * 5_000,
    "run.log": b"second " * 10,
    "plots/theta2.pdf": b"third " * 20_000,
}


@pytest.fixture
def results(here: Path) -> Path:
    """A folder of three files, and one beside it."""
    for name, data in FILES.items():
        (here / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "results" / name).write_bytes(data)
    (here / "spectrum.ecsv").write_bytes(b"# %ECSV 1.0")
    return here / "results"


def there(box: Sandbox, path: str) -> dict[str, bytes]:
    folder = box.storage / path
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def puts(box: Sandbox) -> int:
    return sum(r.method == "PUT" for r in box.requests)


def newest(server: Any) -> Any:
    return max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)


# tracked -----------------------------------------------------------------------------------------


def test_an_upload_is_tracked_and_moves_nothing_twice(
    prefect_server: Any, box: Sandbox, results: Path
) -> None:
    tally = upload_results.tracked(["results", "spectrum.ecsv"], "users/me")
    wanted = {f"results/{name}": data for name, data in FILES.items()}
    wanted["spectrum.ecsv"] = b"# %ECSV 1.0"
    assert there(box, "users/me") == wanted
    assert "4 of 4 files in place, 4 verified, 4 moved" in tally.verdict()
    run = newest(prefect_server)
    assert (run.name, run.state.name) == ("upload-results-users/me", "Completed")
    (task,) = prefect_server.task_runs(run.id, 1)
    assert task.name == "upload dl2.h5 to spectrum.ecsv, 4 files"
    assert task.state.name == "Completed"
    manifest = results.with_name("results.upload.jsonl")
    assert tally.manifest == str(manifest)
    assert [v.verdict for v in verify(manifest)] == ["intact"] * 4

    sent = puts(box)
    again = upload_results.tracked(["results", "spectrum.ecsv"], "users/me")
    assert all(t.skipped for t in again.transfers)
    assert puts(box) == sent
    assert there(box, "users/me") == wanted


def test_many_files_are_few_task_runs(prefect_server: Any, box: Sandbox, here: Path) -> None:
    (here / "many").mkdir()
    for i in range(120):
        (here / f"many/{i:03d}").write_bytes(b"%d" % i)
    upload_results.tracked(["many"], "up")
    run = newest(prefect_server)
    assert len(prefect_server.task_runs(run.id, 2)) == 2
    assert len(there(box, "up/many")) == 120


def test_some_files_fail_and_the_next_run_mends_it(
    prefect_server: Any, box: Sandbox, results: Path
) -> None:
    box.faults.add("403", times=None, method="PUT", path="*theta2*")
    with pytest.raises(PartialFailure, match="1 failed") as why:
        upload_results.tracked(["results"], "up")
    assert why.value.exit_code == 10
    run = newest(prefect_server)
    assert run.state.name == "Failed"
    assert "theta2" in run.state.message
    assert set(there(box, "up/results")) == {"dl2.h5", "run.log"}
    manifest = results.with_name("results.upload.jsonl")
    assert [v.verdict for v in verify(manifest)].count("failed") == 1
    box.faults.clear()
    tally = upload_results.tracked(["results"], "up")
    assert [t.path for t in tally.moved] == ["/up/results/plots/theta2.pdf"]
    assert [v.verdict for v in verify(manifest)] == ["intact"] * 3


def test_its_parameters_make_a_form(prefect_server: Any) -> None:
    schema = upload_results.parameters
    assert schema.required == ["local", "path"]
    assert schema.properties["local"]["items"] == {"type": "string"}
    assert all(field.get("description") for field in schema.properties.values())


# plain -------------------------------------------------------------------------------------------


def test_another_file_is_replaced_on_request_alone(box: Sandbox, results: Path) -> None:
    box.put("/up/results/dl2.h5", b"older")
    with pytest.raises(PartialFailure, match="AlreadyExists"):
        upload_results.plain(["results"], "up")
    assert there(box, "up/results") == FILES | {"dl2.h5": b"older"}
    upload_results.plain(["results"], "up", overwrite=True)
    assert there(box, "up/results") == FILES


def test_only_what_is_wanted_goes(box: Sandbox, results: Path) -> None:
    planned = upload_results.plain(["results"], "up", exclude=["*.log"], dry_run=True)
    assert {t.path for t in planned.transfers} == {
        "up/results/dl2.h5",
        "up/results/plots/theta2.pdf",
    }
    assert planned.verdict().startswith("dry run: 2 files to move")
    assert not (box.storage / "up").exists()
    assert not results.with_name("results.upload.jsonl").exists()
    upload_results.plain(["results"], "up", include=["*.h5", "*.pdf"], exclude=["plots"])
    assert set(there(box, "up/results")) == {"dl2.h5"}


def test_proofs_of_what_was_there_before_are_kept_too(box: Sandbox, results: Path) -> None:
    box.put("/up/results/dl2.h5", FILES["dl2.h5"])
    tally = upload_results.plain(["results"], "up", manifest="results/proofs.jsonl")
    assert [t.path for t in tally.transfers if t.skipped] == ["/up/results/dl2.h5"]
    lines = (results / "proofs.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert len(verify(results / "proofs.jsonl")) == 3
    sizes = []
    for _ in range(2):
        again = upload_results.plain(["results"], "up", manifest="results/proofs.jsonl")
        assert len(again.transfers) == 3, "the manifest itself is not uploaded"
        sizes.append((results / "proofs.jsonl").stat().st_size)
    assert sizes[0] == sizes[1], "it does not grow for nothing"
    assert [v.verdict for v in verify(results / "proofs.jsonl")] == ["intact"] * 3


def test_a_link_keeps_its_own_name(box: Sandbox, here: Path, results: Path) -> None:
    (here / "latest.h5").symlink_to(results / "dl2.h5")
    upload_results.plain(["latest.h5", "results/../spectrum.ecsv"], "up/")
    assert there(box, "up") == {"latest.h5": FILES["dl2.h5"], "spectrum.ecsv": b"# %ECSV 1.0"}


@pytest.mark.parametrize(
    ("local", "error"),
    [
        ([], UsageError),
        (["nothing"], NotFound),
        (["results", "nothing"], NotFound),
        (["results/dl2.h5", "other/dl2.h5"], UsageError),
    ],
)
def test_what_can_not_be_uploaded(
    box: Sandbox, here: Path, results: Path, local: list[str], error: type[Exception]
) -> None:
    (here / "other").mkdir()
    (here / "other/dl2.h5").write_bytes(b"x")
    with pytest.raises(error):
        upload_results.plain(local, "up")
    with pytest.raises(NotFound, match="no file to upload"):
        upload_results.plain(["results"], "up", include=["*.root"])
    assert not (box.storage / "up").exists()


def test_from_the_command_line(box: Sandbox, results: Path) -> None:
    done = CliRunner().invoke(
        flow_command("upload-results", upload_results),
        ["--no-track", "--local", "results", "--local", "spectrum.ecsv", "--path", "up", "--json"],
    )
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)) == 4
    assert len(there(box, "up")) == 4
    missing = CliRunner().invoke(flow_command("upload-results", upload_results), ["--path", "up"])
    assert missing.exit_code == 2
    assert "--local" in missing.output
