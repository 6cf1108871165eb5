"""Where `mv` puts things, and what it refuses."""

from __future__ import annotations

import pytest

from ctaflows.errors import AlreadyExists, CtaflowsError, PartialFailure, UsageError
from ctaflows.model import Entry
from ctaflows.storage.namespace import PathResult, check_target, failure, new_path

FILE, OTHER = Entry("/a/f", size_bytes=1), Entry("/b/f", size_bytes=2)
FOLDER, FOLDER_2 = Entry("/a/d", is_dir=True), Entry("/b/d", is_dir=True)


@pytest.mark.parametrize(
    ("source", "target", "into", "path"),
    [
        ("/a/f", "/a/g", False, "/a/g"),
        ("/a/f", "/b", True, "/b/f"),
        ("/a/f", "/", True, "/f"),
        ("/a/d", "/a/d2", False, "/a/d2"),
        ("/a/d", "/a/d2", True, "/a/d2/d"),
        ("/d", "/e", True, "/e/d"),
    ],
)
def test_new_paths(source, target, into, path):
    assert new_path(source, target, into=into) == path


@pytest.mark.parametrize(
    ("source", "target", "into"),
    [
        ("/", "/a", True),
        ("/", "/a", False),
        ("/a/f", "/a/f", False),
        ("/a/f", "/a", True),
        ("/a", "/a/b", False),
        ("/a", "/a", True),
        ("/a", "/a/b", True),
        ("/a", "/a/b/c", False),
    ],
)
def test_what_goes_nowhere(source, target, into):
    with pytest.raises(UsageError):
        new_path(source, target, into=into)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("source", "there"), [(FILE, FOLDER_2), (FOLDER, OTHER), (FOLDER, FOLDER_2)]
)
def test_directories_are_never_replaced(source, there, overwrite):
    with pytest.raises(AlreadyExists):
        check_target(source, there, overwrite=overwrite)


def test_files_are_replaced_if_that_is_wanted():
    check_target(FILE, None, overwrite=False)
    check_target(FILE, OTHER, overwrite=True)
    with pytest.raises(AlreadyExists) as why:
        check_target(FILE, OTHER, overwrite=False)
    assert "--overwrite" in (why.value.hint or "")


def test_outcomes():
    moved = PathResult("/a", target="/b")
    assert moved.ok
    assert moved.to_dict() == {"path": "/a", "type": "file", "target": "/b", "error": None}
    failed = PathResult("/d", is_dir=True, error="Refused: no")
    assert not failed.ok
    assert failed.to_dict() == {"path": "/d", "type": "directory", "error": "Refused: no"}
    error: CtaflowsError = failure([failed], 7, "removed")
    assert isinstance(error, PartialFailure)
    assert (error.exit_code, error.report) == (10, (failed,))
    assert "1 of 7 were not removed" in str(error)
    assert "/d: Refused: no" in str(error)
