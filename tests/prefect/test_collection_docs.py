"""docs/collection.md: its flows are those of the file beside it, and each of them runs."""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nights import make_night

from ctaflows import block_profiles
from ctaflows.sandbox import Sandbox
from ctaflows.sandbox.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
FILE = DOCS / "examples/collection_flows.py"
NIGHT = "cta/DL1/20241114"
FIRST = f"{NIGHT}/v0.1/tailcut84/dl1_LST-1.Run11111.0000.h5"
STORAGE, LOGIN = "block:cta", "block:cta-credentials/me"

#: Flow, its parameters but for the profile, what it returns, and its task runs.
RUNS: list[tuple[str, dict[str, Any], Any, list[str]]] = [
    ("list_a_directory", {"path": NIGHT}, ["v0.1"], ["list-dir"]),
    ("find_first_subruns", {"night": NIGHT}, [f"/{FIRST}"], ["find"]),
    ("describe_file", {"path": FIRST}, re.compile(r"\d+ bytes, .*adler32.*"), ["stat"]),
    ("measure_night", {"night": NIGHT}, int, ["disk-usage"]),
    ("tell_night", {"date": "2024-11-14"}, "20241114 v0.1: 4 files", ["list-night"]),
    ("judge_night", {"date": "2024-11-14"}, re.compile("complete|growing"), ["look-at-night"]),
    ("fetch_one_file", {"path": FIRST, "dest": "."}, True, ["fetch-file"]),
    ("fetch_first_subruns", {"night": NIGHT, "dest": "firsts"}, 1, ["fetch-files", "find"]),
    (
        "fetch_and_verify",
        {"night": NIGHT, "dest": "night"},
        ["intact"] * 4,
        ["fetch-dir", "fetch-files", "list-tree", "verify-dir"],
    ),
    (
        "mirror_directory",
        {"path": f"{NIGHT}/v0.1/tailcut84", "dest": "firsts"},
        [],
        ["fetch-files", "list-tree", "prune-tree"],
    ),
    ("look_inside", {"path": FIRST, "dest": "."}, 140, ["fetch-file", "inspect-dl1"]),
    ("look_inside_many", {"folder": "."}, [], ["inspect-dl1-files"]),
    ("look_inside_there", {"path": FIRST}, 11111, ["inspect-remote-dl1"]),
    (
        "look_inside_many_there",
        {"folder": NIGHT},
        [140, 140],
        ["find", "inspect-remote-dl1-files"],
    ),
    (
        "draw_night",
        {"folder": "."},
        ["night.pdf", "night.html"],
        ["inspect-dl1-files", "plot-night", "write-page"],
    ),
    (
        "fetch_parameters",
        {"path": FIRST, "dest": "."},
        "dl1_LST-1.Run11111.0000.partial.h5",
        ["fetch-tables"],
    ),
    (
        "fetch_all_parameters",
        {"night": NIGHT, "dest": "parameters"},
        2,
        ["fetch-tables-of-files", "find"],
    ),
    (
        "upload_result",
        {"local": "result.txt", "folder": "lst/users/me"},
        True,
        ["make-dir", "upload-file"],
    ),
    ("upload_results", {"local": "results", "folder": "lst/users/me"}, 1, ["move", "upload-dir"]),
    ("upload_selected", {"local": "results", "folder": "lst/users/me"}, 1, ["upload-files"]),
    ("tidy_up", {"folder": "lst/users/me"}, int, ["remove"]),
    ("keep_login", {}, int, ["get-token-info", "keep-token"]),
    ("renew_login", {"copy_in": "access"}, int, ["refresh-token", "share-token"]),
    (
        "with_blocks",
        {"storage": "cta", "credentials": "me", "night": NIGHT, "dest": "blocks"},
        2,
        ["fetch-files", "find", "keep-token"],
    ),
    (
        "from_platform",
        {"service": "hub", "path": f"{NIGHT}/v0.1/tailcut84", "dest": "hub/"},
        True,
        ["fetch-file", "list-dir"],
    ),
]


@pytest.fixture
def flows(prefect_server: Any) -> Any:
    spec = importlib.util.spec_from_file_location("collection_flows", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def secrets(prefect_server: Any) -> Iterator[list[str]]:
    """A door and a hub, the blocks that stand for them, and all secrets that are in these."""
    from prefect.settings import PREFECT_RUNNER_HEARTBEAT_FREQUENCY, temporary_settings

    from ctaflows.blocks import CTACredentials, CTADownloadService, CTAStorage

    block_profiles.forget()
    with Sandbox() as box, Hub(box) as hub:
        make_night(box.storage, dt.date(2024, 11, 14), runs=(11111,), subruns=(2,))
        refresh_token, hub_token = box.tokens()["refresh_token"], hub.add_user("me@example.org")
        login = CTACredentials(
            issuer_url=box.issuer_url,
            client_id=box.client_id,
            client_secret=box.client_secret,
            refresh_token=refresh_token,
            ca_file=box.ca_file,
        )
        login.save("me", overwrite=True)
        CTAStorage(door_url=box.door_url, credentials=login).save("cta", overwrite=True)
        CTADownloadService(url=hub.downloadservice_url, token=hub_token, ca_file=box.ca_file).save(
            "hub", overwrite=True
        )
        # else each run of a synchronous flow waits for its heartbeat, 1 s
        with temporary_settings({PREFECT_RUNNER_HEARTBEAT_FREQUENCY: None}):
            yield [box.client_secret, refresh_token, hub_token]
    block_profiles.forget()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working folder of all runs."""
    folder = tmp_path / "collection"
    folder.mkdir()
    (folder / "result.txt").write_text("a result")
    (folder / "results").mkdir()
    (folder / "results/one.txt").write_text("one")
    return folder


def test_the_page_shows_the_file() -> None:
    text, file = (DOCS / "collection.md").read_text(), FILE.read_text()
    shown = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    parts = re.split(r"\n\n\n(?=@flow)", file.strip())
    assert parts[0].partition('"""\n\n')[2].strip() in [block.strip() for block in shown]
    assert parts[1:] == [block.strip() for block in shown if block.startswith("@flow")]


def test_each_task_has_its_flow() -> None:
    from ctaflows import tasks

    named = {name for *_, names in RUNS for name in names}
    assert {
        getattr(tasks, t).name for t in tasks.__all__ if hasattr(getattr(tasks, t), "name")
    } <= (named)
    assert [name for name, *_ in RUNS] == re.findall(r"@flow\ndef (\w+)", FILE.read_text())


@pytest.mark.slow
def test_each_flow_runs(
    prefect_server: Any,
    flows: Any,
    secrets: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All in one test, since some begin with what others left."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(folder / "home"))
    runs = {}
    for name, parameters, returned, _ in RUNS:
        flow = getattr(flows, name)
        if "profile" in flow.parameters.properties:
            parameters = {**parameters, "profile": LOGIN if "login" in name else STORAGE}
        state = flow(**parameters, return_state=True)
        assert state.is_completed(), (name, state.message)
        assert agrees(state.result(), returned), (name, state.result())
        runs[name] = state.state_details.flow_run_id
    for name, _, _, tasks in RUNS:
        made = prefect_server.task_runs(runs[name], len(tasks))
        assert sorted(t.name.rpartition("-")[0] for t in made) == tasks
        assert all(t.state.is_completed() for t in made)
        run = prefect_server.finished(runs[name])
        assert not [secret for secret in secrets if secret in str(run.parameters)]
    assert not [secret for secret in secrets if secret in caplog.text]
    with prefect_server.client as client:
        logs = str(client._client.post("/logs/filter", json={"limit": 200}).json())
        made = client._client.post("/artifacts/latest/filter", json={"limit": 200}).json()
    (census,) = [a for a in made if a["key"] == "night-20241114-census"]
    assert "1 runs, 2 subruns, 4 files" in census["data"]
    assert not [secret for secret in secrets if secret in logs]


def agrees(result: Any, wanted: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return wanted.fullmatch(result) is not None
    if isinstance(wanted, type):
        return isinstance(result, wanted) and result > 0
    return bool(result == wanted)
