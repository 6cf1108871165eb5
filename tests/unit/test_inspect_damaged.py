"""Files damaged in every way: a verdict or an error of ours, within time and memory."""

import datetime as dt
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from nights import make_night

from ctaflows.dl1 import reader_process, reader_worker
from ctaflows.dl1 import reader_process as reader_module
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.reader_process import ReaderProcess, inspect_files
from ctaflows.errors import CtaflowsError, IntegrityError, NotFound, NotHDF5, Truncated
from ctaflows.tasks import inspect_dl1

PARAMETERS = "dl1/event/telescope/parameters/LST_LSTCam"
TRIGGER = "dl1/event/subarray/trigger"
MAX_BYTES = 500_000_000


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    root = tmp_path_factory.mktemp("night")
    day = dt.date(2024, 11, 14)
    files = make_night(root, day, runs=[11111], subruns=[1], events=60, images=True)
    return [*files, write_ctapipe(root / "ctapipe_LST-1.Run18000.0000.dl1.h5")]


def write_ctapipe(path):
    rows = np.zeros(
        60, [("obs_id", "i8"), ("event_id", "i8"), ("time", "u4", 2), ("event_type", "i8")]
    )
    rows["obs_id"], rows["event_id"], rows["event_type"] = 18000, np.arange(60), 32
    rows["time"][:, 0], rows["time"][:, 1] = 1_728_338_437, np.arange(60) * 400_000
    shower = np.zeros(60, [("event_id", "i8"), ("hillas_intensity", "f8"), ("hillas_width", "f8")])
    images = np.zeros(60, [("event_id", "i8"), ("image", "f4", 50), ("peak_time", "f4", 50)])
    shower["event_id"] = images["event_id"] = rows["event_id"]
    pointing = np.zeros(3, [("azimuth", "f8"), ("altitude", "f8")])
    with h5py.File(path, "w") as file:
        for name, table in (
            (TRIGGER, rows),
            ("dl1/event/telescope/parameters/tel_001", shower),
            ("dl1/event/telescope/images/tel_001", images),
            ("dl1/monitoring/telescope/pointing/tel_001", pointing),
        ):
            made = file.create_dataset(
                name, data=table, maxshape=(None,), chunks=(16,), **hdf5plugin.Blosc("zstd")
            )
            for i in range(2):
                made.attrs[f"CTAFIELD_{i}_UNIT"] = b"deg"
    return path


@pytest.fixture
def reader():
    reader = ReaderProcess(least_s=20)
    yield reader
    reader.close()


def verdict(reader, path):
    """Give a summary or an error of ours; anything else is a failure."""
    try:
        return reader.read(path)
    except CtaflowsError as why:
        return why


def peak_bytes(reader):
    status = Path(f"/proc/{reader._process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def damage(content, chance):
    """Damage a file in one of many ways."""
    damaged = bytearray(content)
    n = len(damaged)
    way = chance.randrange(6)
    start = chance.randrange(n)
    length = min(chance.choice([1, 2, 4, 8, 64, 512, 4096]), n - start)
    if way == 0:
        return bytes(damaged[:start])
    if way == 1:
        for _ in range(chance.choice([1, 1, 3, 30])):
            damaged[chance.randrange(n)] ^= 1 << chance.randrange(8)
    elif way == 2:
        damaged[start : start + length] = chance.randbytes(length)
    elif way == 3:
        damaged[start : start + length] = bytes([chance.choice([0, 0xFF, 0x7F])]) * length
    elif way == 4:
        other = chance.randrange(n - length + 1)
        damaged[start : start + length] = content[other : other + length]
    else:  # the heads of HDF5's structures, where sizes and types stand
        heads = [m.start() for m in re.finditer(rb"SNOD|TREE|HEAP|OHDR|\x89HDF", content)]
        start = min(chance.choice(heads) + chance.randrange(400), n - 8)
        damaged[start : start + 8] = chance.choice(
            [chance.randbytes(8), b"\xff" * 8, (2 ** chance.randrange(63)).to_bytes(8, "little")]
        )
    return bytes(damaged)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_damaged_anywhere(night, tmp_path, reader, which):
    content, path = night[which].read_bytes(), tmp_path / night[which].name
    chance = random.Random(which)
    assert isinstance(verdict(reader, night[which]), DL1Summary)
    n_errors, start = 0, time.perf_counter()
    for i in range(80):
        if i > 20 and time.perf_counter() - start > 3:
            break
        path.write_bytes(damage(content, chance))
        found = verdict(reader, path)
        assert isinstance(found, DL1Summary | IntegrityError), found
        n_errors += isinstance(found, IntegrityError)
    assert n_errors > 5
    if reader._process is not None:
        assert peak_bytes(reader) < MAX_BYTES


ROWS = np.zeros(100, [("obs_id", "i8"), ("event_id", "i8"), ("event_type", "i8")])
MANY = {"maxshape": (None,), "dtype": ROWS.dtype}


def rows(file):
    file.create_dataset(TRIGGER, shape=(10**15,), chunks=(1000,), **MANY)


def chunk(file):
    file.create_dataset(TRIGGER, shape=(10,), chunks=(10**8,), **MANY)


def row(file):
    file.create_dataset(TRIGGER, shape=(3,), dtype=[("event_type", "i8"), ("image", "f4", 2**28)])


def zeros(file):  # 31 MB a chunk, packed into some kB
    options = {**MANY, **hdf5plugin.Blosc("zstd", 9)}
    file.create_dataset(TRIGGER, shape=(6_500_000,), chunks=(1_300_000,), **options)
    file[TRIGGER][::1_300_000] = ROWS[:5]


def inflating(file):  # a chunk of 1 MB that unpacks to a gigabyte
    table = file.create_dataset(TRIGGER, (16,), chunks=(16,), compression="gzip", **MANY)
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    part = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    table.id.write_direct_chunk((0,), head + part * 1024 + packer.flush())


def pixels(file):
    file[PARAMETERS] = ROWS
    wide = [("event_id", "i8"), ("image", "f4", 200_000)]
    file.create_dataset("dl1/event/telescope/image/LST_LSTCam", shape=(50,), dtype=wide)


def columns(file):
    kinds = "2f8 i2 S5 u8 f8 c16"
    names = "event_type dragon_time intensity event_id alt_tel az_tel"
    file[PARAMETERS] = np.zeros(3, list(zip(names.split(), kinds.split(), strict=True)))


def numbers(file):
    kinds = "u8 i8 f8 f8 f8 f8"
    names = "event_id event_type intensity dragon_time alt_tel az_tel"
    odd = np.zeros(5, list(zip(names.split(), kinds.split(), strict=True)))
    odd["event_id"], odd["event_type"] = 2**64 - 1, -(2**63)
    for name in ("intensity", "dragon_time", "alt_tel", "az_tel"):
        odd[name] = [np.nan, np.inf, -np.inf, 1e308, -1e308]
    file[PARAMETERS] = odd


def nothing(file):
    file[PARAMETERS] = ROWS[:0]


@pytest.mark.parametrize("make", [rows, chunk, row, inflating])
def test_claims_are_not_believed(tmp_path, reader, make):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
    start = time.perf_counter()
    found = verdict(reader, tmp_path / "a.h5")
    assert isinstance(found, IntegrityError), found
    assert time.perf_counter() - start < 15
    if reader._process is not None:
        assert peak_bytes(reader) < MAX_BYTES


@pytest.mark.parametrize("make", [zeros, pixels, columns, numbers, nothing])
def test_odd_contents_are_told(tmp_path, reader, make):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
    found = verdict(reader, tmp_path / "a.h5")
    assert isinstance(found, DL1Summary), found
    assert peak_bytes(reader) < MAX_BYTES
    json.dumps(found.to_dict(), allow_nan=False)


# ---------------------------------------------------------------------------- processes apart
def test_many_files_at_once(night, tmp_path):
    (tmp_path / "page.h5").write_text("<html>")
    (tmp_path / "cut.h5").write_bytes(night[0].read_bytes()[:-100])
    paths = [*night, tmp_path / "page.h5", tmp_path / "none.h5", tmp_path / "cut.h5", night[0]]
    found = inspect_files(paths)
    assert [one.file for one in found] == [str(p) for p in paths]
    assert [one.summary is not None for one in found] == [True] * 3 + [False] * 3 + [True]
    kinds = [one.error.partition(":")[0] for one in found if one.error]
    assert kinds == ["NotHDF5", "NotFound", "Truncated"]
    assert found[0].summary == found[-1].summary
    assert inspect_files([]) == []


def test_a_single_file_is_read_apart_too(night, tmp_path, monkeypatch):
    assert inspect_dl1(night[0]).n_events == 60
    with pytest.raises(NotFound):
        inspect_dl1(tmp_path / "none.h5")
    with monkeypatch.context() as patch:
        patch.setattr(reader_process, "_pool", None)
        replaced(patch, "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 11)")
        with pytest.raises(IntegrityError, match="signal 11"):
            inspect_dl1(night[0])
    assert inspect_dl1(night[0], images=0).quantities.images is None


def test_the_process_has_no_token(night, monkeypatch, reader):
    monkeypatch.setenv("BEARER_TOKEN", "secret")
    monkeypatch.setenv("CTAFLOWS_CLIENT_SECRET", "secret")
    reader.read(night[0])
    environment = Path(f"/proc/{reader._process.pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"secret" not in environment


def test_no_process_can_be_started(night, monkeypatch):
    def refused(*words, **options):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(reader_module.subprocess, "Popen", refused)
    with pytest.raises(CtaflowsError, match="can't be started") as caught:
        ReaderProcess().read(night[0])
    assert "temporarily" in caught.value.said
    monkeypatch.setattr(reader_process, "_pool", None)
    assert "can't be started" in inspect_files([night[0]])[0].error


def test_paths_are_relative_to_where_one_is_now(night, monkeypatch, reader):
    for path in night[:2]:
        monkeypatch.chdir(path.parent)
        assert reader.read(path.name).file == path.name
    with pytest.raises(NotFound) as caught:
        reader.read(night[0].name)
    assert caught.value.where == night[0].name


def test_errors_keep_their_kind(night, tmp_path, reader):
    assert isinstance(verdict(reader, tmp_path / "none.h5"), NotFound)
    (tmp_path / "a.h5").write_text("<html>")
    error = verdict(reader, tmp_path / "a.h5")
    assert isinstance(error, NotHDF5)
    assert (error.where, bool(error.hint)) == (str(tmp_path / "a.h5"), True)
    (tmp_path / "b.h5").write_bytes(night[0].read_bytes()[:5000])
    assert isinstance(verdict(reader, tmp_path / "b.h5"), Truncated)


def replaced(monkeypatch, code):
    """Let the reader's process run other code."""
    real = subprocess.Popen

    def popen(words, **options):
        return real([sys.executable, "-c", code], **options)

    monkeypatch.setattr(reader_module.subprocess, "Popen", popen)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 11)", "signal 11"),
        ("import sys; sys.stdin.readline(); print('{', end='', flush=True); sys.exit(3)", "code 3"),
        ("import sys; sys.exit(4)", "code 4"),
    ],
)
def test_a_crash_is_told_of_its_file(night, monkeypatch, code, said):
    reader = ReaderProcess()
    with monkeypatch.context() as patch:
        replaced(patch, code)
        with pytest.raises(IntegrityError, match=said) as caught:
            reader.read(night[0])
        assert caught.value.where == str(night[0])
    # the next file has a process of its own
    assert reader.read(night[0]).n_events == 60
    reader.close()


def test_a_file_that_takes_for_ever(night, monkeypatch):
    reader = ReaderProcess(least_s=0.3)
    with monkeypatch.context() as patch:
        replaced(patch, "import time; time.sleep(300)")
        start = time.perf_counter()
        with pytest.raises(IntegrityError, match="took more than"):
            reader.read(night[0])
        assert time.perf_counter() - start < 10
    reader.close()


def test_a_reader_s_process_that_is_killed_meanwhile(night):
    reader = ReaderProcess()
    reader.read(night[0])
    os.kill(reader._process.pid, signal.SIGKILL)
    reader._process.wait()
    with pytest.raises(IntegrityError, match="signal 9"):
        reader.read(night[0])
    assert reader.read(night[0]).run == 11111
    reader.close()


def test_all_calls_share_so_many_processes(night):
    inspect_files(night)
    threads = [threading.Thread(target=inspect_files, args=(night * 3,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pool = reader_process._readers()
    assert len(pool._all) <= pool.size


def test_the_worker_answers_for_itself(night):
    assert reader_worker.answer({"path": str(night[0]), "images": 0})["summary"]["n_events"] == 60
    assert reader_worker.answer({"path": "none.h5", "images": 0})["error"] == "NotFound"
    odd = reader_worker.answer({"path": str(night[0]), "images": "many"})
    assert odd["error"] == "IntegrityError"
