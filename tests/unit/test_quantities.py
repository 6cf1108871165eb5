"""Quantities against the plainest way to compute them: whole columns, numpy, h5py."""

import datetime as dt
import json
import os
from itertools import pairwise
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from examples import settings
from hypothesis import given
from hypothesis import strategies as st
from nights import make_night

from ctaflows.dl1.content import statistics
from ctaflows.dl1.content.images import choose
from ctaflows.dl1.content.inspect import inspect_file
from ctaflows.dl1.content.pointing import Directions
from ctaflows.dl1.content.quantities import FRACTIONS, Quantities
from ctaflows.dl1.content.spectrum import edges, spectrum_of
from ctaflows.dl1.content.statistics import Identities, Moments, PixelMoments, Quantiles, Series

REAL = Path(os.environ.get("CTAFLOWS_TEST_DATA", Path(__file__).parents[3] / "shared/data/dl1"))
PARAMETERS = "dl1/event/telescope/parameters/LST_LSTCam"
IMAGES = "dl1/event/telescope/image/LST_LSTCam"
CODES = {"cosmic": 32, "pedestal": 2, "flatfield": 0}
close = pytest.approx


def blocks(values, n_cuts, seed=1):
    """Cut an array at random places, also into empty pieces."""
    places = np.sort(np.random.default_rng(seed).integers(0, len(values) + 1, n_cuts))
    return np.split(values, places)


# ---------------------------------------------------------------------------- sums
@given(
    st.lists(st.floats(-1e9, 1e9, width=32) | st.just(float("nan")), max_size=60),
    st.integers(0, 5),
)
@settings(max_examples=50, deadline=None)
def test_moments_and_quantiles_are_numpy_s(values, n_cuts):
    values = np.array(values, "f8")
    sums = Quantiles()
    for block in blocks(values, n_cuts):
        sums.take(block)
    finite = values[np.isfinite(values)]
    assert (sums.n, sums.n_other) == (len(finite), len(values) - len(finite))
    if len(finite):
        assert (sums.minimum, sums.maximum) == (finite.min(), finite.max())
        scale = float(np.abs(finite).max()) + 1e-30
        assert sums.mean == close(finite.mean(), rel=1e-12, abs=1e-12 * scale)
        assert sums.std == close(finite.std(), rel=1e-6, abs=1e-7 * scale)
        assert sums.at(FRACTIONS) == [float(v) for v in np.quantile(finite, FRACTIONS)]


def test_quantiles_of_very_many_values(monkeypatch):
    monkeypatch.setattr(statistics, "EXACT_VALUES", 10_000)
    chance = np.random.default_rng(1)
    values = np.concatenate(
        [chance.lognormal(5, 2, 50_000), -chance.lognormal(0, 1, 20_000), np.zeros(100)]
    )
    chance.shuffle(values)
    sums = Quantiles()
    for block in blocks(values, 9):
        sums.take(block)
    assert not sums.is_exact
    assert len(sums._bins) < 20_000
    exact = np.quantile(values, FRACTIONS, method="inverted_cdf")
    assert sums.at(FRACTIONS) == close(list(exact), rel=2.1e-3)
    assert sums.mean == close(values.mean(), rel=1e-12)


def test_overflow_is_no_number():
    sums = Moments()
    with np.errstate(all="ignore"):
        sums.take(np.array([1e308, 1e308, -1e308]))
    assert not np.isfinite(sums.std)


def test_pixel_moments():
    chance = np.random.default_rng(2)
    images = chance.normal(5, 3, (40, 7)).astype("f4")
    images[3, 2] = images[:, 5] = np.nan
    sums = PixelMoments(7)
    for block in blocks(images, 4):
        sums.take(block)
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        mean, std = np.nanmean(images.astype("f8"), axis=0), np.nanstd(images.astype("f8"), axis=0)
    assert sums.mean == close(mean, nan_ok=True)
    assert sums.std == close(std, nan_ok=True)
    assert np.isnan(sums.mean[5])


@given(st.lists(st.integers(-50, 50) | st.sampled_from([-(2**63), 2**63 - 1])), st.integers(0, 4))
@settings(max_examples=80, deadline=None)
def test_identities(numbers, n_cuts):
    sums = Identities()
    for block in blocks(np.array(numbers, "i8"), n_cuts):
        sums.take(block)
    distinct = set(numbers)
    assert sums.n_duplicate == len(numbers) - len(distinct)
    span = max(distinct) - min(distinct) + 1 if distinct else 0
    assert sums.n_missing == span - len(distinct)


def test_identities_that_are_no_numbering(monkeypatch):
    monkeypatch.setattr(Identities, "MOST_RANGES", 10)
    sums = Identities()
    sums.take(np.arange(0, 100, 2))
    assert (sums.n_duplicate, sums.n_missing) == (None, None)
    sums = Identities()
    sums.take(np.array([2**64 - 1], "u8"))
    assert sums.n_duplicate is None


@given(st.lists(st.floats(-5, 5000), max_size=50), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_series(moments, n_cuts):
    moments = np.array(moments, "f8")
    series = Series(["a", "b"])
    types = np.arange(len(moments)) % 2
    for block, kinds in zip(blocks(moments, n_cuts), blocks(types, n_cuts), strict=True):
        series.take(block, kinds)
    duration_s = max(moments, default=0.0)
    counts = series.whole(duration_s)
    ends = np.arange(counts.shape[1] + 1) * series.bin_s
    for kind in (0, 1):
        plain = [((moments >= a) & (moments < b) & (types == kind)).sum()
                 for a, b in pairwise(ends)]  # fmt: skip
        assert counts[kind].tolist() == plain
    assert series.bin_s in {2.0**k for k in range(4)}


def test_directions():
    altitude = np.radians([70.0, 70.001, 70.001, np.nan, 69.0])
    azimuth = np.radians([359.999, 0.001, 0.001, 0.0, 0.001])
    found = Directions()
    for a, z in zip(blocks(altitude, 2), blocks(azimuth, 2), strict=True):
        found.take(a, z)
    result = found.result()
    assert (result.n, result.n_nan) == (5, 1)
    assert result.altitude_deg == close(np.mean([70, 70.001, 70.001, 69]))
    assert min(result.azimuth_deg, 360 - result.azimuth_deg) < 0.001
    assert result.max_step_deg == close(1.001, rel=1e-9)
    assert result.span_deg == close(1.0, rel=1e-5)
    assert Directions().result().altitude_deg is None


# ---------------------------------------------------------------------------- the spectrum
def test_the_spectrum_is_fitted():
    middle = np.sqrt(edges()[1:] * edges()[:-1])
    expected = 1.7 * (middle / 422) ** -2.2 * np.diff(edges()) * 1000.0
    found = spectrum_of(np.round(expected), 1000.0, 0.0)
    assert found.index == close(-2.2, abs=1e-3)
    assert found.rate_at_422 == close(1.7, rel=1e-3)
    # at the zenith there is nothing to correct
    assert found.index_zenith == close(found.index)
    assert found.rate_at_422_zenith == close(found.rate_at_422)
    lower = spectrum_of(np.round(expected), 1000.0, 60.0)
    assert lower.rate_at_422_zenith > found.rate_at_422_zenith


def test_the_spectrum_is_the_best_fit():
    counts = np.zeros(100, "i8")
    counts[30:35] = [90, 60, 55, 30, 28]
    found = spectrum_of(counts, 10.0, None)
    bins = edges()[30:36]
    x = np.log(np.sqrt(bins[1:] * bins[:-1]) / 422)
    width = np.diff(bins)

    def chi2(p, q):
        model = p * np.exp(q * x) * 10.0 * width
        return ((counts[30:35] - model) ** 2 / counts[30:35]).sum()

    best = chi2(found.rate_at_422, found.index)
    for p in (0.999, 1.001):
        assert chi2(found.rate_at_422 * p, found.index) > best
    for q in (-0.001, 0.001):
        assert chi2(found.rate_at_422, found.index + q) > best
    assert chi2(found.rate_at_422, found.index + found.index_error) - best < 1.5
    assert found.index_zenith is None


@pytest.mark.parametrize(("n", "duration_s"), [(4, 10.0), (50, 0.0), (50, None)])
def test_no_fit_of_too_little(n, duration_s):
    found = spectrum_of(np.full(100, n), duration_s, 20.0)
    assert (found.index, found.rate_at_422, found.index_zenith) == (None, None, None)
    assert len(found.counts) == 100


# ---------------------------------------------------------------------------- a choice of images
def test_all_images_of_few():
    assert choose(np.zeros(10, "i1"), 10, 10) is None


def test_calibration_events_are_all_chosen():
    types = np.zeros(5000, "i1")
    types[::50], types[25::50] = 1, 2
    rows = choose(types, 5000, 100, 8)
    assert (np.diff(rows) > 0).all()
    counts = np.bincount(types[rows])
    assert counts[1] == counts[2] == 100
    assert 80 <= counts[0] <= 100
    assert rows[types[rows] == 0].max() > 4000
    assert len(choose(None, 5000, 100, 8)) == 296


# ---------------------------------------------------------------------------- whole files
def plainly(path):
    """Read a subrun's tables whole."""
    with h5py.File(path) as file:
        return file[PARAMETERS][:], file[IMAGES][:] if IMAGES in file else None


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    root = tmp_path_factory.mktemp("night")
    return make_night(
        root, dt.date(2024, 11, 14), runs=[11111], subruns=[1], events=700, images=True
    )


def compare(path, summary):
    """Compare all that a subrun's events and images tell."""
    rows, images = plainly(path)
    found = summary.quantities
    moments, codes = rows["dragon_time"], rows["event_type"]
    steps = np.diff(moments)
    usual = steps[(steps > 0) & (steps < 0.01)]
    times = found.times
    assert (times.n, times.n_unset) == (len(rows), 0)
    assert times.n_backward == (steps < 0).sum()
    assert times.n_gaps == (steps > 0.01).sum()
    assert times.max_step_s == steps.max()
    assert times.min_step_s == usual.min()
    assert times.mean_step_s == close(usual.mean(), rel=1e-12)
    rate = 1 / (usual.mean() - usual.min())
    assert times.live_fraction == close(1 / (1 + rate * usual.min()), rel=1e-12)
    assert times.live_time_s == close(usual.sum() / (1 + rate * usual.min()), rel=1e-12)
    ids = rows["event_id"]
    assert found.identities.n_duplicate == len(ids) - len(set(ids.tolist()))
    assert found.identities.n_missing == np.ptp(ids) + 1 - len(set(ids.tolist()))
    differs = (rows["trigger_type"] != rows["ucts_trigger_type"]).sum()
    assert found.identities.n_trigger_mismatches == differs
    assert found.pointing.altitude_deg == close(np.degrees(rows["alt_tel"].mean()), rel=1e-12)
    for name, spread in found.intensity.items():
        values = rows["intensity"][codes == CODES[name]]
        finite = values[np.isfinite(values)]
        assert (spread.n, spread.n_nan) == (len(finite), len(values) - len(finite))
        if len(finite):
            assert list(spread.quantiles) == [float(v) for v in np.quantile(finite, FRACTIONS)]
            assert spread.mean == close(finite.mean(), rel=1e-12)
            assert spread.std == close(finite.std(), rel=1e-9)
    cosmics = rows["intensity"][codes == 32]
    histogram = np.histogram(cosmics[np.isfinite(cosmics)], np.logspace(1, 6, 101))[0]
    assert list(found.spectrum.counts) == histogram.tolist()
    if images is not None:
        compare_images(images, codes, found.images)


def compare_images(images, codes, found):
    assert (found.n, found.n_read, found.n_pixels) == (len(images), len(images), 1855)
    for name, charges in found.by_type.items():
        charge = images["image"][codes == CODES[name]].astype("f8")
        assert charges.n == len(charge)
        assert charges.charge_mean == close(charge.mean(), rel=1e-9)
        assert charges.charge_std == close(charge.std(axis=0).mean(), rel=1e-9)
        median = np.median(charge.mean(axis=0))
        assert charges.charge_mean_pixels.median == close(median, rel=1e-9)
        if name == "pedestal":
            assert charges.n_noisy == (charge.std(axis=0) > 2.5).sum()
        if name != "flatfield":
            assert charges.time_mean_ns is None
            continue
        moments = np.where(
            charge > 1, images["peak_time"][codes == CODES[name]].astype("f8"), np.nan
        )
        n_set = np.isfinite(moments).sum(axis=1)[:, None]
        rest = (np.nansum(moments, axis=1)[:, None] - moments) / (n_set - 1)
        with np.errstate(all="ignore"):
            assert charges.time_mean_ns == close(np.nanmean(np.nanmean(moments, axis=0)), rel=1e-9)
            relative = np.nanmean(np.nanstd(moments - rest, axis=0))
            assert charges.relative_time_std_ns == close(relative, rel=1e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_sample(sample):
    compare(sample[0], inspect_file(sample[0]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.skipif(not REAL.is_dir(), reason="no DL1 files: set CTAFLOWS_TEST_DATA to a folder")
def test_files_of_lstchain():
    paths = sorted((REAL / "lstchain_real").glob("dl1_*.h5"))
    assert len(paths) == 3
    for path in paths:
        compare(path, inspect_file(path))


def test_few_images_are_read(sample):
    summary = inspect_file(sample[0], images=20)
    found = summary.quantities.images
    assert (found.n, summary.n_events) == (700, 700)
    assert set(found.by_type) == set(CODES)
    assert all(charges.n <= 20 for charges in found.by_type.values())
    assert inspect_file(sample[0], images=0).quantities.images is None
    assert inspect_file(sample[0], images=None).quantities.images.n_read == 700
    assert inspect_file(sample[0], ends_only=True).quantities is None


def test_the_calibration(sample):
    found = inspect_file(sample[0]).quantities.calibration
    with h5py.File(sample[0]) as file:
        tables = file["dl1/event/telescope/monitoring"]
        row = tables["flatfield"][-1]
        unusable = tables["calibration"][:]["unusable_pixels"].astype(bool)
    assert found.n_flatfield_events == row["n_events"]
    assert found.flatfield["high"].charge_mean == close(np.median(row["charge_mean"][0]))
    assert found.flatfield["low"].charge_std == close(np.median(row["charge_std"][1]))
    assert found.n_unusable_pixels == unusable.any(axis=(0, 1)).sum()
    assert found.n_pixels == 1855


def test_the_datacheck_agrees_with_its_data(sample):
    data, check = (inspect_file(path).quantities for path in sample)
    assert check.images.by_type.keys() == data.images.by_type.keys()
    assert sum(check.spectrum.counts) == close(sum(data.spectrum.counts), rel=0.2)
    with h5py.File(sample[1]) as file:
        row = file["dl1datacheck/flatfield"][0]
    charges = check.images.by_type["flatfield"]
    assert charges.charge_mean == close(row["charge_mean"].astype("f8").mean(), rel=1e-6)
    assert charges.charge_std == close(row["charge_stddev"].astype("f8").mean(), rel=1e-6)


def test_json_both_ways(sample):
    for path in sample:
        found = inspect_file(path).quantities
        text = json.dumps(found.to_dict(), allow_nan=False)
        assert Quantities.from_dict(json.loads(text)) == found


def test_what_is_not_there_is_absent(tmp_path):
    kind = [("obs_id", "i8"), ("event_id", "i8"), ("event_type", "i8")]
    rows = np.array([(1, 5, 32), (1, 6, 32), (1, 9, 2)], kind)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(PARAMETERS, data=rows, chunks=(2,), **hdf5plugin.Blosc("zstd"))
    found = inspect_file(tmp_path / "a.h5").quantities
    assert (found.identities.n_duplicate, found.identities.n_missing) == (0, 2)
    assert found.identities.n_trigger_mismatches is found.identities.n_ucts_jumps is None
    assert found.times is found.rates is found.pointing is found.spectrum is None
    assert found.images is found.calibration is found.n_incomplete is None
    assert found.intensity == {}


def test_rates_in_the_course_of_time(tmp_path):
    n = 4000
    kind = [("event_type", "i8"), ("dragon_time", "f8")]
    rows = np.zeros(n, kind)
    rows["event_type"][::4] = 2
    rows["dragon_time"] = 1.7e9 + np.arange(n) / 1000  # four seconds, at 1000 Hz
    rows["dragon_time"][-1] += 0.25
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[PARAMETERS] = rows
    rates = inspect_file(tmp_path / "a.h5").quantities.rates
    assert (rates.bin_s, rates.n_bins) == (1.0, 4)
    assert rates.by_type["all"].counts == (1000, 1000, 1000, 999)
    assert rates.by_type["pedestal"].mean_hz == 250
    assert rates.by_type["all"].std_hz == close(np.std([1000, 1000, 1000, 999]))
    assert rates.by_type["all"].excess == 0
