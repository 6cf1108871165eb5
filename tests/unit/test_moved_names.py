"""What the documentation of 0.1 taught to import goes on working, and says where it is now."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from ctaflows._moved import MOVED

TAUGHT = [
    ("ctaflows.artifacts", "publish_census"),
    ("ctaflows.artifacts", "publish_night"),
    ("ctaflows.dl1.checks", "remarks"),
    ("ctaflows.dl1.figures", "pictures_of"),
    ("ctaflows.dual", "Dual"),
    ("ctaflows.flow", "flow"),
    ("ctaflows.sealed", "Sealed"),
    ("ctaflows.storage.door", "Door"),
    ("ctaflows.task", "task"),
]


@pytest.mark.parametrize(("module", "name"), TAUGHT)
def test_an_old_name_is_the_new_thing(module: str, name: str) -> None:
    sys.modules.pop(module, None)
    with pytest.warns(DeprecationWarning, match=rf"{module} is {MOVED[module][0]} now"):
        old = importlib.import_module(module)
    new, names = MOVED[module]
    assert getattr(old, name) is getattr(importlib.import_module(new), names.get(name, name))
    assert name in dir(old)
    assert name in old.__all__, "for a star import"


def test_the_warning_names_a_class_that_is_called_something_else() -> None:
    sys.modules.pop("ctaflows.storage.door", None)
    with pytest.warns(DeprecationWarning, match="and Door in it WebDAVStorage"):
        importlib.import_module("ctaflows.storage.door")


def test_nothing_else_is_found() -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        importlib.import_module("ctaflows.nowhere")
    old = importlib.import_module("ctaflows.artifacts")
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = old.no_such_thing


@pytest.mark.parametrize(
    "words",
    [
        "from ctaflows.sandbox import Quirks, Sandbox",
        "from ctaflows.filesystem import CtaFileSystem",
        "from ctaflows.errors import CtaflowsError, PartialFailure",
        "from ctaflows.model import Checksum, Entry, Report, Transfer",
        "from ctaflows.tasks.pictures import plot_night, write_page",
        "from ctaflows.sandbox.night import make_night",
    ],
)
def test_what_has_not_moved_warns_of_nothing(words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_warning_is_shown_where_the_import_stands() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from ctaflows.dl1.checks import remarks"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "<string>:1: DeprecationWarning: ctaflows.dl1.checks is" in done.stderr
