"""What docstrings and comments refer to is there: a name that moved takes its mentions along."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import ctaflows

ROOT = Path(ctaflows.__file__).parent
FILES = sorted(file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*.py"))
#: Programs whose modules are cited.
OTHERS = ("ctapipe", "lstchain")


def dotted_name(file: str) -> str:
    """Return the module's name."""
    return "ctaflows." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


#: Modules, and classes in them, by their last names, as docstrings write them.
NAMED: dict[str, list[str]] = {}
for _file in FILES:
    _module = dotted_name(_file)
    NAMED.setdefault(_module.rpartition(".")[2], []).append(_module)
    for _node in ast.parse((ROOT / _file).read_text()).body:
        if isinstance(_node, ast.ClassDef):
            NAMED.setdefault(_node.name, []).append(f"{_module}.{_node.name}")


def is_there(dotted: str) -> bool:
    """Look for a module, or for a name in one, or in a class of one."""
    module = dotted.split(".")
    for end in range(len(module), 0, -1):
        try:
            thing = importlib.import_module(".".join(module[:end]))
        except ImportError:
            continue
        for name in module[end:]:
            fields = {*getattr(thing, "__annotations__", ()), *vars(thing).get("__slots__", ())}
            if not hasattr(thing, name) and name not in fields:
                return False
            thing = getattr(thing, name, None)
        return True
    return False


def references(file: str) -> list[str]:
    """Find what is written in single backquotes and has dots, in docstrings and comments."""
    text = (ROOT / file).read_text()
    return re.findall(r"(?<!`)`([A-Za-z_]\w*(?:\.\w+)+)`(?!`)", text)


@pytest.mark.parametrize("file", FILES)
def test_what_is_referred_to_is_there(file: str) -> None:
    own = dotted_name(file)
    missing = []
    for dotted in references(file):
        first, _, rest = dotted.partition(".")
        candidates = [dotted, f"{own}.{dotted}", f"ctaflows.{dotted}"]
        candidates += [f"{module}.{rest}" for module in NAMED.get(first, ())]
        if first not in OTHERS and not any(map(is_there, candidates)):
            missing.append(dotted)
    assert missing == []


def test_a_name_that_is_nowhere_is_found_out() -> None:
    assert not is_there("ctaflows.model.Nothing")
    assert not is_there("ctaflows.nowhere.at.all")
    assert is_there("ctaflows.model.Entry.path")
