"""The command line as a person uses it: a real door, exit codes and words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import shell
from commands import fails, ok, run
from nights import make_night

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

NIGHT = "cta/DL1/20241114"
RUNS = "cta/DL1/20241114/v0.1/tailcut84"


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    import datetime as dt

    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 1))
    return here


@pytest.mark.parametrize(
    "words",
    [["--help"], ["ls", "--help"], ["get", "--help"], ["put", "--help"], ["stat", "--help"],
     ["inspect", "--help"], ["run", "--help"], ["run", "fetch-dl1", "--help"], ["flows", "--help"],
     ["token", "--help"], ["sandbox", "--help"], ["demo", "--help"]],
)  # fmt: skip
def test_help_teaches(words: list[str]) -> None:
    assert "Usage: ctaflows" in ok(*words)


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:9/api", 9, "no Prefect server answers: http://127.0.0.1:9/api"),
        ("http://[::1/api", 2, "Prefect's settings can't be used"),
    ],
)
def test_a_run_without_its_prefect_server_has_words(
    tmp_path: Path, url: str, code: int, said: str
) -> None:
    words = ("run", "fetch-dl1", "--date", "20241114")
    told = shell.fails(code, *words, PREFECT_API_URL=url, PREFECT_HOME=str(tmp_path))
    assert said in told
    assert "PREFECT_API_URL" in told
    assert "should not happen" not in told


@pytest.mark.parametrize("redirected", [">/dev/full", ">/dev/full 2>&1"])
def test_an_output_that_can_not_be_written_has_words_and_is_no_fault(redirected: str) -> None:
    command = f"{sys.executable} -m ctaflows flows {redirected}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    if "2>" not in redirected:
        assert "The output can't be written (said: No space left on device)" in done.stderr
        assert "What was done is done." in done.stderr
        assert "should not happen" not in done.stderr


def test_a_process_ends_as_its_command_does(night: Path) -> None:
    """Most tests here run commands in their own process; in one of its own each says the same."""
    path = f"{RUNS}/dl1_LST-1.Run11111.0000.h5"
    for code, words in {
        0: ["get", path, "other.h5"],
        2: ["gett"],
        3: ["ls", "nowhere"],
        10: ["stat", path, "nowhere"],
    }.items():
        alone, here = shell.run(*words), run(*words)
        assert (alone.returncode, here.returncode) == (code, code)
        if code:
            assert (alone.stdout, alone.stderr) == (here.stdout, here.stderr)


def test_ls(night: Path) -> None:
    assert ok("ls", NIGHT).split() == ["v0.1/"]
    found = ok("ls", "-r", NIGHT).split()
    assert "v0.1/tailcut84/dl1_LST-1.Run11111.0000.h5" in found
    entries = json.loads(ok("ls", "--json", RUNS))
    file = next(e for e in entries if e["path"].endswith("Run11111.0000.h5"))
    assert set(file) >= {"path", "type", "size_bytes", "mtime", "checksums"}
    assert "adler32:" in ok("ls", "-l", RUNS)


def test_ls_of_a_directory_that_shows_nothing(box: Sandbox, here: Path) -> None:
    """dCache lists one that can't be read as empty: it is asked for once more."""
    (box.storage / "empty").mkdir()
    done = run("ls", "empty")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "(/empty is empty)\n")
    assert json.loads(ok("ls", "--json", "empty")) == []
    box.put("/t/secret/a.h5", b"x")
    box.put("/t/b.h5", b"x")
    box.deny("/t/secret")
    done = run("ls", "t/secret")
    assert (done.returncode, done.stdout) == (5, "")
    assert "shown as empty, but can't be read" in done.stderr
    for words in (["ls", "-r", "t"], ["find", "t"], ["du", "t"]):
        done = run(*words)
        assert (done.returncode, "b.h5" in done.stdout or words[0] == "du") == (10, True)
        assert "/t/secret: Refused: The directory is shown as empty" in done.stderr
    assert run("find", "t", "--name", "none").returncode == 10
    box.deny("/t")
    assert run("find", "t/", "--name", "none").returncode == 5


def test_get_of_a_tree_with_a_directory_that_can_t_be_read(box: Sandbox, here: Path) -> None:
    box.put("/t/secret/a.h5", b"x")
    box.put("/t/b.h5", b"x")
    box.deny("/t/secret")
    done = run("get", "-r", "t", "there", "--json")
    assert done.returncode == 10
    records = {r["path"]: r["error"] for r in json.loads(done.stdout)}
    assert records["/t/b.h5"] is None
    assert "shown as empty, but can't be read" in records["/t/secret"]
    assert (here / "there/t/b.h5").read_bytes() == b"x"


def test_ls_into_a_pipe_that_closes(night: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m ctaflows ls -r cta | head -1",
        shell=True, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_stat(night: Path) -> None:
    path = f"{RUNS}/dl1_LST-1.Run11111.0000.h5"
    assert f"/{path}" in ok("stat", path)
    assert json.loads(ok("stat", "--json", path))[0]["checksums"].keys() == {"adler32"}


def test_get_one_file(night: Path) -> None:
    path = f"{RUNS}/dl1_LST-1.Run11111.0000.h5"
    ok("get", path)
    assert (night / "dl1_LST-1.Run11111.0000.h5").is_file()
    ok("get", path, "sub/")
    ok("get", path, "other.h5")
    assert (night / "sub/dl1_LST-1.Run11111.0000.h5").is_file()
    assert (night / "other.h5").is_file()
    record = json.loads(ok("get", "--json", path))[0]
    assert record["skipped"]
    assert record["verified"]
    assert set(record) >= {
        "path", "local", "size_bytes", "seconds", "checksum", "verified", "retries",
        "resumed_bytes", "error",
    }  # fmt: skip


def test_get_a_tree(night: Path) -> None:
    plan = ok("get", "-r", "-n", NIGHT, "there", "--exclude", "datacheck")
    assert plan.count("not here") == 3
    assert not (night / "there").exists()
    ok("get", "-r", NIGHT, "there", "--exclude", "datacheck")
    assert len(list((night / "there/20241114").rglob("*.h5"))) == 3
    assert "3 in place" in run("get", "-r", NIGHT, "there", "--exclude", "datacheck").stderr
    assert "in place" in ok("get", "-r", NIGHT, "there", "--exclude", "datacheck")


def test_get_in_part(box: Sandbox, night: Path) -> None:
    (box.storage / RUNS / "dl1_LST-1.Run11111.0000.h5").chmod(0)
    box.locality(f"/{RUNS}/dl1_LST-1.Run11111.0000.h5", "NEARLINE")
    done = run("get", "-r", RUNS, "--json", ".")
    assert done.returncode == 10
    records = json.loads(done.stdout)
    assert [r["error"] is None for r in records].count(False) == 1
    assert "1 of " in done.stderr


def test_a_single_file_fails_with_its_own_code(box: Sandbox, night: Path) -> None:
    path = f"{RUNS}/dl1_LST-1.Run11111.0000.h5"
    box.locality(f"/{path}", "NEARLINE")
    assert "tape" in fails(6, "get", path)
    (night / "file").write_text("x")
    fails(2, "get", f"{RUNS}/dl1_LST-1.Run11111.0001.h5", "file/a.h5")
    done = run("get", "--json", path)
    assert done.returncode == 6
    assert json.loads(done.stdout)[0]["error"].startswith("Nearline")


def test_put(box: Sandbox, here: Path) -> None:
    (here / "r.txt").write_text("results")
    ok("put", "r.txt", "lst/users/me/")
    assert (box.storage / "lst/users/me/r.txt").read_text() == "results"
    (here / "r.txt").write_text("others")
    assert "--overwrite" in fails(4, "put", "r.txt", "lst/users/me/")
    ok("put", "--overwrite", "r.txt", "lst/users/me/")
    (here / "d/e").mkdir(parents=True)
    (here / "d/e/f").write_text("f")
    fails(2, "put", "d", "lst/")
    ok("put", "-r", "d", "lst/")
    assert (box.storage / "lst/d/e/f").read_text() == "f"


def test_inspect(box: Sandbox, night: Path) -> None:
    file = str(box.storage / RUNS / "dl1_LST-1.Run11111.0001.h5")
    text = ok("inspect", file)
    assert "11111" in text
    assert "cosmic" in text
    record = json.loads(ok("inspect", "--json", file))[0]
    assert (record["run"], record["subrun"], record["layout"]) == (11111, 1, "lstchain")
    assert set(record) >= {
        "file", "layout", "level", "telescope", "run", "subrun", "n_events", "n_events_by_type",
        "time_first", "time_last", "duration_s", "rate_hz",
    }  # fmt: skip
    assert " m" in ok("inspect", "--tables", file)


@pytest.mark.usefixtures("without_pictures")
def test_run_the_night(night: Path) -> None:
    done = run("run", "fetch-dl1", "--date", "20241114", "--json")
    assert done.returncode == 0, done.stderr
    assert "not tracked by Prefect" in done.stderr
    records = json.loads(done.stdout)
    assert len(records) == 6
    assert all(r["verified"] for r in records)
    first = records[0]
    assert (first["run"], first["subrun"]) == (11111, 0)
    assert first["n_events"] == sum(first["n_events_by_type"].values())
    assert (night / "20241114/manifest.jsonl").is_file()
    assert (night / "20241114/v0.1/tailcut84/dl1_LST-1.Run11111.0000.h5").is_file()
    again = ok("run", "fetch-dl1", "--date", "2024-11-14")
    assert "nothing moved" in again


@pytest.mark.parametrize(
    ("words", "n_files"),
    [
        (["--run", "11111"], 4),
        (["--run", "11113", "--exclude", "datacheck"], 1),
        (["--subrun", "1-5"], 2),
        (["--include", "dl1_*"], 3),
        (["--version", "v0.1", "--include", "datacheck"], 3),
    ],
)
def test_run_selects(night: Path, words: list[str], n_files: int) -> None:
    out = ok("run", "fetch-dl1", "--date", "20241114", "--dry-run", "--json", *words)
    assert len(json.loads(out)) == n_files
    assert not (night / "20241114").exists()


def test_run_says_what_is_missing(box: Sandbox, night: Path) -> None:
    (box.storage / RUNS / "dl1_LST-1.Run11111.0000.h5").unlink()
    assert "missing  Run11111.0000" in ok("run", "fetch-dl1", "--date", "20241114", "--dry-run")
    out = ok("run", "fetch-dl1", "--date", "20241114", "--dry-run", "--run", "11113,11115")
    assert "missing  Run11115" in out


@pytest.mark.usefixtures("without_pictures")
def test_run_in_part(box: Sandbox, night: Path) -> None:
    (box.storage / RUNS / "dl1_LST-1.Run11111.0000.h5").write_text("<html>not here</html>")
    box.locality(f"/{RUNS}/dl1_LST-1.Run11111.0001.h5", "NEARLINE")
    done = run("run", "fetch-dl1", "--date", "20241114", "--json")
    assert done.returncode == 10
    errors = {r["path"].rpartition("/")[2]: r["error"] for r in json.loads(done.stdout)}
    assert errors["dl1_LST-1.Run11111.0000.h5"].startswith("NotHDF5")
    assert errors["dl1_LST-1.Run11111.0001.h5"].startswith("Nearline")
    assert sum(e is None for e in errors.values()) == 4
    assert "2 failed" in done.stderr


def test_bad_input_each_has_its_error(box: Sandbox, night: Path) -> None:
    assert "20241114" in fails(2, "run", "fetch-dl1", "--date", "yesterday")
    assert "no night 20241115" in fails(3, "run", "fetch-dl1", "--date", "20241115")
    assert "v9" in fails(3, "run", "fetch-dl1", "--date", "20241114", "--version", "v9")
    assert "11111" in fails(3, "run", "fetch-dl1", "--date", "20241114", "--run", "7")
    assert "backwards" in fails(2, "run", "fetch-dl1", "--date", "20241114", "--run", "9-7")
    (night / "file").write_text("x")
    assert "written" in fails(2, "run", "fetch-dl1", "--date", "20241114", "--dest", "file")
    assert "-r" in fails(2, "get", NIGHT)
    fails(2, "get")
    assert "Did you mean" in fails(2, "gett")
    fails(2, "ls", "../etc")
    fails(3, "ls", "nowhere")
    fails(2, "ls", "--profile", "nobody")
    assert "CTAFLOWS_TRANSFERS" in fails(2, "ls", CTAFLOWS_TRANSFERS="many")


def test_bad_files(box: Sandbox, night: Path) -> None:
    good = (box.storage / RUNS / "dl1_LST-1.Run11111.0000.h5").read_bytes()
    for name, data in {"cut.h5": good[:-5000], "page.h5": b"<html>", "empty.h5": b""}.items():
        (night / name).write_bytes(data)
        said = fails(7, "inspect", name)
        assert name in said
    fails(3, "inspect", "gone.h5")
    many = run("inspect", "cut.h5", str(box.storage / RUNS / "dl1_LST-1.Run11111.0001.h5"))
    assert many.returncode == 7
    assert "11111" in many.stdout


def test_a_wrong_token(box: Sandbox, night: Path) -> None:
    said = fails(5, "ls", NIGHT, BEARER_TOKEN="wrong", CTAFLOWS_TOKEN_SOURCE="auto")
    assert "token" in said
    expired = box.issue_token(lifetime_s=-5)
    said = fails(5, "ls", NIGHT, BEARER_TOKEN=expired, CTAFLOWS_TOKEN_SOURCE="auto")
    assert "expired" in said
    assert expired not in said
    assert "no token" in fails(5, "ls", NIGHT, CTAFLOWS_TOKEN_SOURCE="environment")


def test_a_door_that_is_away(box: Sandbox, night: Path) -> None:
    said = fails(9, "ls", NIGHT, CTAFLOWS_DOOR_URL="https://localhost:1", CTAFLOWS_ATTEMPTS="1")
    assert "localhost:1" in said


def test_token(night: Path) -> None:
    before = json.loads(ok("token", "status", "--json"))
    assert before["refreshable"]
    assert before["expires_in_s"] > 3000
    assert "sandbox-user" in ok("token", "refresh")


def test_flows_are_listed() -> None:
    names = [f["name"] for f in json.loads(ok("flows", "--json"))]
    assert names == ["fetch-dl1", "maintain-token", "mirror", "upload-results", "watch-night"]


def test_a_traceback_only_with_v(night: Path) -> None:
    done = shell.run("ls", "-v", "nowhere")
    assert done.returncode == 3
    assert "Traceback" in done.stderr


def test_sandbox_with_a_command() -> None:
    out = shell.ok(
        "sandbox", "--subruns", "1", "--fault", "503:1", "--",
        sys.executable, "-m", "ctaflows", "ls", "-r", "cta", "--json",
    )  # fmt: skip
    assert any(e["path"].endswith("Run11111.0000.h5") for e in json.loads(out))
    assert "fault" in fails(2, "sandbox", "--fault", "nonsense")
    assert "quirk" in fails(2, "sandbox", "--quirk", "nonsense=1")
    assert "reset" in ok("sandbox", "--list-faults")
    assert "redirect_reads=true" in ok("sandbox", "--list-quirks")


def test_sandbox_until_it_is_stopped(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ctaflows", "sandbox", "--json", "--subruns", "1"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            break
    config = json.loads(text)["config_dir"]
    assert "v0.1/" in ok("ls", NIGHT, CTAFLOWS_CONFIG_DIR=config)
    process.terminate()
    assert process.wait(120) == 0
    assert not os.path.exists(config)  # noqa: PTH110


def test_starting_is_light() -> None:
    code = (
        "import sys, ctaflows.cli; from ctaflows.cli.app import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'prefect', 'h5py', 'numpy', 'httpx', 'rich', 'matplotlib', 'jinja2'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("ctaflows.transport.client", {"rich", "h2", "pygments"}),
        ("ctaflows.ctadata.api", {"rich", "h2", "webdav4", "prefect"}),
        ("ctaflows.tasks.remote", {"prefect", "h5py"}),
    ],
)
def test_what_nobody_has_asked_for_is_not_loaded(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_listing_loads_neither_prefect_nor_h5py(night: Path) -> None:
    code = (
        "import sys\n"
        "from ctaflows import list_dir, fetch_file\n"
        f"assert [e.name for e in list_dir('{NIGHT}')] == ['v0.1']\n"
        f"fetch_file('{RUNS}/dl1_LST-1.Run11111.0000.h5')\n"
        "heavy = {'prefect', 'h5py', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_odd_terminals(night: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    file = f"{RUNS}/dl1_LST-1.Run11111.0000.h5"
    ok("get", file, "a.h5")
    shell.ok("inspect", "--tables", "a.h5", **ascii_only)
    shell.ok("run", "fetch-dl1", "--date", "20241114", **ascii_only)
    assert "\x1b" not in shell.run("ls", "nowhere", NO_COLOR="1", FORCE_COLOR="1").stderr
    for command in ("ls -r -l cta | head -1", "ls cta >&-", "ls nowhere 2>&-"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m ctaflows {command}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == (3 if "nowhere" in command else 0), command
        assert "Traceback" not in done.stderr


def test_files_get_the_same_names_in_a_locale_of_ascii(box: Sandbox, here: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name in ("ä.h5", "日本.h5"):
        box.put(f"/n/{name}", b"x" * 10)
    shell.ok("get", "-r", "n", "out", **ascii_only)
    shell.ok("get", "n/ä.h5", "one.h5", **ascii_only)
    names = {path.name for path in (here / "out" / "n").iterdir()}
    assert names == {"ä.h5", "日本.h5", "manifest.jsonl"}
    assert (here / "one.h5").read_bytes() == b"x" * 10
    library = (
        "import ctaflows\n"
        "from ctaflows.errors import UsageError\n"
        "try: ctaflows.fetch_file('n/\\u00e4.h5', 'lib/')\n"
        "except UsageError as why: print(ascii(why.said), why.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", library],
        env={**os.environ, **ascii_only}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "can't hold the name" in done.stdout, done.stderr
    assert "PYTHONUTF8" in done.stdout


def test_a_current_folder_that_was_removed_has_words(night: Path, tmp_path: Path) -> None:
    for words in ("get -r cta", "get cta/DL1 .", "put -r . up"):
        gone = tmp_path / "gone"
        script = f"mkdir {gone}; cd {gone}; rmdir {gone}; {sys.executable} -m ctaflows {words}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 2, (words, done.stderr)
        assert "should not happen" not in done.stderr


def test_patterns_that_match_nothing(night: Path) -> None:
    assert "No file matches" in fails(3, "get", "-r", NIGHT, "out", "--include", "zzz*")


def test_a_destination_that_can_not_be_looked_at(night: Path) -> None:
    file = f"{RUNS}/dl1_LST-1.Run11111.0000.h5"
    assert "can't be written" in fails(2, "get", file, "x" * 300)
    assert "can't be written" in fails(2, "get", "-r", NIGHT, "x" * 300)


def test_a_door_with_a_path(box: Sandbox, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All paths are relative to it, in commands, output and records."""
    box.put("/area/n/a b.h5", b"x" * 1000)
    box.put("/beside/c.h5", b"x")
    area = f"{box.door_url}/area"
    monkeypatch.setenv("CTAFLOWS_DOOR_URL", area)
    assert ok("ls") == "n/\n"
    assert ok("ls", "-r", f"{area}/n") == "a b.h5\n"
    ok("get", "-r", "n", "there")
    records = [json.loads(line) for line in (here / "there/n/manifest.jsonl").open()]
    assert [r["path"] for r in records if "path" in r] == ["/n/a b.h5"]
    (here / "night").mkdir()
    for number in range(12):  # so many that they go up in one thread
        (here / f"night/{number}.h5").write_bytes(b"%d" % number)
    ok("put", "-r", "night", "up")
    assert (box.storage / "area/up/night/7.h5").read_bytes() == b"7"
    ok("mv", "up/night/7.h5", "n/")
    assert (box.storage / "area/n/7.h5").read_bytes() == b"7"
    ok("rm", "-r", "-y", "up")
    assert sorted(p.name for p in (box.storage / "area").iterdir()) == ["n"]
    assert "not below this profile's door" in fails(2, "ls", f"{box.door_url}/beside")
    assert "nothing at this path" in fails(3, "ls", "beside")
