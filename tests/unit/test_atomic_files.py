"""Files that are made or replaced, and what becomes of errors of the file system."""

import errno
import fcntl
import os
import pickle
import stat
import threading
import time
from pathlib import Path

import pytest

from ctaflows import atomic_files
from ctaflows.atomic_files import (
    LockTimeout,
    NobodyReads,
    NoLocks,
    append_ours,
    create,
    fsync_folders_once,
    local_error,
    local_errors,
    lock,
    locked,
    note_changed,
    open_ours,
    read_private,
    refusal,
    remove_left,
    remove_private,
    replaced,
    sync_together,
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


# locks --------------------------------------------------------------------------------------------


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks; gives what `flock` fails with."""
    numbers = [errno.ENOLCK]

    def refuse(*_):
        raise OSError(numbers[0], os.strerror(numbers[0]))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(atomic_files, "_warned_of", set())
    return numbers


@pytest.fixture
def opened(tmp_path):
    descriptor = create(tmp_path / "a", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_a_lock_that_another_one_holds_is_not_had(tmp_path, opened):
    other = open_ours(tmp_path / "a", os.O_RDWR)
    try:
        assert lock(opened, tmp_path / "a") is True
        assert lock(other, tmp_path / "a") is False
        assert lock(other, tmp_path / "a", shared=True) is False
    finally:
        os.close(other)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_locks_work_goes_on_with_one_warning(tmp_path, opened, no_locks, caplog, number):
    no_locks[0] = number
    assert [lock(opened, tmp_path / "a") for _ in range(3)] == [None] * 3
    assert caplog.text.count("has no locks") == 1
    with pytest.raises(NoLocks) as caught:
        lock(opened, tmp_path / "a", required=True)
    assert "CTAFLOWS_CONFIG_DIR" in (caught.value.hint or "")


def test_another_error_of_a_lock_is_one(tmp_path, opened, no_locks):
    no_locks[0] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        lock(opened, tmp_path / "a")


def test_a_lock_file(tmp_path, no_locks):
    with pytest.raises(NoLocks), locked(tmp_path / "new/lock", 0.0):
        pass
    with locked(tmp_path / "new/lock", 0.0, required=False):
        assert stat.S_IMODE((tmp_path / "new/lock").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_lock_file_that_is_held(tmp_path):
    for required in (True, False):
        with (
            locked(tmp_path / "lock", 0.0),
            pytest.raises(LockTimeout),
            locked(tmp_path / "lock", 0.0, required=required),
        ):
            pass


def test_a_lock_file_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="Something else lies"), locked(tmp_path / "lock", 0.0):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_private_files_are_kept_without_locks(tmp_path, no_locks):
    file = tmp_path / "token"
    write_private(file, "secret")
    assert read_private(file) == "secret"
    young, old = tmp_path / ".token.1.1", tmp_path / ".token.1.2"
    for left in (young, old):
        left.write_text("secret")
    os.utime(old, (time.time() - 7200,) * 2)
    remove_left(file)
    assert (young.exists(), old.exists()) == (True, False)  # nobody knows whether it is in use


# names that others can predict --------------------------------------------------------------------


def test_lines_are_appended_after_one_that_was_cut(tmp_path):
    file = tmp_path / "lines"
    append_ours(file, b"one\n")
    with file.open("ab") as stream:
        stream.write(b"tw")  # as a kill leaves it
    append_ours(file, b"three\nfour\n")
    append_ours(file, b"five\n")
    assert file.read_bytes().split(b"\n") == [b"one", b"tw", b"three", b"four", b"five", b""]


@pytest.mark.parametrize("what", ["link", "dangling", "pipe", "folder"])
def test_nothing_is_appended_to_what_is_no_file(tmp_path, what):
    file, victim = tmp_path / "lines", tmp_path / "victim"
    victim.write_bytes(b"years of work")
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    else:
        file.symlink_to(victim if what == "link" else tmp_path / "nowhere")
    with pytest.raises((UsageError, IsADirectoryError)):
        append_ours(file, b"x\n")
    assert victim.read_bytes() == b"years of work"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_is_taken_for_ours_must_be_ours(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("x")
    os.close(open_ours(tmp_path / "token", os.O_RDONLY, must_be_mine=True))
    owner = (tmp_path / "token").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UsageError):
        open_ours(tmp_path / "token", os.O_RDONLY, must_be_mine=True)
    os.close(open_ours(tmp_path / "token", os.O_RDONLY))  # a manifest of a group


# replacing ----------------------------------------------------------------------------------------


def replace_page(path, **how):
    with replaced(path, **how) as stream:
        stream.write(b"new")


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "victim").write_bytes(b"years of work")
    (tmp_path / "page").symlink_to(tmp_path / "victim")
    replace_page(tmp_path / "page", is_ours=True)
    assert (tmp_path / "victim").read_bytes() == b"years of work"
    assert not (tmp_path / "page").is_symlink()


def test_a_pipe_or_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        for is_ours in (False, True):
            with pytest.raises(UsageError):
                replace_page(tmp_path / name, is_ours=is_ours)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "pipe"]


def test_a_device_is_written_into_where_a_person_named_it():
    replace_page("/dev/null")
    with pytest.raises(UsageError, match="Something else lies"):
        replace_page("/dev/null", is_ours=True)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


def test_the_umask_says_who_of_a_group_may_go_on(tmp_path):
    before = os.umask(0o002)
    try:
        replace_page(tmp_path / "page")
        append_ours(tmp_path / "lines", b"x\n")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o664}


@pytest.mark.parametrize("write", [replace_page, lambda path: write_private(path, "new")])
def test_a_new_name_reaches_the_disk_after_the_bytes(tmp_path, monkeypatch, write):
    synced, real = [], os.fsync

    def fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, (tmp_path / "page").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "page")
    assert synced == [(False, False), (True, True)]


@pytest.mark.parametrize(
    ("why", "number"),
    [
        (PermissionError(errno.EACCES, "no"), errno.EACCES),
        (MemoryError(), errno.ENOMEM),
        (RuntimeError("can't start new thread"), errno.EAGAIN),
        (RuntimeError("another"), None),
        (UnicodeEncodeError("ascii", "ä", 0, 1, "no"), errno.EILSEQ),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no"), None),
        (ValueError("no"), None),
    ],
)
def test_what_the_system_refused_is_known_from_faults_of_ours(why, number):
    told = refusal(why)
    assert (told and told.errno) == number


@pytest.mark.parametrize("n_threads", [0, 1, 8])
@pytest.mark.parametrize("n_files", [1, 5])
def test_files_are_synced_however_few_threads_there_may_be(
    tmp_path, monkeypatch, n_files, n_threads
):
    synced, left, start = [], iter(range(n_threads)), threading.Thread.start

    def started(thread):
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    def fsync(descriptor):
        synced.append(descriptor)
        raise OSError(errno.EIO, str(descriptor))

    monkeypatch.setattr(threading.Thread, "start", started)
    monkeypatch.setattr(atomic_files, "_syncfs", lambda *_: False)
    monkeypatch.setattr("os.fsync", fsync)
    streams = [(tmp_path / str(n)).open("wb") for n in range(n_files)]
    files = [(stream.fileno(), stream.name) for stream in streams]
    assert [why.strerror for why in sync_together(files)] == [str(n) for n, _ in files]
    assert sorted(synced) == sorted(n for n, _ in files), "the second call would see no error"
    for stream in streams:
        stream.close()
