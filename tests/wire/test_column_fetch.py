"""Some tables of a file at the door: a valid smaller file, marked, and few bytes read for it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401 - registers blosc
import numpy as np
import pytest
from click.testing import CliRunner
from nights import make_night

from ctaflows.cli.app import cli
from ctaflows.dl1.content.inspect import inspect_file
from ctaflows.dl1.hdf5.partial_copy import (
    NoSuchTable,
    TableSelection,
    copy_tables,
    hits,
    read_mark,
    source_of,
)
from ctaflows.dl1.reader_process import ReaderProcess
from ctaflows.errors import AlreadyExists, IntegrityError, NotFound, SourceChanged, UsageError
from ctaflows.storage.connect import connect
from ctaflows.storage.range_reader import RangeReader
from ctaflows.tasks import remote
from ctaflows.tasks.remote import fetch_tables
from ctaflows.transfer.verify import verify

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox

PARAMETERS = "/dl1/event/telescope/parameters/LST_LSTCam"
IMAGES = "/dl1/event/telescope/image/LST_LSTCam"
FOLDER = "cta/DL1/20241114/v0.1/tailcut84"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A subrun of which the images are the most."""
    root = tmp_path_factory.mktemp("made")
    night = dt.date(2024, 11, 14)
    files = make_night(
        root, night, runs=[11111], subruns=[1], datacheck=False, events=600, images=True
    )
    with h5py.File(files[0], "r+") as file:
        rows = file[IMAGES][:]
        rows["image"] = np.random.default_rng(1).normal(0, 2, rows["image"].shape)
        file[IMAGES][:] = rows  # the sample's own repeat themselves, and pack to nothing
    return files[0]


@pytest.fixture
def there(box: Sandbox, here: Path, made: Path) -> str:
    """Its path at the door."""
    box.put(f"{FOLDER}/{made.name}", made.read_bytes())
    return f"{FOLDER}/{made.name}"


def pool_bytes(box: Sandbox) -> int:
    """Count the bytes of the ranges that were asked for."""
    n_bytes = 0
    for request in box.requests:
        if request.server == "pool" and request.status == 206:
            first, _, last = request.headers["range"][6:].partition("-")
            n_bytes += int(last) + 1 - int(first)
    return n_bytes


def raw_chunks(node: h5py.Dataset) -> list[tuple[tuple[int, ...], int, bytes]]:
    begins: list = []
    node.id.chunk_iter(lambda chunk: begins.append(chunk.chunk_offset))
    return [(begin, *node.id.read_direct_chunk(begin)) for begin in begins]


def filters(node: h5py.Dataset) -> list:
    plist = node.id.get_create_plist()
    return [plist.get_filter(i) for i in range(plist.get_nfilters())]


def attributes(node: h5py.HLObject) -> dict:
    return {name: (node.attrs.get_id(name).dtype, repr(node.attrs[name])) for name in node.attrs}


def names_in(file: Path) -> set[str]:
    found: set[str] = set()
    with h5py.File(file) as opened:
        opened.visititems(lambda p, n: found.add("/" + p) if isinstance(n, h5py.Dataset) else None)
    return found


def test_the_parameters_come_without_the_images(box: Sandbox, there: str, made: Path) -> None:
    done = fetch_tables(there, tables=["parameters"])
    assert done.local == "dl1_LST-1.Run11111.0000.partial.h5"
    with h5py.File(made) as whole, h5py.File(done.local) as part:
        assert {n for n in names_in(made) if "/configuration/" in n} | {PARAMETERS} == names_in(
            done.local
        )
        for name in names_in(done.local):
            ours, theirs = part[name], whole[name]
            assert (ours.dtype, ours.shape, ours.maxshape) == (
                theirs.dtype, theirs.shape, theirs.maxshape,
            )  # fmt: skip
            assert ours.id.get_type() == theirs.id.get_type()  # PyTables' bools stay bit fields
            assert raw_chunks(ours) == raw_chunks(theirs)
            assert filters(ours) == filters(theirs)
            assert np.array_equal(ours[:], theirs[:]) or ours.dtype.kind == "V"
            assert ours[:].tobytes() == theirs[:].tobytes()
            group = name
            while group:
                theirs_too = attributes(whole[group])
                assert attributes(part[group]) == theirs_too
                group = group.rpartition("/")[0]
        at_root = attributes(whole)
        assert {k: v for k, v in attributes(part).items() if k in at_root} == at_root
    size = made.stat().st_size
    assert done.moved_bytes == pool_bytes(box)
    assert len({r.path for r in box.requests if r.server == "pool"}) == 1  # one mover for all
    assert not any("authorization" in r.headers for r in box.requests if r.server == "pool")
    assert pool_bytes(box) < size / 5
    assert done.size_bytes < size / 5


def test_it_says_of_what_it_is_a_part(box: Sandbox, there: str, made: Path) -> None:
    done = fetch_tables(there, tables=["parameters"])
    mark = read_mark(Path(done.local))
    assert mark is not None
    entry = connect().stat(there)
    assert mark["PARTIAL_COPY_OF"] == "/" + there
    assert mark["SOURCE_CHECKSUM"] == str(entry.checksums[0])
    assert mark["SOURCE_ETAG"] == entry.etag
    assert mark["SOURCE_SIZE_BYTES"] == str(made.stat().st_size)
    assert PARAMETERS in mark["TABLES"].split("\n")
    assert IMAGES in mark["LEFT_OUT"].split("\n")
    assert mark["VERSION"]
    assert not done.verified
    assert "partial" in (done.note or "")
    assert source_of(mark).same_file_as(entry)


@pytest.mark.parametrize(
    ("told", "is_here"),
    [({}, True), ({"etag": None}, True), ({"checksums": ()}, True), ({"mtime": None}, True),
     ({"etag": '"other"'}, False), ({"etag": None, "checksums": (), "mtime": None}, False)],
    ids=str,
)  # fmt: skip
def test_a_copy_is_made_again_where_it_is_not_known_to_be_of_the_same_file(
    there: str, told: dict[str, Any], is_here: bool
) -> None:
    """That a door tells less this time is no change."""
    entry = connect().stat(there)
    assert entry.etag
    assert entry.mtime
    fetch_tables(entry, tables=["parameters"])
    assert fetch_tables(replace(entry, **told), tables=["parameters"]).skipped is is_here


def test_a_copy_made_when_the_door_told_less_is_not_made_again(there: str) -> None:
    entry = connect().stat(there)
    fetch_tables(replace(entry, etag=None, checksums=()), tables=["parameters"])
    assert fetch_tables(entry, tables=["parameters"]).skipped


def test_it_is_inspected_as_the_whole_is(box: Sandbox, there: str, made: Path) -> None:
    part, whole = inspect_file(fetch_tables(there, drop=["images"]).local), inspect_file(made)
    assert (part.run, part.subrun, part.level) == (whole.run, whole.subrun, "DL1b")
    assert part.n_events_by_type == whole.n_events_by_type
    assert (part.time_first, part.time_last) == (whole.time_first, whole.time_last)


def test_pandas_and_pytables_read_it(there: str, made: Path) -> None:
    tables, pandas = pytest.importorskip("tables"), pytest.importorskip("pandas")
    done = fetch_tables(there, tables=["parameters"])
    ours, theirs = (pandas.read_hdf(file, key=PARAMETERS) for file in (done.local, made))
    pandas.testing.assert_frame_equal(ours, theirs, check_exact=True)
    with tables.open_file(done.local) as file:
        assert file.root._v_attrs.CTAFLOWS_PARTIAL_COPY_OF.decode() == "/" + there


def test_drop_leaves_out_just_that(box: Sandbox, there: str, made: Path) -> None:
    done = fetch_tables(there, "some/", drop=["images"])
    assert names_in(done.local) == names_in(made) - {IMAGES}
    assert pool_bytes(box) < made.stat().st_size / 2


def test_images_alone(there: str, made: Path) -> None:
    done = fetch_tables(there, "mine.h5", tables=["telescope/image*", "image/*"])
    with h5py.File(made) as whole, h5py.File(done.local) as part:
        assert raw_chunks(part[IMAGES]) == raw_chunks(whole[IMAGES])
        assert PARAMETERS not in part


def test_the_same_again_moves_nothing(box: Sandbox, there: str) -> None:
    fetch_tables(there, tables=["parameters"])
    box.requests.clear()
    assert fetch_tables(there, tables=["parameters"]).skipped
    assert pool_bytes(box) == 0
    assert not fetch_tables(there, drop=["images"]).skipped  # other tables: a new copy
    box.put(there, (box.storage / there).read_bytes())  # written anew
    assert not fetch_tables(there, drop=["images"]).skipped


@pytest.mark.parametrize("content", [b"something", None])
def test_nothing_else_is_replaced(there: str, made: Path, here: Path, content) -> None:
    target = here / "mine.h5"
    target.write_bytes(content or made.read_bytes())
    before = target.read_bytes()
    with pytest.raises(AlreadyExists):
        fetch_tables(there, target, tables=["parameters"])
    assert target.read_bytes() == before
    assert [p.name for p in here.iterdir()] == ["mine.h5"]


def test_a_partial_copy_of_another_file_is_not_replaced(
    box: Sandbox, there: str, made: Path, here: Path
) -> None:
    box.put("other/b.h5", made.read_bytes())
    fetch_tables(there, here / "mine.h5", tables=["parameters"])
    with pytest.raises(AlreadyExists):
        fetch_tables("other/b.h5", here / "mine.h5", tables=["parameters"])


def test_the_whole_file_s_name_is_not_taken(there: str, here: Path, made: Path) -> None:
    door = connect()
    with pytest.raises(UsageError):
        remote.copy_part(door, door.stat(there), here / made.name, TableSelection(("parameters",)))
    done = fetch_tables(there, here / made.name, tables=["parameters"])
    assert done.local.endswith(".partial.h5")


def test_no_such_table(there: str, here: Path) -> None:
    with pytest.raises(NoSuchTable) as told:
        fetch_tables(there, tables=["nothing"])
    assert PARAMETERS in (told.value.hint or "")
    with pytest.raises(UsageError):
        fetch_tables(there)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("fault", ["truncate", "reset", "503", "wrong_length"])
def test_faults_on_the_way(box: Sandbox, there: str, made: Path, fault: str) -> None:
    box.faults.add(fault, server="pool", times=3)
    done = fetch_tables(there, tables=["parameters"])
    with h5py.File(made) as whole, h5py.File(done.local) as part:
        assert part[PARAMETERS][:].tobytes() == whole[PARAMETERS][:].tobytes()


def test_a_failure_leaves_nothing_behind(box: Sandbox, there: str, here: Path) -> None:
    box.faults.add("403", server="*", method="GET", times=None)
    with pytest.raises(Exception, match="Not allowed"):
        fetch_tables(there, tables=["parameters"])
    assert list(here.iterdir()) == []


def test_a_source_replaced_meanwhile_is_copied_anew(
    box: Sandbox, there: str, made: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_copies, copy_source = 0, ReaderProcess.copy_source

    def disturbed(*args, **kwargs):
        nonlocal n_copies
        kept = copy_source(*args, **kwargs)
        n_copies += 1
        if n_copies == 1:
            box.put(there, made.read_bytes() + b"\0")
        return kept

    monkeypatch.setattr(ReaderProcess, "copy_source", disturbed)
    done = fetch_tables(there, tables=["parameters"])
    assert (n_copies, done.retries) == (2, 1)
    mark = read_mark(here / done.local)
    assert mark is not None
    assert mark["SOURCE_SIZE_BYTES"] == str(made.stat().st_size + 1)


def test_one_that_keeps_changing_is_told(
    box: Sandbox, there: str, made: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_source = ReaderProcess.copy_source

    def disturbed(*args, **kwargs):
        kept = copy_source(*args, **kwargs)
        box.put(there, (box.storage / there).read_bytes() + b"\0")
        return kept

    monkeypatch.setattr(ReaderProcess, "copy_source", disturbed)
    with pytest.raises(SourceChanged):
        fetch_tables(there, tables=["parameters"])
    assert list(here.iterdir()) == []


def test_damage_in_a_copied_table_is_found(
    box: Sandbox, there: str, made: Path, here: Path
) -> None:
    data = bytearray(made.read_bytes())
    with h5py.File(made) as whole:
        chunk = whole[PARAMETERS].id.get_chunk_info(0)
        image = whole[IMAGES].id.get_chunk_info(0)
    data[image.byte_offset + image.size // 2] ^= 1
    box.put(there, bytes(data))
    fetch_tables(there, tables=["parameters"])  # the damage is elsewhere
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    box.put(there, bytes(data))
    with pytest.raises(IntegrityError):
        fetch_tables(there, "other.h5", tables=["parameters"])
    assert not (here / "other.h5").exists()


def test_cut_and_foreign_files(box: Sandbox, there: str, made: Path, here: Path) -> None:
    for name, data in {"cut.h5": made.read_bytes()[:-9999], "page.h5": b"<html>" * 99}.items():
        box.put(name, data)
        with pytest.raises(IntegrityError):
            fetch_tables(name, tables=["parameters"])
    box.put("empty.h5", b"")
    with pytest.raises(IntegrityError):
        fetch_tables("empty.h5", tables=["parameters"])
    assert list(here.iterdir()) == []


def test_odd_files_are_copied(tmp_path: Path) -> None:
    """Texts of variable length, links, references, empty, scalar and contiguous data."""
    whole, part = tmp_path / "whole.h5", tmp_path / "part.h5"
    with h5py.File(whole, "w") as file:
        file["a/texts"] = ["one", "two", "three"]
        file["a/scalar"] = 3.5
        file["a/plain"] = np.arange(1000).reshape(10, 100)
        file.create_dataset("a/none", data=h5py.Empty("f8"))
        file.create_dataset("a/empty", (0,), "i4", maxshape=(None,), chunks=(10,))
        file.create_dataset("a/zip", data=np.arange(5000), chunks=(100,), compression="gzip")
        file["a"].attrs["text"] = "été"
        file["a"].attrs["many"] = ["x", "yy"]
        file["a"].attrs["empty"] = h5py.Empty("S1")
        file["a/zip"].attrs["leads"] = file["a"].ref
        file["soft"] = h5py.SoftLink("/a/plain")
        file["far"] = h5py.ExternalLink("/etc/passwd", "/")
        file["b/left"] = np.zeros(10)
        file["a/round"] = file["b"]
        file["b/round"] = h5py.SoftLink("/a")
    with h5py.File(whole) as source:
        kept = copy_tables(
            source,
            part,
            TableSelection(drop=("b", "round")),
            where="whole.h5",
            size_bytes=whole.stat().st_size,
            mark={"PARTIAL_COPY_OF": "/whole.h5"},
        )
    assert kept.left_out == ("/a/round/left", "/b/left")
    with h5py.File(whole) as file, h5py.File(part) as copy:
        assert set(copy) == {"a"}
        assert copy["a/texts"].asstr()[:].tolist() == ["one", "two", "three"]
        assert copy["a/scalar"][()] == 3.5
        assert np.array_equal(copy["a/plain"], file["a/plain"])
        assert copy["a/none"].shape is None
        assert copy["a/empty"].shape == (0,)
        assert raw_chunks(copy["a/zip"]) == raw_chunks(file["a/zip"])
        assert copy["a"].attrs["text"] == "été"
        assert list(copy["a"].attrs["many"]) == ["x", "yy"]
        assert isinstance(copy["a"].attrs["empty"], h5py.Empty)


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["parameters"], PARAMETERS, True),
        (["parameter"], PARAMETERS, True),
        (["images"], IMAGES, True),
        (["image"], "/dl1/event/telescope/images/tel_001", True),
        (["tel_00*"], "/dl1/event/telescope/images/tel_001", True),
        (["/dl1/event/telescope/parameters"], PARAMETERS, True),
        (["dl1/*/parameters"], PARAMETERS, True),
        (["telescope"], PARAMETERS, True),
        (["param"], PARAMETERS, False),
        (["images"], PARAMETERS, False),
        (["s"], PARAMETERS, False),
        ([], PARAMETERS, False),
    ],
)
def test_names(patterns: list[str], path: str, expected: bool) -> None:
    assert hits(path, patterns) is expected


def run(*args: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, list(args))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_the_command(box: Sandbox, there: str, here: Path) -> None:
    code, text = run("get", there, ".", "--tables", "parameters")
    assert code == 0
    assert "partial    dl1_LST-1.Run11111.0000.partial.h5" in text
    assert "in place" in run("get", there, ".", "--tables", "parameters")[1]
    assert "->" in run("get", "-n", there, ".", "--drop", "images,monitoring")[1]
    for more in (["--delete", "-r"], ["--check", "size"]):
        with pytest.raises(UsageError):
            run("get", there, ".", "--drop", "images", *more)
    with pytest.raises(NotFound):
        run("get", there, ".", "--tables", "nothing")


def test_a_folder_of_files(box: Sandbox, there: str, made: Path, here: Path) -> None:
    box.put(f"{FOLDER}/dl1_LST-1.Run11111.0001.h5", made.read_bytes())
    box.put(f"{FOLDER}/muons.fits", b"SIMPLE  =")
    with h5py.File(here / "x.h5", "w") as file:
        file["other"] = np.zeros(3)
    box.put(f"{FOLDER}/x.h5", (here / "x.h5").read_bytes())
    code, text = run("get", "-r", FOLDER, "--tables", "parameters", "--json")
    assert code == 0
    rows = {row["path"].rpartition("/")[2]: row for row in json.loads(text)}
    assert set(rows) == {made.name, "dl1_LST-1.Run11111.0001.h5", "x.h5"}
    assert rows["x.h5"]["note"] == remote.NO_TABLE
    assert not any(row["verified"] for row in rows.values())
    folder = here / "tailcut84"
    assert sorted(p.name for p in folder.iterdir()) == [
        "dl1_LST-1.Run11111.0000.partial.h5",
        "dl1_LST-1.Run11111.0001.partial.h5",
        "manifest.jsonl",
    ]
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        proof = json.loads(line)
        assert proof["path"].endswith("#partial")
        assert proof["verified"] is False
        assert "partial copy" in proof["note"]
    verdicts = verify(folder)
    assert [v.verdict for v in verdicts] == ["intact", "intact"]
    # the whole files come beside them, proven, and the proofs of both stand
    assert run("get", "-r", FOLDER)[0] == 0
    assert (folder / made.name).read_bytes() == made.read_bytes()
    assert run("get", "-r", FOLDER, "--tables", "parameters")[0] == 0
    assert sum("#partial" in v.path for v in verify(folder)) == 2
    assert {v.verdict for v in verify(folder)} == {"intact"}


def test_a_damaged_copy_is_found_and_made_anew(box: Sandbox, there: str, here: Path) -> None:
    again = ("get", "-r", FOLDER, "--tables", "parameters")
    run(*again)
    copy = here / "tailcut84" / "dl1_LST-1.Run11111.0000.partial.h5"
    good = copy.read_bytes()
    copy.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert [v.verdict for v in verify(copy.parent)] == ["damaged"]
    assert run("get", "--retry", str(copy.parent / "manifest.jsonl"))[0] == 0  # not its business
    assert "partial" in run(*again)[1]
    assert [v.verdict for v in verify(copy.parent)] == ["intact"]
    assert "in place" in run(*again)[1]


def test_filters_that_nobody_uses_are_refused(tmp_path: Path) -> None:
    """HDF5 itself crashes where a damaged file names them."""
    whole = tmp_path / "whole.h5"
    with h5py.File(whole, "w") as file:
        file.create_dataset("a/odd", data=np.arange(100), chunks=(10,), scaleoffset=0)
        file.create_dataset("b/usual", data=np.arange(100), chunks=(10,), compression="gzip")

    def copied(*tables: str) -> None:
        with h5py.File(whole) as source:
            size = whole.stat().st_size
            copy_tables(
                source,
                tmp_path / "part.h5",
                TableSelection(tables),
                where="x",
                size_bytes=size,
                mark={},
            )

    copied("b")
    with pytest.raises(IntegrityError, match="filter"):
        copied("a")


def test_chunks_are_shared_out_as_long_as_slots_are_free(
    there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctaflows.storage.block_cache._SHARE_BYTES", 1 << 16)
    made: list[RangeReader] = []
    real = RangeReader.sibling
    monkeypatch.setattr(
        RangeReader, "sibling", lambda reader: made.append(real(reader)) or made[-1]
    )
    slots, n_slots = connect().transfer_slots, connect().settings.transfers
    fetch_tables(there, tables=["image"])
    assert len(made) == remote.CONNECTIONS - 1
    for _ in range(n_slots - 1):
        assert slots.acquire(blocking=False)
    fetch_tables(there, tables=["image", "parameters"])
    assert len(made) == remote.CONNECTIONS - 1
    assert slots.acquire(blocking=False)
    for _ in range(n_slots):
        slots.release()
