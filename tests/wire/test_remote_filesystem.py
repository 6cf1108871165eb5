"""``cta://`` for fsspec: lists, tells, reads; refuses to write."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import fsspec
import pytest

from ctaflows.filesystem import CtaFileSystem
from ctaflows.storage.remote_file import RemoteFile

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

DATA = random.Random(4).randbytes(300_000)
TEXT = "one,two\n1,2\n3,4\n"


@pytest.fixture
def fs(box: Sandbox, here: Path) -> CtaFileSystem:
    fsspec.register_implementation("cta", CtaFileSystem, clobber=True)
    box.put("/lst/a.bin", DATA)
    box.put("/lst/b/t.csv", TEXT.encode())
    CtaFileSystem.clear_instance_cache()
    return fsspec.filesystem("cta")


def test_listing(fs: CtaFileSystem) -> None:
    assert sorted(fs.ls("cta://lst", detail=False)) == ["/lst/a.bin", "/lst/b"]
    about = {entry["name"]: entry for entry in fs.ls("lst/")}
    assert about["/lst/a.bin"]["size"] == len(DATA)
    assert (about["/lst/a.bin"]["type"], about["/lst/b"]["type"]) == ("file", "directory")
    assert fs.find("/lst") == ["/lst/a.bin", "/lst/b/t.csv"]
    assert fs.glob("cta://lst/*/*.csv") == ["/lst/b/t.csv"]
    assert fs.du("lst") == len(DATA) + len(TEXT)
    assert fs.ls("/", detail=False) == ["/lst"]


def test_telling(fs: CtaFileSystem) -> None:
    about = fs.info("cta://lst/a.bin")
    assert about["etag"]
    assert set(about["checksums"]) == {"adler32"}
    assert fs.modified("lst/a.bin").tzinfo
    assert (fs.exists("lst/a.bin"), fs.exists("lst/none")) == (True, False)
    assert (fs.isdir("lst/b"), fs.isfile("lst/a.bin")) == (True, True)
    assert fs.ukey("lst/a.bin") != fs.ukey("lst/b/t.csv")
    assert fs.unstrip_protocol("/lst/a.bin") == "cta:///lst/a.bin"


def test_reading(fs: CtaFileSystem, box: Sandbox) -> None:
    with fs.open("cta://lst/a.bin") as file:
        assert isinstance(file, RemoteFile)
        file.seek(200_000)
        assert file.read(5) == DATA[200_000:200_005]
    assert fs.cat_file("lst/a.bin", 10, 20) == DATA[10:20]
    assert fs.cat_file("lst/a.bin", -5) == DATA[-5:]
    assert fs.cat_ranges(["lst/a.bin"] * 2, [0, 7], [3, 9]) == [DATA[:3], DATA[7:9]]
    with fsspec.open("cta://lst/b/t.csv", "rt") as text:
        assert text.read() == TEXT
    assert fs.head("lst/a.bin", 7) == DATA[:7]
    assert fs.tail("lst/a.bin", 7) == DATA[-7:]


def test_pandas_reads_by_it(fs: CtaFileSystem) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv("cta://lst/b/t.csv")
    assert table.to_dict("list") == {"one": [1, 3], "two": [2, 4]}


def test_fetching_is_proven(fs: CtaFileSystem, box: Sandbox, here: Path) -> None:
    box.faults.add("flip", server="pool")
    fs.get("cta://lst/a.bin", str(here / "got.bin"))
    assert (here / "got.bin").read_bytes() == DATA
    fs.get("cta://lst/", str(here / "all"), recursive=True)
    assert (here / "all" / "b" / "t.csv").read_text() == TEXT


def test_what_is_not_there(fs: CtaFileSystem, box: Sandbox) -> None:
    for act in (fs.info, fs.ls, fs.open, fs.cat_file):
        with pytest.raises(FileNotFoundError):
            act("cta://lst/none")
    with pytest.raises(IsADirectoryError):
        fs.open("cta://lst/b")
    box.deny("/lst/a.bin")
    with pytest.raises(PermissionError):
        fs.cat_file("lst/a.bin")


def test_what_can_not_be_asked_is_not_absent(fs: CtaFileSystem, box: Sandbox) -> None:
    acts = (fs.exists, fs.isfile, fs.isdir)
    assert not any(act("lst/none") for act in acts)
    box.faults.add("403", server="door", times=None)
    for act in acts:
        with pytest.raises(PermissionError):
            act("lst/a.bin")


def test_writing_is_refused(fs: CtaFileSystem, here: Path) -> None:
    (here / "x").write_bytes(b"x")
    for act in (
        lambda: fs.open("lst/new", "wb"),
        lambda: fs.open("lst/a.bin", "ab"),
        lambda: fs.rm("lst/a.bin"),
        lambda: fs.rm("lst", recursive=True),
        lambda: fs.mkdir("lst/new"),
        lambda: fs.makedirs("lst/new/er"),
        lambda: fs.mv("lst/a.bin", "lst/c"),
        lambda: fs.cp("lst/a.bin", "lst/c"),
        lambda: fs.touch("lst/new"),
        lambda: fs.pipe_file("lst/new", b"x"),
        lambda: fs.put_file(str(here / "x"), "lst/new"),
        lambda: fs.put(str(here / "x"), "lst/new"),
        lambda: fs.write_text("lst/new", "x"),
    ):
        with pytest.raises(OSError, match="read-only"):
            act()
    assert fs.find("lst") == ["/lst/a.bin", "/lst/b/t.csv"]


def test_it_is_sent_to_other_processes(fs: CtaFileSystem) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(fs))
    assert again == fs
    opener = pickle.loads(pickle.dumps(fsspec.open("cta://lst/b/t.csv")))
    with opener as file:
        assert file.read() == TEXT.encode()


def test_a_profile_is_an_option(box: Sandbox, here: Path) -> None:
    from ctaflows.errors import UsageError

    with pytest.raises(UsageError):
        fsspec.filesystem("cta", profile="nobody").ls("/")


def test_importing_it_is_cheap() -> None:
    import subprocess
    import sys

    code = "import ctaflows.filesystem, sys; assert not {'prefect', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
