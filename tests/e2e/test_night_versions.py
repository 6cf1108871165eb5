"""A night of several versions, from the command line: looked at, fetched, watched."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from nights import make_night

from ctaflows.cli.app import cli
from ctaflows.errors import CtaflowsError

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

DAY = dt.date(2024, 11, 14)


@pytest.fixture
def night(box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a night at the door, of two runs with three subruns each in v0.9."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    make_night(box.storage, DAY, version="v0.9", subruns=(3, 3), events=20)
    return box.storage / "cta/DL1/20241114"


def made_anew(night: Path, version: str, *patterns: str) -> None:
    """Put files of v0.9 into another version too."""
    for pattern in patterns:
        for file in sorted((night / "v0.9").rglob(pattern)):
            copy = night / version / file.relative_to(night / "v0.9")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)


def ctaflows(*words: str) -> Result:
    """Run a command in this process; an error gives the exit code that the script ends with."""
    done = CliRunner().invoke(cli, words)
    if isinstance(done.exception, CtaflowsError):
        done.exit_code = done.exception.exit_code
    elif not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return done


def look(*words: str) -> tuple[int, dict[str, Any]]:
    done = ctaflows("night", "20241114", "--json", *words)
    return done.exit_code, json.loads(done.stdout)[0]


def fetch(*words: str) -> Result:
    return ctaflows("run", "fetch-dl1", "--date", "20241114", "--no-inspect", *words)


def watch() -> Result:
    """Look twice, as a file must be seen two times alike; gives what the second look came to."""
    for _ in range(2):
        done = ctaflows("run", "watch-night", "--date", "20241114", "--no-inspect", "--polls", "1")
    return done


def in_place(here: Path) -> list[str]:
    return sorted(str(p.relative_to(here / "20241114")) for p in here.rglob("dl1_*.h5"))


def names(version: str, run: int, n_subruns: int = 3) -> list[str]:
    return [f"{version}/tailcut84/dl1_LST-1.Run{run}.{s:04d}.h5" for s in range(n_subruns)]


def test_a_night_with_a_single_run_made_anew_is_whole(night: Path) -> None:
    made_anew(night, "v0.10", "*Run11113*")
    code, census = look()
    assert (code, census["verdict"], census["n_subruns"]) == (0, "complete", 6)
    assert census["versions_used"] == ["v0.9", "v0.10"]
    assert [(r["run"], r["version"]) for r in census["runs"]] == [
        (11111, "v0.9"),
        (11113, "v0.10"),
    ]
    assert [d["run"] for d in census["doubles"]] == [11113, 11113]
    text = ctaflows("night", "20241114").stdout
    assert "Night 20241114 v0.9, v0.10" in text
    assert "v0.9 of run 11111; v0.10 of run 11113" in text
    assert "nothing has changed since" in text
    # one version alone, if it is asked for
    code, census = look("--version", "v0.10")
    assert (code, census["versions_used"], census["n_subruns"]) == (0, ["v0.10"], 3)


def test_its_files_lie_in_their_own_version_s_folder_and_are_moved_once(
    box: Sandbox, night: Path, here: Path
) -> None:
    made_anew(night, "v0.10", "*Run11113*")
    plan = fetch("--dry-run")
    assert "12 files to fetch" in plan.stdout
    assert "versions v0.9 of run 11111; v0.10 of run 11113" in plan.stdout
    first = fetch()
    assert first.exit_code == 0
    assert "12 of 12 files in place, 12 verified" in first.stdout
    assert in_place(here) == sorted(names("v0.9", 11111) + names("v0.10", 11113))
    assert "v0.9 of run 11111; v0.10 of run 11113" in next(here.rglob("*.html")).read_text()
    gets = sum(r.method == "GET" for r in box.requests)
    assert "nothing moved" in fetch().stdout
    assert sum(r.method == "GET" for r in box.requests) == gets
    verified = ctaflows("verify", "20241114/manifest.jsonl")
    assert verified.exit_code == 0, verified.output


def test_subruns_that_were_not_yet_made_anew_are_missing(night: Path, here: Path) -> None:
    made_anew(night, "v0.10", "*Run11113.0000*", "*Run11113.0001*")
    code, census = look()
    assert (code, census["missing"]) == (10, ["Run11113.0002"])
    assert census["only_older"] == {"Run11113.0002": "v0.9"}
    assert "missing      Run11113.0002 (in v0.9)" in ctaflows("night", "20241114").stdout
    done = fetch()
    assert "missing  Run11113.0002 (in v0.9)" in done.stdout
    assert "at door  incomplete" in done.stdout
    assert in_place(here) == sorted(names("v0.9", 11111) + names("v0.10", 11113, 2))
    assert "is incomplete" in watch().stdout
    assert look("--version", "v0.10")[0] == 0


def test_a_version_that_has_no_dl1_files_yet_hides_none(night: Path, here: Path) -> None:
    (night / "v0.10/interleaved").mkdir(parents=True)
    (night / "v0.10/interleaved/interleaved_LST-1.Run11111.0000.h5").write_bytes(b"x")
    done = ctaflows("night", "20241114")
    assert done.exit_code == 10  # run 11111 is being processed anew
    assert "incomplete: 2 runs, 6 subruns" in done.stdout
    assert "no DL1 in    v0.10" in done.stdout
    assert "missing      Run11111 (not yet in v0.10)" in done.stdout
    assert "12 of 12 files" in fetch().stdout
    assert ctaflows("night", "20241114", "--version", "v0.9").exit_code == 0


@pytest.mark.parametrize("kind", ["interleaved", "datacheck_dl1", "muons", None])
def test_a_night_without_any_dl1_file_is_not_complete(night: Path, here: Path, kind: str) -> None:
    shutil.rmtree(night / "v0.9")
    (night / "v0.10").mkdir()
    if kind:
        file = night / f"v0.10/{kind}_LST-1.Run11111.0000.h5"
        file.write_bytes(b"x")
        os.utime(file, (1.73e9, 1.73e9))
    done = ctaflows("night", "20241114")
    assert done.exit_code == 10
    assert "missing      any DL1 file" in done.stdout
    assert "incomplete: " in done.stdout
    for words in ((), ("--dry-run",), ("--exclude", "dl1_*")):
        assert fetch(*words).exit_code == 3
    assert in_place(here) == []
    text = watch().stdout
    assert "is incomplete" in text
    assert "any DL1 file" in text


def test_what_is_asked_for_comes_but_makes_no_night_without_dl1_files_complete(
    night: Path, here: Path
) -> None:
    shutil.rmtree(night / "v0.9/tailcut84")
    (night / "v0.9/muons_LST-1.Run11111.0000.fits").write_bytes(b"x")
    done = fetch("--include", "muons*")
    assert done.exit_code == 0
    assert "1 of 1 files in place" in done.stdout
    assert "missing  any DL1 file" in done.stdout


@pytest.mark.parametrize("name", ["v0.10_test", "v0.10-old", "v0.10.bak"])
def test_what_is_no_release_comes_only_if_it_is_asked_for_by_name(
    night: Path, here: Path, name: str
) -> None:
    made_anew(night, name, "*Run11113.0000*")
    assert look()[1]["versions_used"] == ["v0.9"]
    code, census = look("--version", name)
    assert (code, census["version"], census["n_subruns"]) == (0, name, 1)
    shutil.rmtree(night / "v0.9")
    done = ctaflows("night", "20241114")
    assert done.exit_code == 3
    assert name in str(done.exception.hint)
    assert fetch().exit_code == 3
    assert "is not there yet" in watch().stdout
    assert fetch("--version", name).exit_code == 0
    assert in_place(here) == names(name, 11113, 1)


def test_a_run_that_was_made_anew_since_comes_again_and_the_old_one_counts_no_more(
    night: Path, here: Path
) -> None:
    assert "is complete: 12 new, 12 here in all" in watch().stdout
    made_anew(night, "v0.10", "*Run11113*")
    assert "night 20241114 v0.9, v0.10 is complete: 6 new, 12 here in all" in watch().stdout
    (page,) = here.rglob("*.html")
    assert "12, " in page.read_text()
    assert page.read_text().count("dl1_LST-1.Run11113.0000.h5</td>") == 2, "and its datacheck"


def test_the_version_may_stand_above_other_folders(
    night: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTAFLOWS_NIGHT_PATH", "cta/DL1/{date}/{version}/tailcut84")
    (night / "v0.11").mkdir()  # without what comes below
    assert look()[0] == 0
    assert fetch().exit_code == 0
    single = [p.removeprefix("v0.9/tailcut84/") for p in names("v0.9", 11111)]
    assert in_place(here)[:3] == single
    shutil.rmtree(here / "20241114")
    made_anew(night, "v0.10", "*Run11113*")
    census = look()[1]
    assert census["versions_used"] == ["v0.9", "v0.10"]
    assert [d["places"] for d in census["doubles"]] == [["v0.10", "v0.9"]] * 2
    assert fetch().exit_code == 0
    assert in_place(here) == sorted(names("v0.9", 11111) + names("v0.10", 11113))
    assert "nothing moved" in fetch().stdout
