"""What docstrings, comments and docs/dcache.md name is there: a name takes its mentions along."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import ctaflows

ROOT = Path(ctaflows.__file__).parent
CHECKOUT = Path(__file__).parents[2]
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


# docs/dcache.md: what servers do, where it is dealt with, and which test shows it

SERVERS = (CHECKOUT / "docs/dcache.md").read_text()
ROWS = [line for line in SERVERS.splitlines() if line.startswith("|") and "---" not in line]
BEHAVIOURS = [row for row in ROWS if not row.startswith("| behaviour |")]


def missing_names(text: str) -> list[str]:
    """Find the names of ours that nothing has."""
    return [name for name in re.findall(r"`(ctaflows(?:\.\w+)+)`", text) if not is_there(name)]


def missing_tests(text: str) -> list[str]:
    """Find the tests that no file has; none is collected or run for it."""
    missing = []
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        path = CHECKOUT / file
        nodes = ast.walk(ast.parse(path.read_text())) if path.is_file() else ()
        if not any(isinstance(node, ast.FunctionDef) and node.name == name for node in nodes):
            missing.append(f"{file}::{name}")
    return missing


def test_what_the_page_of_servers_names_is_there() -> None:
    assert missing_names(SERVERS) + missing_tests(SERVERS) == []


def test_each_behaviour_has_a_source_a_place_and_a_test_or_says_that_it_has_none() -> None:
    odd = []
    for row in BEHAVIOURS:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if not (
            len(cells) == 5
            and cells[0].endswith(".")
            and {cells[1], cells[2]} != {"–"}
            and re.search(r"\d|–", cells[2])  # the version
            and re.search(r"`ctaflows\.\w+\.|[Nn]ot yet|nothing needed|not used yet", cells[3])
            and re.search(r"`tests/[\w/]+\.py::test_|no test", cells[4])
        ):
            odd.append(row)
    assert BEHAVIOURS
    assert odd == []


def test_a_name_on_the_page_that_is_nowhere_is_found_out() -> None:
    assert missing_names("`ctaflows.model.Entry.size` `ctaflows.model.Entry.size_bytes`") == [
        "ctaflows.model.Entry.size"
    ]
    assert missing_tests("`tests/unit/test_references.py::test_nothing`")
    assert missing_tests("`tests/unit/test_nothing.py::test_nothing`")
    here = test_a_name_on_the_page_that_is_nowhere_is_found_out.__name__
    assert missing_tests(f"`tests/unit/test_references.py::{here}`") == []
