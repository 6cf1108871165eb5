"""The sample night: right names, numbers and times, lstchain's own types and filters."""

import datetime as dt
import time
from importlib import resources

import h5py
import hdf5plugin  # noqa: F401 - registers blosc
import numpy as np
import pytest

from ctaflows.dl1.content.inspect import inspect_file
from ctaflows.dl1.names import parse_name
from ctaflows.errors import UsageError
from ctaflows.sandbox.night import make_night

DATE = dt.date(2024, 11, 14)
PARAMETERS = "/dl1/event/telescope/parameters/LST_LSTCam"
IMAGES = "/dl1/event/telescope/image/LST_LSTCam"
SAMPLE = resources.files("ctaflows.sandbox") / "sample"


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    root = tmp_path_factory.mktemp("night")
    start = time.perf_counter()
    files = make_night(root, DATE)
    return root, files, time.perf_counter() - start


def dl1_files(files):
    return [f for f in files if parse_name(f.name).kind == "dl1"]


def test_the_sample_is_small_and_explained():
    files = list(SAMPLE.iterdir())
    assert sum(len(f.read_bytes()) for f in files) < 1.6e6
    assert "not observations" in (SAMPLE / "README.md").read_text()


def test_names_and_size(night):
    root, files, seconds = night
    folder = root / "cta/DL1/20241114/v0.1/tailcut84"
    assert sorted(p for p in root.rglob("*") if p.is_file()) == sorted(files)
    names = [f.name for f in dl1_files(files)]
    assert names == [f"dl1_LST-1.Run11111.{i:04d}.h5" for i in range(4)] + [
        f"dl1_LST-1.Run11113.{i:04d}.h5" for i in range(3)
    ]
    assert files[0].parent == folder
    assert files[1] == folder / "datacheck/datacheck_dl1_LST-1.Run11111.0000.h5"
    assert sum(f.stat().st_size for f in files) < 4e6
    assert seconds < 15  # 1.5 s on an idle machine


def test_numbers_and_times_follow_each_other(night):
    last = dt.datetime(2024, 11, 14, 21, 29, 59, tzinfo=dt.UTC)
    last_event = {}
    for path in dl1_files(night[1]):
        summary = inspect_file(path)
        name = parse_name(path.name)
        assert (summary.run, summary.subrun) == (name.run, name.subrun)
        assert summary.n_events_by_type == {"cosmic": 126, "pedestal": 7, "flatfield": 7}
        assert last < summary.time_first < summary.time_last
        last = summary.time_last
        with h5py.File(path) as file:
            ids = file[PARAMETERS]["event_id"]
            assert np.array_equal(ids, file[IMAGES]["event_id"])
            assert set(file[IMAGES]["obs_id"]) == {name.run}
        assert np.array_equal(ids, np.arange(140) + last_event.get(name.run, 0) + 1)
        last_event[name.run] = ids[-1]
    assert last.date() == DATE


def test_datacheck_agrees_with_its_subrun(tmp_path):
    dl1, check = make_night(tmp_path, DATE, runs=[18000], subruns=[1], events=1000)
    events, checked = inspect_file(dl1), inspect_file(check)
    assert checked.level == "datacheck"
    assert checked.n_events_by_type == events.n_events_by_type
    assert checked.duration_s == pytest.approx(events.duration_s)
    with h5py.File(dl1) as file, h5py.File(check) as other:
        rows = file[PARAMETERS][:]
        for kind, code in (("cosmics", 32), ("pedestals", 2), ("flatfield", 0)):
            row, some = other[f"dl1datacheck/{kind}"][0], rows[rows["event_type"] == code]
            sampled = some[:: 1 + len(some) // 50]
            assert np.array_equal(row["sampled_event_ids"][: len(sampled)], sampled["event_id"])
            assert np.allclose(row["dragon_time"][: len(sampled)], sampled["dragon_time"])
            assert row["num_cleaned_events"] == np.isfinite(some["intensity"]).sum()


def test_types_filters_and_attributes_are_the_template_s(night):
    with h5py.File(night[1][0]) as file, (SAMPLE / "dl1.h5").open("rb") as raw:
        template = h5py.File(raw, "r")
        for path in (PARAMETERS, IMAGES, "dl1/event/telescope/monitoring/flatfield"):
            new, old = file[path], template[path]
            assert new.id.get_type() == old.id.get_type()
            assert new.chunks == old.chunks
            filters = [d.id.get_create_plist().get_filter(0)[:3] for d in (new, old)]
            assert filters[0] == filters[1]
            assert filters[0][0] == 32001
            assert dict(new.attrs).keys() == dict(old.attrs).keys()
            assert new.attrs["NROWS"] == len(new)
            assert new.attrs["CLASS"] == b"TABLE"
        assert file.attrs["LSTCHAIN_VERSION"] == b"0.12.3"


@pytest.mark.slow
def test_the_same_call_writes_the_same_bytes(night, tmp_path):
    again = make_night(tmp_path, DATE)
    assert [f.read_bytes() for f in again] == [f.read_bytes() for f in night[1]]


def test_merged(tmp_path):
    files = make_night(
        tmp_path, DATE, runs=[18000, 18001], subruns=[2, 1], merged=True, version="v0.2"
    )
    merged = [f for f in dl1_files(files) if parse_name(f.name).subrun is None]
    assert [f.name for f in merged] == ["dl1_LST-1.Run18000.h5", "dl1_LST-1.Run18001.h5"]
    summary = inspect_file(merged[0])
    assert (summary.run, summary.subrun, summary.n_events) == (18000, None, 280)
    assert summary.level == "DL1b" == inspect_file(merged[1]).level
    with h5py.File(merged[0]) as file:
        names = file["source_filenames/filenames"][:].tolist()
        assert names == [b"dl1_LST-1.Run18000.0000.h5", b"dl1_LST-1.Run18000.0001.h5"]
        assert len(file["configuration/instrument/subarray/layout"]) == 2
        assert (np.diff(file[PARAMETERS]["dragon_time"]) > 0).all()
    checked = inspect_file(files[-3].parent.parent / "datacheck" / f"datacheck_{merged[0].name}")
    assert checked.n_events == 280


def test_many_events(tmp_path):
    start = time.perf_counter()
    (path,) = make_night(tmp_path, DATE, runs=[18000], subruns=[1], events=50_000, datacheck=False)
    assert time.perf_counter() - start < 10  # 0.4 s on an idle machine
    summary = inspect_file(path)
    assert summary.n_events == 50_000
    assert summary.level == "DL1b"
    assert summary.duration_s == pytest.approx(7.39, abs=0.01)
    with h5py.File(path) as file:
        assert np.array_equal(file[PARAMETERS]["event_id"], np.arange(50_000) + 1)


@pytest.mark.parametrize("events", [1, 10, 141])
def test_few_events(tmp_path, events):
    for path in make_night(tmp_path, DATE, runs=[18000], subruns=[2], events=events):
        summary = inspect_file(path)
        assert (summary.run, summary.telescope) == (18000, (1,))
        if summary.level != "datacheck":
            assert summary.n_events == events


@pytest.mark.parametrize("wrong", [{"events": 0}, {"runs": [1]}, {"subruns": [1, 0]}])
def test_wrong_numbers(tmp_path, wrong):
    with pytest.raises(UsageError):
        make_night(tmp_path, DATE, **wrong)
