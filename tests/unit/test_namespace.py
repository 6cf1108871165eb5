"""Where `mv` puts things, and what it refuses."""

from __future__ import annotations

import pytest

from ctaflows.errors import AlreadyExists, CtaflowsError, NetworkError, PartialFailure, UsageError
from ctaflows.model import Checksum, Entry
from ctaflows.storage.namespace import PathResult, check_target, failure, move, new_path

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
    assert "/d: no" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        "StorageError: The directory is not empty: /a/d",
        "StorageError: The directory is not empty: https://door:8443/a/d/",
        "The directory is not empty",
    ],
)
def test_the_reason_names_neither_the_class_nor_the_path(error):
    assert PathResult("/a/d", error=error).reason == "The directory is not empty"


def test_the_reason_has_what_the_server_said():
    error = "Refused: No right: https://door/a (said: denied)"
    assert PathResult("/a", error=error).reason == "No right (said: denied)"
    assert PathResult("/a", error="NotFound: Nothing: /a b").reason == "Nothing: /a b"


class LosesAnswers:
    """A door that has nothing but two paths, and never answers to a move."""

    can_rename = True

    def __init__(self, before: Entry, after: Entry | None) -> None:
        self.known: dict[str, Entry | None] = {before.path: before}
        self.after = after

    def exists(self, path: str) -> Entry | None:
        return self.known.get(path)

    def normalise(self, path: str) -> str:
        return path

    def move(self, source: str, target: str, *, overwrite: bool) -> None:
        self.known = {target: self.after}
        raise NetworkError("The answer was lost", where=source)


ADLER, MD5 = Checksum("adler32", "0000000a"), Checksum("md5", "aa")


@pytest.mark.parametrize(
    ("there", "is_moved"),
    [
        ({"size_bytes": 1}, True),
        ({"size_bytes": 1, "etag": '"2"'}, True),  # a move may change it, RFC 4918 §15.6
        ({"size_bytes": 1, "checksums": (MD5,)}, True),
        ({"size_bytes": 1, "checksums": (ADLER,)}, True),
        ({"size_bytes": 1, "checksums": (Checksum("adler32", "0000000b"),)}, False),
        ({"size_bytes": 2}, False),
        ({"size_bytes": None}, False),
        ({"error": "403 Forbidden"}, False),
        ({"is_dir": True}, False),
        (None, False),
    ],
    ids=str,
)
def test_where_the_answer_to_a_move_is_lost(there, is_moved):
    source = Entry("/a/f", size_bytes=1, etag='"1"', checksums=(ADLER,))
    door = LosesAnswers(source, None if there is None else Entry("/b/f", **there))
    if is_moved:
        assert move(door, source, "/b/f") == "/b/f"
    else:
        with pytest.raises(NetworkError):
            move(door, source, "/b/f")
