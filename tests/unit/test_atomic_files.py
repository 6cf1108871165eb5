"""Files that are made or replaced, and what becomes of errors of the file system."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from ctaflows import atomic_files
from ctaflows.atomic_files import (
    NobodyReads,
    fsync_folders_once,
    local_error,
    local_errors,
    note_changed,
    remove_private,
    replaced,
    write_private,
)
from ctaflows.errors import AuthError, CtaflowsError, NoSpace, StorageError, UsageError


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EFBIG, NoSpace),
        (errno.EACCES, UsageError),
        (errno.EROFS, UsageError),
        (errno.ENOTDIR, UsageError),
        (errno.ENAMETOOLONG, UsageError),
        (errno.EMFILE, UsageError),
        (errno.EIO, StorageError),
        (errno.ESTALE, StorageError),
        (errno.EPIPE, NobodyReads),
        (None, UsageError),
    ],
)
def test_an_error_of_the_file_system_says_what_where_and_what_next(number, kind):
    why = OSError("odd") if number is None else OSError(number, os.strerror(number))
    error = local_error(why, Path("/data/a"))
    assert type(error) is kind
    assert error.where == "/data/a"
    assert error.said == ("odd" if number is None else os.strerror(number))
    assert error.hint or kind is NobodyReads
    assert type(pickle.loads(pickle.dumps(error))) is kind


def test_an_error_says_what_could_not_be_done_and_keeps_its_cause():
    with (
        pytest.raises(AuthError, match="The token can't be read: /a") as caught,
        local_errors("/a", "The token can't be read", hint="Mend it.", kind=AuthError),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert caught.value.hint == "Mend it."
    assert isinstance(caught.value.__cause__, PermissionError)


def test_errors_that_are_not_of_the_file_system_pass():
    for passing in (ValueError("x"), CtaflowsError("x"), KeyboardInterrupt()):
        with pytest.raises(type(passing)), local_errors("/a"):
            raise passing


def test_a_full_disk_is_no_space_whatever_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="The tokens can't be kept"):
        write_private(tmp_path / "token", "x")
    with (
        pytest.raises(NoSpace, match="The page can't be kept"),
        replaced(tmp_path / "page", "The page can't be kept") as stream,
    ):
        stream.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_a_private_file_has_words(tmp_path):
    (tmp_path / "token" / "x").mkdir(parents=True)
    with pytest.raises(UsageError, match="The tokens can't be removed"):
        remove_private(tmp_path / "token")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EIO])
def test_a_folder_that_can_not_be_synced_is_a_warning_when_all_is_in_place(
    tmp_path, monkeypatch, caplog, number
):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic_files.os, "fsync", refuse)
    note_changed(str(tmp_path))
    with fsync_folders_once():
        note_changed(str(tmp_path))
    assert caplog.text.count("A power cut may lose names") == 2
