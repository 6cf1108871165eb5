"""Entries of listings: dictionaries as ctadata gave them, and paths as its README uses them."""

from __future__ import annotations

import copy
import fnmatch
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from ctaflows.ctadata.entries import ListedEntry, Name, remote_path
from ctaflows.errors import UsageError
from ctaflows.model import Entry

RAW = {
    "href": "cta/DL1/dl1_LST-1.Run11111.0100%20a.h5",
    "mtime": "Thu, 14 Nov 2024 23:00:00 GMT",
    "size": "1024",
    "type": "file",
    "url": "https://hub/services/downloadservice/list/cta/DL1/dl1_LST-1.Run11111.0100%20a.h5",
}
PATH = "cta/DL1/dl1_LST-1.Run11111.0100 a.h5"


@pytest.fixture
def entry() -> ListedEntry:
    return ListedEntry(RAW)


def test_it_is_the_dictionary_it_was(entry: ListedEntry) -> None:
    assert isinstance(entry, dict)
    assert entry == RAW
    assert entry != {}
    assert dict(entry) == {**entry} == RAW
    assert json.loads(json.dumps([entry])) == [RAW]
    assert int(entry["size"]) == 1024
    assert entry.get("nothing") is None
    assert [key for key in entry] == list(RAW)  # noqa: C416
    assert "size" in entry
    assert "size" not in ListedEntry(href="lst/", type="directory")
    with pytest.raises(KeyError):
        entry["nothing"]
    assert repr(entry) == repr(RAW)


def test_it_reads_as_a_path(entry: ListedEntry) -> None:
    assert str(entry) == f"{entry}" == PATH
    assert "datacheck" not in entry
    assert ".0100" in entry
    assert "11111" in entry
    assert entry.split("/")[-1] == "dl1_LST-1.Run11111.0100 a.h5"
    assert entry.endswith(".h5")
    assert entry[:3] == "cta"
    assert entry[-1] == "5"
    assert entry == PATH
    assert [entry].index(PATH) == 0  # type: ignore[arg-type]
    assert {entry: 1}[PATH] == 1  # type: ignore[index]
    assert entry + ".part" == PATH + ".part"
    assert "/" + entry == "/" + PATH
    assert os.path.basename(entry) == Path(entry).name == entry.split("/")[-1]  # noqa: PTH119
    assert fnmatch.fnmatch(entry, "*.h5")
    assert f"{entry:>60}" == f"{PATH:>60}"


def test_they_can_be_sorted(entry: ListedEntry) -> None:
    other = ListedEntry(href="cta/DL1/a.h5")
    assert sorted([entry, other]) == [other, entry]
    assert other < entry
    assert entry >= other
    assert max([other, entry], key=lambda e: e["href"]) is entry


@pytest.mark.parametrize(
    "made", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_they_can_be_copied(entry: ListedEntry, made: Any) -> None:
    again = made(entry)
    assert type(again) is ListedEntry
    assert again == entry
    assert str(again) == PATH


def test_what_strings_have_not_is_told(entry: ListedEntry) -> None:
    with pytest.raises(AttributeError):
        entry.nothing  # noqa: B018


def test_names_know_their_path() -> None:
    name = Name("DL1", "/cta/DL1")
    assert name == "DL1"
    assert isinstance(name, str)
    assert remote_path(name) == "/cta/DL1"
    assert remote_path(pickle.loads(pickle.dumps(name))) == "/cta/DL1"
    assert remote_path(copy.deepcopy(name)) == "/cta/DL1"
    assert remote_path(str(name)) == "DL1"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("lst/a b", "lst/a b"),
        ("lst/a%20b", "lst/a b"),
        ("lst/50%", "lst/50%"),
        (" lst/a ", "lst/a"),
        (Path("lst/a"), "lst/a"),
        ({"href": "lst/a%20b"}, "lst/a b"),
        (ListedEntry(href="lst/a%2520b"), "lst/a%20b"),
        (Entry("/lst/a%20b"), "/lst/a%20b"),
        ("https://hub/list/lst/a%20b", "https://hub/list/lst/a%20b"),
    ],
)
def test_paths_in_all_their_forms(given: Any, path: str) -> None:
    assert remote_path(given) == path


@pytest.mark.parametrize("given", [None, 3, b"lst", {}, {"href": None}])
def test_what_is_no_path(given: Any) -> None:
    with pytest.raises(UsageError, match="no path"):
        remote_path(given)
