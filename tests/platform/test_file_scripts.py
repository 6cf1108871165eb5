"""Files by ctadata's scripts: what they print, and how they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from scripts import alone, fails, ok, run

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.hub import Hub

OWN = "lst/users/jane_doe__example_org/"
BASES = {"ctadata": OWN, "cta-data": "", "cta-data-direct": ""}

each = pytest.mark.parametrize("script", BASES)


@pytest.fixture(autouse=True)
def files(box: Sandbox, hub: Hub, token: str, here: Path) -> None:
    box.put("/lst/data/a.h5", b"a" * 1000)
    box.put("/lst/data/sub/b.h5", b"b")
    (here / "d/sub").mkdir(parents=True)
    (here / "d/x").write_bytes(b"1")
    (here / "d/sub/y").write_bytes(b"22")


@each
def test_get(script: str, here: Path) -> None:
    assert ok(script, "get", "lst/data/a.h5") == "verified   a.h5\n"
    assert ok(script, "get", "lst/data/a.h5") == "in place   a.h5\n"
    top = "lst/data" if script == "ctadata" else "data"
    assert ok(script, "get", "-r", "lst/data") == (
        f"verified   {top}/a.h5\nverified   {top}/sub/b.h5\n"
    )
    assert (here / top / "sub/b.h5").read_bytes() == b"b"


@each
def test_put(script: str, box: Sandbox) -> None:
    base = BASES[script]
    assert json.loads(ok(script, "put", "d/x", "f/")) == {
        "path": f"{base}f/x", "status": "uploaded", "total_written": 1,
    }  # fmt: skip
    lines = ok(script, "put", "--recursive", "d", "t").splitlines()
    assert sorted(json.loads(line)["path"] for line in lines) == [f"{base}t/sub/y", f"{base}t/x"]
    assert (box.storage / base / "t/sub/y").read_bytes() == b"22"
    assert "-r" in fails(2, script, "put", "d", "t")


@each
def test_errors_end_in_a_code(script: str, here: Path) -> None:
    done = alone(script, "list", "nowhere")
    assert (done.returncode, done.stderr) == (3, fails(3, script, "list", "nowhere"))
    fails(3, script, "get", "nowhere")
    fails(3, script, "get", "-r", "nowhere")
    fails(2, script, "get", "lst/data")
    fails(2, script, "put", "nothing", "x")
    fails(2, script, "list")
    fails(2, script, "nonsense")
    assert {p.name for p in here.iterdir()} == {"d"}


def test_wrong_tokens_end_in_a_code(box: Sandbox) -> None:
    assert "JupyterHub token" in fails(5, "ctadata", "list", "lst", JUPYTERHUB_API_TOKEN="e" * 32)
    env = {"CTAFLOWS_TOKEN_SOURCE": "environment", "BEARER_TOKEN": "nonsense"}
    assert "401" in fails(5, "cta-data", "list", "lst", **env)


def test_servers_that_are_down_end_in_a_code() -> None:
    done = run("ctadata", "list", "lst", CTADS_URL="https://localhost:1/")
    assert done.returncode == 9
    done = run("cta-data-direct", "list", "lst", CTAFLOWS_DOOR_URL="https://localhost:1")
    assert done.returncode == 9


def test_some_of_many_end_in_a_code(hub: Hub, box: Sandbox) -> None:
    hub.troubles.add("short", "*a.h5", times=None)
    done = run("ctadata", "get", "-r", "lst/data")
    assert done.returncode == 10
    assert done.stdout == "failed     lst/data/a.h5\nverified   lst/data/sub/b.h5\n"
    assert "1 of 2 files failed" in done.stderr
    box.locality("/lst/data/a.h5", "NEARLINE")
    assert run("cta-data", "get", "-r", "lst/data").returncode == 10


@each
def test_help_and_version(script: str) -> None:
    done = alone(script, "--help")
    assert done.returncode == 0
    assert done.stdout == ok(script, "--help")
    assert done.stdout.startswith(f"Usage: {script} ")
    assert ok(script, "-h") == ok(script, "--help")
    assert script in ok(script, "--version")


def test_all_commands_are_there() -> None:
    commands = {
        "ctadata": "list get put upload-shared-certificate upload-personal-certificate",
        "cta-data": "list get put start-agent stop-agent print-token upload-shared-certificate "
        "upload-personal-certificate",
        "cta-data-direct": "list get put start-agent get-token",
    }
    for script, names in commands.items():
        for name in names.split():
            assert ok(script, name, "--help").startswith(f"Usage: {script} {name} ")
