"""Where `get` and `put` put what they move: plainly said, or asked for; devices, pipes, stdout."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from commands import ctaflows

from ctaflows import fetch_file
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

A, B = b"first run" * 1000, b"another run" * 500_000


@pytest.fixture
def runs(box: Sandbox, here: Path) -> Path:
    """Two files at the door, a small one and one of several MB; gives the working folder."""
    box.put("/n/a.h5", A)
    box.put("/n/b.h5", B)
    return here


@pytest.fixture
def reader(runs: Path) -> Iterator[list[bytes]]:
    """A pipe that somebody reads; gives what they have read once the thread ends."""
    os.mkfifo(runs / "pipe")
    read: list[bytes] = []

    def keep() -> None:
        with (runs / "pipe").open("rb") as stream:
            read.append(stream.read())

    thread = threading.Thread(target=keep, daemon=True)
    # open for writing too, so that the reader does not wait for the command
    held = os.open(runs / "pipe", os.O_RDWR)
    thread.start()
    yield read
    os.close(held)
    thread.join(20)


@pytest.mark.parametrize("more", [[], ["--tables", "parameters"], ["-r"]])
def test_a_second_file_is_not_taken_for_the_first_one_s_name(runs: Path, more: list[str]) -> None:
    done = ctaflows("get", "n/a.h5", "n/b.h5", *more)
    assert done.code == 2
    assert "ctaflows get n/a.h5 n/b.h5 .\n" in done.err
    assert "ctaflows get n/a.h5 -o n/b.h5" in done.err
    assert not list(runs.iterdir())


def test_it_is_not_written_over_its_own_copy_here(runs: Path) -> None:
    assert ctaflows("get", "n/b.h5", "n/").code == 0
    assert ctaflows("get", "n/a.h5", "n/b.h5").code == 2
    assert (runs / "n/b.h5").read_bytes() == B


def test_several_files_need_a_folder(runs: Path) -> None:
    done = ctaflows("get", "n/a.h5", "n/b.h5", "c.h5")
    assert done.code == 2
    assert "c.h5/" in done.err
    assert not list(runs.iterdir())


@pytest.mark.parametrize("dest", [["."], [".."], ["new/"], ["-o", "new"], ["-o", "."], ["there"]])
def test_a_plain_folder_takes_them_all(runs: Path, dest: list[str]) -> None:
    (runs / "there").mkdir()
    assert ctaflows("get", "n/a.h5", "n/b.h5", *dest).code == 0
    folder = runs / dest[-1]
    assert ((folder / "a.h5").read_bytes(), (folder / "b.h5").read_bytes()) == (A, B)


@pytest.mark.parametrize("dest", [["new.h5"], ["-o", "n/b.h5"], ["-o", "sub/new.h5"]])
def test_a_single_file_may_get_a_new_name(runs: Path, dest: list[str]) -> None:
    for _ in range(2):
        assert ctaflows("get", "n/a.h5", *dest).code == 0
    assert (runs / dest[-1]).read_bytes() == A


def test_a_name_in_a_folder_that_is_not_here_is_no_new_name(runs: Path) -> None:
    assert ctaflows("get", "n/a.h5", "n/mistyped.h5").code == 2
    assert not list(runs.iterdir())


def test_put_does_not_take_a_second_file_for_the_first_one_s_name(box: Sandbox, runs: Path) -> None:
    (runs / "a.h5").write_bytes(A)
    (runs / "b.h5").write_bytes(B)
    done = ctaflows("put", "a.h5", "b.h5")
    assert done.code == 2
    assert "ctaflows put a.h5 -o b.h5" in done.err
    assert not (box.storage / "b.h5").exists()
    assert ctaflows("put", "a.h5", "b.h5", "-o", "up/").code == 0
    assert (box.storage / "up/b.h5").read_bytes() == B
    assert ctaflows("put", "a.h5", "-o", "b.h5").code == 0
    assert (box.storage / "b.h5").read_bytes() == A


@pytest.mark.parametrize("file", ["a.h5", "b.h5"])
def test_what_is_written_into_a_pipe_is_the_file(
    runs: Path, reader: list[bytes], file: str
) -> None:
    done = ctaflows("get", "--json", f"n/{file}", "pipe")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["verified"] is True
    assert stat.S_ISFIFO((runs / "pipe").lstat().st_mode)


def test_a_pipe_that_nobody_reads_is_refused(runs: Path) -> None:
    os.mkfifo(runs / "pipe")
    for name in ("a.h5", "b.h5"):
        done = ctaflows("get", f"n/{name}", "pipe")
        assert done.code == 2
        assert "nobody reads" in done.err
        with pytest.raises(UsageError, match="nobody reads"):
            fetch_file(f"n/{name}", runs / "pipe")
    assert stat.S_ISFIFO((runs / "pipe").lstat().st_mode)


def test_a_pipe_in_a_mirror_is_not_replaced(runs: Path) -> None:
    (runs / "n").mkdir()
    os.mkfifo(runs / "n/a.h5")
    assert ctaflows("get", "-r", "n", ".").code == 10
    assert stat.S_ISFIFO((runs / "n/a.h5").lstat().st_mode)
    assert (runs / "n/b.h5").read_bytes() == B


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
@pytest.mark.parametrize("words", [["get", "n/a.h5"], ["get", "n/b.h5"]])
def test_a_device_is_written_into(runs: Path, words: list[str]) -> None:
    os.mknod(runs / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    done = ctaflows(*words, "null")
    assert (done.code, done.out) == (0, "verified   null\n")
    assert stat.S_ISCHR((runs / "null").lstat().st_mode)
    assert [p.name for p in runs.iterdir()] == ["null"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_disk_is_refused(runs: Path) -> None:
    os.mknod(runs / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 200))
    assert ctaflows("get", "n/a.h5", "disk").code == 2
    assert stat.S_ISBLK((runs / "disk").lstat().st_mode)


def test_a_dash_is_the_standard_output(runs: Path) -> None:
    for words in (["n/b.h5", "-"], ["n/b.h5", "-o", "-"]):
        done = subprocess.run(
            [sys.executable, "-m", "ctaflows", "get", *words],
            capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stdout == B
    assert ctaflows("get", "n/a.h5", "n/b.h5", "-").code == 2
    assert not list(runs.iterdir())


def test_wrong_bytes_in_the_standard_output_are_told(box: Sandbox, runs: Path) -> None:
    box.faults.add("flip", times=None, method="GET", path="*b.h5*")
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", "get", "n/b.h5", "-"],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 7


@pytest.mark.parametrize("words", [["night", "20241114", "--state"]])
def test_what_a_night_was_seen_like_does_not_replace_a_pipe(
    runs: Path, box: Sandbox, words: list[str]
) -> None:
    box.put("/cta/DL1/20241114/v0.1/dl1_LST-1.Run11111.0000.h5", b"x")
    os.mkfifo(runs / "pipe")
    assert "nobody reads" in ctaflows(*words, "pipe").err
    assert stat.S_ISFIFO((runs / "pipe").lstat().st_mode)


@pytest.mark.parametrize("words", [["get", "n/b.h5", "pipe"], ["get", "-r", "n", "."]])
def test_a_pipe_whose_reader_goes_away_is_an_error(runs: Path, words: list[str]) -> None:
    pipe = runs / ("pipe" if "pipe" in words else "n/b.h5")
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def read_a_little() -> None:
        os.set_blocking(reader, True)
        with pipe.open("wb"):  # lest it ends before the command begins
            os.read(reader, 10)
        os.close(reader)

    thread = threading.Thread(target=read_a_little, daemon=True)
    thread.start()
    done = ctaflows(*words)
    thread.join(20)
    assert done.code == (2 if "pipe" in words else 10)
    assert "Nobody reads the pipe any more" in done.err


@pytest.mark.parametrize("name", ["/dev/stdout", "named"])
def test_the_standard_output_has_other_names(runs: Path, name: str) -> None:
    (runs / "named").symlink_to("/proc/self/fd/1")
    for through_a_pipe in (True, False):
        with (runs / "out").open("wb") as file:
            done = subprocess.run(
                [sys.executable, "-m", "ctaflows", "get", "n/b.h5", name],
                stdout=subprocess.PIPE if through_a_pipe else file, check=True, timeout=60,
            )  # fmt: skip
        assert (done.stdout if through_a_pipe else (runs / "out").read_bytes()) == B
    assert (runs / "named").is_symlink()


@pytest.mark.parametrize("words", [["get", "n/a.h5"], ["get", "n/a.h5", "n/b.h5"]])
def test_an_empty_destination_is_refused(runs: Path, words: list[str]) -> None:
    assert ctaflows(*words, "-o", "").code == 2
    (runs / "a.h5").write_bytes(A)
    assert ctaflows("put", "a.h5", "gone", "-o", "").code == 2


def test_a_new_name_may_lie_above(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "sub").mkdir()
    monkeypatch.chdir(runs / "sub")
    assert ctaflows("get", "n/a.h5", "../new.h5").code == 0
    assert (runs / "new.h5").read_bytes() == A


def test_what_the_door_does_not_tell_of_may_be_a_second_file(box: Sandbox, runs: Path) -> None:
    box.faults.add("403", times=None, method="PROPFIND", path="*b.h5*")
    assert ctaflows("get", "n/a.h5", "n/b.h5").code == 2


def test_a_manifest_that_was_named_may_be_a_device_or_a_link(runs: Path) -> None:
    assert ctaflows("get", "-r", "n", ".", "--manifest", "/dev/null").code == 0
    (runs / "link").symlink_to("elsewhere.jsonl")
    assert ctaflows("get", "-r", "n", "m", "--manifest", "link").code == 0
    assert len((runs / "elsewhere.jsonl").read_text().splitlines()) == 2


def test_a_tree_that_was_copied_by_hard_links_is_gone_on_with(runs: Path) -> None:
    assert ctaflows("get", "-r", "n", ".").code == 0
    subprocess.run(["cp", "-al", "n", "copy"], check=True)
    (runs / "n/a.h5").unlink()
    assert ctaflows("get", "-r", "n", ".").code == 0


def test_who_reads_only_the_beginning_of_the_standard_output_is_no_error(runs: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ctaflows", "get", "n/b.h5", "-"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == B[:10]
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")
