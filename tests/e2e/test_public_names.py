"""What users build on does not change unseen: names, calls, options, JSON keys, variables.

``public-names.json`` beside this file holds them. A change that is meant is written by
``WRITE_PUBLIC_NAMES=1 pytest tests/e2e/test_public_names.py``, and told in CHANGELOG.md.
"""

from __future__ import annotations

import datetime as dt
import importlib
import importlib.metadata
import inspect
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from commands import ctaflows
from nights import make_night

import ctaflows as package
from ctaflows import settings
from ctaflows.cli import app
from ctaflows.cli import ctadata as ctadata_scripts

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox

FILE = Path(__file__).with_name("public-names.json")
SOURCES = Path(package.__file__).parent
MODULES = ("ctaflows", "ctaflows.tasks", "ctaflows.blocks", "ctaflows.ctadata",
           "ctaflows.ctadata.direct")  # fmt: skip
VARIABLE = re.compile(r"\b(?:CTAFLOWS|CTADS|CTACS|JUPYTERHUB|BEARER)_[A-Z0-9_]*[A-Z0-9]\b")


def agrees(key: str, now: Any) -> None:
    """Compare with what was written down, or write it down."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("WRITE_PUBLIC_NAMES"):
        FILE.write_text(json.dumps({**known, key: now}, indent=1, sort_keys=True) + "\n")
    else:
        assert now == known[key]


@pytest.mark.parametrize("name", MODULES)
def test_names(name: str) -> None:
    agrees(f"names of {name}", sorted(importlib.import_module(name).__all__))


@pytest.mark.parametrize("name", ["ctaflows.tasks", "ctaflows.ctadata"])
def test_calls(name: str) -> None:
    module = importlib.import_module(name)
    calls = {}
    for attribute in module.__all__:
        value = getattr(module, attribute)
        value = getattr(value, "fn", value)
        if callable(value) and not inspect.isclass(value):
            parameters = inspect.signature(value).parameters.values()
            calls[attribute] = [str(p).split(":")[0].split("=")[0].strip() for p in parameters]
    agrees(f"calls of {name}", calls)


def options_of(command: click.Command, path: str) -> dict[str, list[str]]:
    """Name the arguments and options of a command and of those in it."""
    found = {path: sorted("/".join((*p.opts, *p.secondary_opts)) for p in command.params)}
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            found |= options_of(inner, f"{path} {name}")
    return found


def test_commands_and_options() -> None:
    scripts = {
        "ctaflows": app.cli,
        "ctadata": ctadata_scripts.ctadata,
        "cta-data": ctadata_scripts.cta_data,
    }
    for name, command in scripts.items():
        agrees(f"options of {name}", options_of(command, name))


def test_entry_points() -> None:
    found = importlib.metadata.distribution("ctaflows").entry_points
    agrees("entry points", sorted(f"{e.group}: {e.name}" for e in found))


def test_environment_variables() -> None:
    texts = [p.read_text() for p in SOURCES.rglob("*.py") if "sandbox" not in p.parts]
    named = {name for text in texts for name in VARIABLE.findall(text)}
    agrees("environment", sorted(named | {settings.variable(key) for key in settings._FIELDS}))


def keys(value: Any) -> Any:
    """Replace the values of JSON by the keys they have, of lists by those of all items."""
    if isinstance(value, dict):
        return {k: keys(v) for k, v in value.items()}
    if isinstance(value, list):
        merged: dict[str, Any] = {}
        for item in map(keys, value):
            merged |= item if isinstance(item, dict) else {}
        return [merged] if merged else []
    return None


@pytest.mark.usefixtures("without_pictures")
def test_json_keys(box: Sandbox, here: Path) -> None:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 2), events=50)
    subrun = "cta/DL1/20241114/v0.1/tailcut84/dl1_LST-1.Run11111.0000.h5"
    (here / "up.h5").write_bytes(b"x")
    commands = {
        "ls": ["ls", "-r", "cta"],
        "find": ["find", "cta", "--name", "*.0000.h5"],
        "stat": ["stat", subrun],
        "du": ["du", "cta"],
        "get": ["get", subrun],
        "put": ["put", "up.h5", "up/"],
        "mkdir": ["mkdir", "made"],
        "mv": ["mv", "up/up.h5", "made/"],
        "rm": ["rm", "made/up.h5"],
        "inspect": ["inspect", Path(subrun).name],
        "check": ["check", Path(subrun).name],
        "night": ["night", "20241114"],
        "fetch-dl1": ["run", "fetch-dl1", "--date", "20241114"],
        "mirror": ["run", "mirror", "--path", "cta/DL1/20241114/v0.1/tailcut84/datacheck"],
        "verify": ["verify", "20241114"],
        "flows": ["flows"],
        "token": ["token", "status"],
    }
    found = {}
    for name, words in commands.items():
        done = ctaflows(*words, "--json")
        assert done.code in (0, 11), (words, done)
        found[name] = keys(json.loads(done.out))
    agrees("JSON keys", found)


def test_lines_of_a_manifest(box: Sandbox, here: Path) -> None:
    box.put("/n/a.h5", b"x")
    assert ctaflows("get", "-r", "n", ".").code == 0
    lines = (here / "n/manifest.jsonl").read_text().splitlines()
    agrees("manifest", [list(json.loads(line)) for line in lines])
