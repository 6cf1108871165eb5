"""What `inspect_file` says of whole files, foreign files, damaged files and hostile files."""

import datetime as dt
import io
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from nights import make_night

from ctaflows.cli import inspect
from ctaflows.dl1.content import times
from ctaflows.dl1.content.inspect import inspect_file, inspect_stream
from ctaflows.dl1.content.quantities import Quantities
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.hdf5 import files
from ctaflows.dl1.hdf5.tables import ColumnInfo
from ctaflows.errors import (
    CtaflowsError,
    IntegrityError,
    NotFound,
    NotHDF5,
    Truncated,
    UsageError,
)

REAL = Path(os.environ.get("CTAFLOWS_TEST_DATA", Path(__file__).parents[3] / "shared/data/dl1"))
TYPES = {32: "cosmic", 2: "pedestal", 0: "flatfield"}
TAI_UTC_S = 37


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    root = tmp_path_factory.mktemp("night")
    return make_night(root, dt.date(2024, 11, 14), runs=[11111], subruns=[1])


@pytest.fixture
def sample(night):
    return night[0]


def trigger_rows(seconds, codes=(32, 2, 0), obs_id=18000):
    """Rows of ctapipe's trigger table: times of events a quarter of a second apart."""
    kind = [("obs_id", "i8"), ("event_id", "i8"), ("time", "u4", (2,)), ("event_type", "i8")]
    rows = np.zeros(len(codes), kind)
    rows["obs_id"], rows["event_id"], rows["event_type"] = obs_id, np.arange(len(codes)), codes
    rows["time"][:, 0] = seconds
    rows["time"][:, 1] = np.arange(len(codes)) * 1_000_000_000
    return rows


def write_ctapipe(path, rows, telescopes=(1,), **attributes):
    with h5py.File(path, "w") as file:
        file.attrs.update({"CTA PRODUCT DATA MODEL VERSION": b"v7.1.0", **attributes})
        trigger = file.create_dataset(
            "dl1/event/subarray/trigger",
            data=rows,
            maxshape=(None,),
            chunks=(2,),
            **hdf5plugin.Blosc("zstd"),
        )
        trigger.attrs["CTAFIELD_2_TIME_SCALE"] = b"tai"
        for tel_id in telescopes:
            table = file.create_dataset(
                f"dl1/event/telescope/parameters/tel_{tel_id:03d}",
                data=np.zeros(len(rows), [("hillas_length", "f8")]),
            )
            table.attrs["CTAFIELD_0_UNIT"] = b"deg"
    return path


def test_a_subrun(sample):
    summary = inspect_file(sample)
    assert summary.file == str(sample)
    assert summary.size_bytes == sample.stat().st_size
    assert (summary.layout, summary.level, summary.simulated) == ("lstchain", "DL1a+DL1b", False)
    assert (summary.telescope, summary.run, summary.subrun) == ((1,), 11111, 0)
    assert summary.n_events == 140
    assert summary.time_first == dt.datetime(2024, 11, 14, 21, 30, tzinfo=dt.UTC)
    assert summary.rate_hz == pytest.approx(140 / summary.duration_s)
    assert summary.software == {
        "lstchain": "0.12.3",
        "ctapipe": "0.25.1",
        "ctapipe_io_lst": "0.29.2",
    }
    assert summary.data_model_version is None
    tables = {t.path: t for t in summary.tables}
    parameters = tables["/dl1/event/telescope/parameters/LST_LSTCam"]
    assert (parameters.rows, len(parameters.columns)) == (140, 44)
    assert ColumnInfo("alt_tel", "float64", (), "rad") in parameters.columns
    assert ColumnInfo("width", "float64", (), "deg") in parameters.columns
    assert ColumnInfo("dragon_time", "float64", (), None) in parameters.columns
    images = tables["/dl1/event/telescope/image/LST_LSTCam"]
    assert ColumnInfo("image_mask", "bool", (1855,), None) in images.columns


def test_quantities_in_words(night):
    found = inspect_file(night[0]).quantities
    words = dict(inspect.lines(found))
    assert words["live time"].startswith(f"{found.times.live_time_s:.6f} s, dead ")
    assert f"altitude {found.pointing.altitude_deg:.4f}°" in words["pointing"]
    assert f"median {found.intensity['cosmic'].median:.4g}" in words["cosmic p.e."]
    assert words["pixels"].startswith(f"{found.calibration.n_unusable_pixels} of 1855 unusable")
    if found.images:
        flatfield = found.images.by_type["flatfield"]
        assert f"charge {flatfield.charge_mean:.4g} p.e." in words["flatfield pixel"]
        assert f"time {flatfield.time_mean_ns:.4g} ns" in words["flatfield pixel"]
    assert inspect.lines(Quantities()) == []


def test_json_both_ways(night):
    for path in night:
        summary = inspect_file(path)
        assert DL1Summary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary


def test_a_stream_and_its_ends(sample):
    whole = inspect_file(sample)
    ends = inspect_stream(
        io.BytesIO(sample.read_bytes()), file=sample.name, size_bytes=sample.stat().st_size
    )
    assert ends.n_events_by_type is None
    for name in ("run", "subrun", "telescope", "n_events", "time_first", "time_last", "rate_hz"):
        assert getattr(ends, name) == getattr(whole, name)


def test_a_stream_s_own_error_passes(sample):
    class Broken(io.BytesIO):
        def readinto(self, buffer):
            raise NotFound("it is gone")

    with pytest.raises((NotFound, IntegrityError)):
        inspect_stream(Broken(sample.read_bytes()), file="x.h5", size_bytes=sample.stat().st_size)


def test_ctapipe(tmp_path):
    path = tmp_path / "ctapipe_LST-1.Run18000.0003.dl1.h5"
    write_ctapipe(path, trigger_rows(1_728_338_437), telescopes=(1, 4))
    summary = inspect_file(path)
    assert (summary.layout, summary.level) == ("ctapipe", "DL1_PARAMETERS")
    assert (summary.telescope, summary.run, summary.subrun) == ((1, 4), 18000, 3)
    assert summary.time_first == dt.datetime(2024, 10, 7, 22, 0, tzinfo=dt.UTC)
    assert summary.duration_s == 0.5
    assert summary.rate_hz_by_type == {"cosmic": 2, "pedestal": 2, "flatfield": 2}
    assert summary.data_model_version == "v7.1.0"
    assert summary.tables[-1].columns[0].unit == "deg"


def test_ctapipe_simulated(tmp_path):
    path = write_ctapipe(
        tmp_path / "a.h5", trigger_rows(1_523_531_916), **{"CTA PRODUCT DATA CATEGORY": b"Sim"}
    )
    assert inspect_file(path).simulated


def test_ctapipe_s_older_times(tmp_path):
    rows = np.zeros(2, [("obs_id", "i4"), ("time", "f8")])
    rows["time"] = 60000 + np.array([0.0, 0.25])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        table = file.create_dataset("dl1/event/subarray/trigger", data=rows)
        table.attrs["CTAFIELD_1_TIME_SCALE"], table.attrs["CTAFIELD_1_TIME_FORMAT"] = "tai", "mjd"
    summary = inspect_file(tmp_path / "a.h5")
    assert summary.time_first == dt.datetime(2023, 2, 24, 23, 59, 23, tzinfo=dt.UTC)
    assert summary.duration_s == 21600
    assert summary.n_events_by_type is None


def test_other_and_unknown_types(tmp_path):
    path = write_ctapipe(tmp_path / "a.h5", trigger_rows(1_728_338_437, codes=[32, 255, 99, -1]))
    assert inspect_file(path).n_events_by_type == {"cosmic": 1, "unknown": 1, "other": 2}


def test_nothing_is_guessed(tmp_path):
    for name, rows in (
        ("times not set", trigger_rows(0)),
        ("no events", trigger_rows(0, codes=[])),
        ("backwards", trigger_rows(1_728_338_437 - np.arange(3) * 10)),
    ):
        summary = inspect_file(write_ctapipe(tmp_path / "a.h5", rows))
        assert (summary.duration_s, summary.rate_hz) == (None, None), name
        assert summary.subrun is None
    one = inspect_file(write_ctapipe(tmp_path / "a.h5", trigger_rows(1_728_338_437, codes=[32])))
    assert (one.duration_s, one.rate_hz, one.rate_hz_by_type) == (0, None, None)
    mixed = trigger_rows(1_728_338_437, obs_id=[1, 1, 2])
    path = tmp_path / "dl1_LST-1.Run00001.0000.h5"
    assert inspect_file(write_ctapipe(path, mixed)).run is None


def test_a_run_s_number_in_the_file_wins_over_its_name(tmp_path):
    path = tmp_path / "dl1_LST-1.Run00001.0000.h5"
    assert inspect_file(write_ctapipe(path, trigger_rows(1_728_338_437))).run == 18000


def test_the_day_of_an_end_is_said_where_it_is_another():
    first = dt.datetime(2024, 11, 14, 21, 30, tzinfo=dt.UTC)
    later = first + dt.timedelta(hours=8)
    assert times.span_text(first, later) == "2024-11-14 21:30:00 to 05:30:00 UTC"
    later += dt.timedelta(days=7)
    assert times.span_text(first, later) == "2024-11-14 21:30:00 to 2024-11-22 05:30:00 UTC"


def test_leap_seconds():
    def tai_s(text, offset_s):
        return int(dt.datetime.fromisoformat(text + "+00:00").timestamp()) + offset_s

    assert times.tai_minus_utc_s(tai_s("1972-01-01", 10)) == 10
    assert times.tai_minus_utc_s(tai_s("1999-01-01", 32)) == 32
    assert times.tai_minus_utc_s(tai_s("2016-12-31T23:59:59", 36)) == 36
    assert times.tai_minus_utc_s(tai_s("2017-01-01", 37)) == 37
    assert times.utc_of_tai(tai_s("2030-01-01", 37)).isoformat() == "2030-01-01T00:00:00+00:00"


# ---------------------------------------------------------------------------- no DL1 file at all
@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><body>500", "an HTML page"),
        (b"\n<html>", "an HTML page"),
        (b"<?xml version='1.0'?><a/>", "an XML or HTML page"),
        (b"Not found\n", "text, 'Not found'"),
        (b"SIMPLE  =                    T", "a FITS file"),
        (b"\0" * 4000, "zeros"),
        (b"\x80\x81\x82" * 50, "unknown bytes, 80 81 82"),
    ],
)
def test_other_bytes(tmp_path, content, looks_like):
    path = tmp_path / "dl1_LST-1.Run11111.0000.h5"
    path.write_bytes(content)
    with pytest.raises(NotHDF5, match=looks_like) as caught:
        inspect_file(path)
    assert caught.value.where == str(path)
    assert caught.value.hint


def test_no_file(tmp_path, sample, monkeypatch):
    with pytest.raises(NotFound):
        inspect_file(tmp_path / "none.h5")
    with pytest.raises(NotFound):
        inspect_file(sample / "below.h5")
    with pytest.raises(UsageError):
        inspect_file(tmp_path)
    with pytest.raises(CtaflowsError):
        inspect_file("a\0b")
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(CtaflowsError, match="can't be opened") as caught:
        inspect_file(sample)
    assert "permissions" in caught.value.hint


def test_hdf5_without_dl1(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x/y"] = np.zeros(3, [("a", "f8")])
    with pytest.raises(IntegrityError, match="no DL1 tables") as caught:
        inspect_file(tmp_path / "a.h5")
    assert "/x/y" in caught.value.hint
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dl2/event/telescope/parameters/LST_LSTCam"] = np.zeros(3, [("a", "f8")])
    with pytest.raises(IntegrityError) as caught:
        inspect_file(tmp_path / "a.h5")
    assert "DL2" in caught.value.hint


# ---------------------------------------------------------------------------- damaged
def verdict(path):
    """Inspect; anything but a summary or an error of ours is a failure."""
    try:
        return inspect_file(path)
    except CtaflowsError as error:
        return error


def test_cut_anywhere(sample, tmp_path):
    whole, path = sample.read_bytes(), tmp_path / sample.name
    places = [1, 7, 8, 9, 95, 96, 97, 800, 2048, len(whole) - 1]
    for n in places + random.Random(1).sample(range(len(whole)), 40):
        path.write_bytes(whole[:n])
        error = verdict(path)
        assert isinstance(error, Truncated | NotHDF5), (n, error)
        if n >= 96:
            assert isinstance(error, Truncated)
            assert f"eof = {n}, stored_eof = {len(whole)}" in str(error)


@pytest.mark.parametrize("which", [0, 1])
def test_flipped_anywhere(night, tmp_path, which):
    whole, path = night[which].read_bytes(), tmp_path / night[which].name
    chance, n_found = random.Random(2), 0
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        found = verdict(path)
        assert isinstance(found, DL1Summary | CtaflowsError)
        n_found += isinstance(found, CtaflowsError)
    assert n_found


def test_a_flipped_bit_in_the_events_is_found(sample, tmp_path):
    with h5py.File(sample) as file:
        chunk = file["/dl1/event/telescope/parameters/LST_LSTCam"].id.get_chunk_info(0)
    damaged = bytearray(sample.read_bytes())
    damaged[chunk.byte_offset + chunk.size // 2] ^= 0x10
    path = tmp_path / sample.name
    path.write_bytes(damaged)
    with pytest.raises(IntegrityError, match="parameters/LST_LSTCam") as caught:
        inspect_file(path)
    assert "Fetch the file again" in caught.value.hint


# ---------------------------------------------------------------------------- hostile
def test_attributes_are_never_unpickled(tmp_path):
    path = write_ctapipe(tmp_path / "a.h5", trigger_rows(1_728_338_437))
    proof = tmp_path / "ran"
    with h5py.File(path, "a") as file:
        code = f"cos\nsystem\n(S'touch {proof}'\ntR.".encode()
        for node in (file, file["dl1/event/subarray/trigger"]):
            node.attrs["A_VERSION"] = np.bytes_(code)
            node.attrs["CTAFIELD_0_UNIT"] = np.bytes_(code)
    inspect_file(path)
    assert not proof.exists()


def test_links_out_of_the_file_and_circles_are_not_followed(tmp_path):
    other = write_ctapipe(tmp_path / "other.h5", trigger_rows(1_728_338_437))
    path = write_ctapipe(tmp_path / "a.h5", trigger_rows(1_728_338_437))
    with h5py.File(path, "a") as file:
        file["away"] = h5py.ExternalLink(str(other), "/dl1")
        file["soft"] = h5py.SoftLink("/dl1")
        file["nowhere"] = h5py.SoftLink("/none")
    assert {t.path.split("/")[1] for t in inspect_file(path).tables} == {"dl1"}
    with h5py.File(path, "a") as file:
        file["dl1/circle"] = file["dl1"]
    with pytest.raises(IntegrityError, match="too many groups"):
        inspect_file(path)


def test_absurd_sizes_are_refused(tmp_path):
    for shape, chunks in (((10**12,), (1000,)), ((10,), (10**8,))):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset(
                "dl1/event/subarray/trigger",
                shape=shape,
                maxshape=(None,),
                chunks=chunks,
                dtype=[("obs_id", "i8"), ("event_type", "i8")],
            )
        start = time.perf_counter()
        with pytest.raises(IntegrityError, match="claims"):
            inspect_file(tmp_path / "a.h5")
        assert time.perf_counter() - start < 5


def test_odd_columns(tmp_path):
    rows = np.zeros(
        2, [("obs_id", "f8"), ("event_type", "S3"), ("time", "f8"), ("tel_id", "i8", 2)]
    )
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dl1/event/subarray/trigger"] = rows
        file["dl1/event/subarray/plain"] = np.zeros((2, 2))
    summary = inspect_file(tmp_path / "a.h5")
    assert (summary.n_events, summary.n_events_by_type, summary.run) == (2, None, None)
    assert len(summary.tables) == 1


def test_any_of_h5py_s_errors_becomes_ours():
    for error in (KeyError("x"), OSError("y"), MemoryError(), ValueError("a\nb")):
        with pytest.raises(IntegrityError), files.guarded("it", "a.h5"):
            raise error


def test_importing_is_cheap():
    code = (
        "import sys, ctaflows.dl1.content.inspect, ctaflows.dl1.names\n"
        "print(sorted({'h5py', 'numpy', 'hdf5plugin', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------------- files of the field
def plainly(path):
    """Compute the same with h5py in the plainest way: counts, first and last time, run."""
    with h5py.File(path) as file:
        trigger = file.get("dl1/event/subarray/trigger")
        table = file.get("dl1/event/telescope/parameters/LST_LSTCam")
        if table is not None:
            rows = table[:]
            if "dragon_time" not in rows.dtype.names:
                return rows, None
            return rows, rows["dragon_time"]
        rows = trigger[:]
        return rows, rows["time"][:, 0] - TAI_UTC_S + rows["time"][:, 1] / 4e9


@pytest.mark.skipif(not REAL.is_dir(), reason="no DL1 files: set CTAFLOWS_TEST_DATA to a folder")
def test_files_of_the_field():
    paths = [
        p
        for folder in ("lstchain_real", "lstchain_mc", "ctapipe")
        for p in sorted((REAL / folder).glob("*.h5"))
    ]
    assert paths
    for path in paths:
        summary, (rows, moments) = inspect_file(path), plainly(path)
        assert summary.n_events == len(rows)
        codes, counts = np.unique(rows["event_type"], return_counts=True)
        expected = {TYPES[int(c)]: int(n) for c, n in zip(codes, counts, strict=True)}
        assert summary.n_events_by_type == expected
        assert summary.run == rows["obs_id"][0]
        if moments is None:
            assert summary.simulated
            assert summary.time_first is summary.duration_s is summary.rate_hz is None
            continue
        assert math.isclose(summary.time_first.timestamp(), moments[0], abs_tol=2e-6)
        assert math.isclose(summary.time_last.timestamp(), moments[-1], abs_tol=2e-6)
        elapsed_s = moments[-1] - moments[0]
        assert math.isclose(summary.duration_s, elapsed_s, abs_tol=1e-6)
        assert math.isclose(summary.rate_hz, len(rows) / elapsed_s, rel_tol=1e-4)


@pytest.mark.skipif(not REAL.is_dir(), reason="no DL1 files: set CTAFLOWS_TEST_DATA to a folder")
def test_bad_files_of_the_field():
    kinds = [type(verdict(p)) for p in sorted((REAL / "bad").glob("*.h5"))]
    assert kinds == [Truncated, NotHDF5, NotHDF5]
    for path in (REAL / "lstchain_real/muons").glob("*.fits"):
        error = verdict(path)
        assert isinstance(error, NotHDF5)
        assert "FITS" in str(error)
