"""The download service as a profile: every task serves it, or says that the service can't."""

from __future__ import annotations

import json
import os
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ctaflows import ctadata, tasks
from ctaflows.errors import AuthError, PartialFailure, TokenMissing, UsageError
from ctaflows.storage.connect import connect
from ctaflows.tasks.transfers import plan_uploads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.hub import Hub

OWN = "lst/users/jane_doe__example_org"
DATA = bytes(range(256)) * 2000
ON = {"profile": "platform"}


@pytest.fixture(autouse=True)
def files(box: Sandbox, hub: Hub, token: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTAFLOWS_CA_FILE", str(box.ca_file))
    box.put("/lst/data/run.h5", DATA)
    box.put("/lst/data/sub/deep/a b%.h5", b"deep")
    box.put("/lst/data/sub/empty", b"")
    (here / "local").write_bytes(DATA)


def asked(hub: Hub) -> list[str]:
    return [f"{r.method} {r.path.removeprefix('/services/downloadservice/')}" for r in hub.requests]


# -- looking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "lst", "lst/data/run.h5", "lst/data/sub/../run.h5"])
def test_one_small_answer_describes_a_path(path: str, hub: Hub) -> None:
    entry = tasks.stat(path, **ON)
    assert entry.path == "/" + os.path.normpath(path).strip("/")
    assert entry.is_dir is (not path.endswith("h5"))
    assert [a.split()[0] for a in asked(hub)] == ["PROPFIND"]


def test_what_is_not_there_does_not_cost_the_checksums(hub: Hub) -> None:
    storage = connect("platform")
    assert [storage.exists(f"lst/nowhere{n}") for n in range(5)] == [None] * 5
    assert tasks.stat("lst/data/run.h5", **ON).checksums


# -- moving ----------------------------------------------------------------------------------------


def test_ranges_are_not_even_tried(box: Sandbox, hub: Hub, here: Path) -> None:
    with box.put("/lst/data/large.h5", DATA).open("r+b") as stream:
        stream.truncate(70 << 20)
    assert tasks.fetch_file("lst/data/large.h5", **ON).size_bytes == 70 << 20
    assert sum(a.startswith("GET fetch/") for a in asked(hub)) == 1
    assert {p.name for p in here.iterdir()} == {"large.h5", "local"}


def test_nothing_is_replaced_unasked(hub: Hub, here: Path) -> None:
    """The service replaces what is there, and says only afterwards where that was."""
    (here / "d").mkdir()
    (here / "d/a").write_bytes(b"1")
    calls: list[Callable[[], Any]] = [
        lambda: tasks.upload_file("local", "x", **ON),
        lambda: tasks.upload_dir("d", "x", **ON),
    ]
    for call in calls:
        with pytest.raises((UsageError, PartialFailure), match="replaces what is there"):
            call()
    assert asked(hub) == []
    planned = [plan_uploads([("local", "x")], overwrite=o, **ON)[0].note for o in (True, False)]
    assert planned == ["upload: it may be there", "refuse: it may be there"]
    assert asked(hub) == []


# -- what it can't ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: tasks.move("lst/data/run.h5", "lst/data/x", **ON), "move files"),
        (lambda: tasks.remove("lst/data/run.h5", **ON), "remove files"),
        (lambda: tasks.remove("lst/data", recursive=True, **ON), "remove files"),
        (lambda: tasks.make_dir("lst/data/x", **ON), "make directories"),
        (lambda: tasks.open_remote("lst/data/run.h5", **ON), "read parts of a file"),
        (lambda: tasks.fetch_tables("lst/data/run.h5", tables=["x"], **ON), "read parts of a file"),
        (lambda: tasks.inspect_remote_dl1("lst/data/run.h5", **ON), "read parts of a file"),
    ],
)
def test_what_the_service_can_not(call: Callable[[], Any], what: str) -> None:
    with pytest.raises(UsageError, match=f"The download service can't {what}") as why:
        call()
    assert why.value.hint is not None
    assert "--profile cscs" in why.value.hint


# -- one storage for the same settings -------------------------------------------------------------


def test_connections_are_kept(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    client = ctadata.APIClient()
    assert connect("platform") is connect("platform")
    assert connect(client.profile_name()) is connect(client.profile_name())
    before = connect("platform")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", hub.add_user("other"))
    assert connect("platform") is not before, "another token is another person"


def test_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", " ")
    with pytest.raises(TokenMissing, match="JupyterHub token") as why:
        tasks.list_dir("lst", **ON)
    assert "JUPYTERHUB_API_TOKEN" in (why.value.hint or "")


def test_a_client_is_a_profile_whose_secrets_are_in_no_text(hub: Hub, token: str) -> None:
    client = ctadata.APIClient()
    client.token = token  # type: ignore[assignment]
    assert [e.name for e in tasks.list_dir("lst", profile=client.profile_name())] == ["data"]
    texts = [client.profile_name(), repr(client), repr(client.as_profile())]
    texts += [repr(connect(client.profile_name()).settings), str(vars(client).keys())]
    assert all(token not in text for text in texts)
    client.token = f"{token} {token}"  # type: ignore[assignment]
    with pytest.raises(AuthError) as why:
        tasks.list_dir("lst", profile=client.profile_name())
    assert token not in f"{why.value}{vars(why.value)}"


# -- ctadata's dictionaries ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "lst", "lst/data/sub/deep", "lst/odd", "lst/data/run.h5"])
def test_dictionaries_are_the_services_own(path: str, box: Sandbox, hub: Hub, token: str) -> None:
    for name in ("a b%.h5", "é+&=;,:@.h5", "~tilde'()!*", "[x]#?", "empty"):
        file = box.put(f"/lst/odd/{name}", b"" if name == "empty" else name.encode())
        when = datetime(2024, 11, 4, 5, 6, 7, tzinfo=UTC).timestamp()
        os.utime(file, (when, when))
    answer = httpx.get(
        f"{hub.downloadservice_url}list/{path}".rstrip("/"),
        headers={"Authorization": f"Bearer {token}"},
        verify=ssl.create_default_context(cafile=str(box.ca_file)),
    )
    theirs = {json.dumps(entry, sort_keys=True) for entry in answer.json()}
    found: list[Any] = ctadata.list_dir(path)
    assert {json.dumps(entry, sort_keys=True) for entry in found} == theirs
    assert found[0] == answer.json()[0], "itself is the first"


def test_symbolic_links_are_what_they_lead_to(box: Sandbox, here: Path) -> None:
    box.put("/lst/far/a.h5", b"a")
    for name, target in (("one.h5", "/lst/far/a.h5"), ("dir", "/lst/far"), ("lost", "/lst/gone")):
        box.link(f"/lst/user/{name}", target)
    found = {entry.name: entry for entry in tasks.list_dir("lst/user", **ON)}
    leads_to = {"one.h5": "file", "dir": "directory", "lost": "nothing"}
    assert {name: entry.link for name, entry in found.items()} == leads_to
    assert found["one.h5"].size_bytes == 1
    assert [e.name for e in tasks.find("lst/user", follow=True, **ON)] == ["one.h5", "a.h5"]
    tasks.fetch_dir("lst/user", here, follow=True, **ON)
    assert (here / "user/dir/a.h5").read_bytes() == b"a"
