"""The same numbers as from pytables, pandas and ctapipe, each reading the same files by itself."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nights import make_night

from ctaflows.dl1.content.inspect import inspect_file
from ctaflows.dl1.content.quantities import FRACTIONS

REAL = Path(os.environ.get("CTAFLOWS_TEST_DATA", Path(__file__).parents[3] / "shared/data/dl1"))
PARAMETERS = "/dl1/event/telescope/parameters/LST_LSTCam"
IMAGES = "/dl1/event/telescope/image/LST_LSTCam"
TRIGGER = "/dl1/event/subarray/trigger"
TYPES = {32: "cosmic", 2: "pedestal", 0: "flatfield"}
close = pytest.approx


def files():
    found = []
    if REAL.is_dir():
        for folder in ("lstchain_real", "lstchain_mc", "ctapipe"):
            found += sorted((REAL / folder).glob("*.h5"))
    return found


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    day = dt.date(2024, 11, 14)
    return make_night(tmp_path_factory.mktemp("night"), day, runs=[11111], subruns=[1], events=300)


@pytest.mark.parametrize("path", ["sample", *files()], ids=lambda p: Path(p).name)
def test_pytables_and_pandas(path, sample):
    tables = pytest.importorskip("tables", reason="pytables is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    path = sample[0] if path == "sample" else path
    summary = inspect_file(path, images=None)
    # pytables unpickles attributes: these files are our own
    with tables.open_file(str(path)) as file:
        there = {t._v_pathname: (t.nrows, len(t.colnames)) for t in file.walk_nodes("/", "Table")}
        assert {t.path: (t.rows, len(t.columns)) for t in summary.tables} == there
        if TRIGGER in file and summary.layout == "ctapipe":
            codes = file.get_node(TRIGGER).col("event_type")
        elif PARAMETERS in file:
            table = file.get_node(PARAMETERS)
            single = [c for c in table.colnames if table.coldescrs[c].shape == ()]
            frame = pandas.DataFrame({name: table.col(name) for name in single})
            codes = frame.event_type
            compare_events(frame, summary)
            if IMAGES in file:
                compare_charges(file.get_node(IMAGES).col("image"), frame, summary)
        codes, counts = np.unique(codes, return_counts=True)
    expected = {TYPES[int(c)]: int(n) for c, n in zip(codes, counts, strict=True)}
    assert summary.n_events_by_type == expected


def compare_events(frame, summary):
    found = summary.quantities
    for code, group in frame.groupby("event_type"):
        values, spread = group.intensity.astype("f8"), found.intensity[TYPES[code]]
        assert (spread.n, spread.n_nan) == (values.count(), values.isna().sum())
        if spread.n:
            assert spread.mean == close(values.mean(), rel=1e-12)
            assert spread.std == close(values.std(ddof=0), rel=1e-9)
            assert list(spread.quantiles) == close(values.quantile(FRACTIONS).tolist(), rel=1e-14)
    altitude = np.degrees(frame.alt_tel.astype("f8").mean())
    assert found.pointing.altitude_deg == close(altitude, rel=1e-12)
    if found.identities.n_duplicate is not None:
        assert found.identities.n_duplicate == frame.event_id.duplicated().sum()
    if found.times is not None:
        steps = frame.dragon_time.diff().dropna()
        assert found.times.n_backward == (steps < 0).sum()
        assert found.times.max_step_s == steps.max()
        elapsed_s = frame.dragon_time.iloc[-1] - frame.dragon_time.iloc[0]
        assert summary.duration_s == close(elapsed_s, rel=1e-12)


def compare_charges(images, frame, summary):
    for code, rows in frame.groupby("event_type").indices.items():
        charge = images[rows].astype("f8")
        charges = summary.quantities.images.by_type[TYPES[code]]
        assert charges.n == len(rows)
        assert charges.charge_mean == close(charge.mean(), rel=1e-9)
        assert charges.charge_std == close(charge.std(axis=0).mean(), rel=1e-9)


CTAPIPE = """
import sys, numpy as np
from ctapipe.io import TableLoader
with TableLoader(sys.argv[1]) as loader:
    rows = loader.read_telescope_events()
values = np.asarray(rows["hillas_intensity"])
times = rows["time"].utc
print(len(rows), np.isfinite(values).sum(), repr(float(np.nanmean(values))),
      times.min().isot, times.max().isot)
"""


@pytest.mark.skipif(not REAL.is_dir(), reason="no DL1 files: set CTAFLOWS_TEST_DATA to a folder")
def test_ctapipe():
    # an environment with ctapipe may be named: it needs other versions than we do
    python = os.environ.get("CTAPIPE_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import ctapipe"], capture_output=True).returncode:
        pytest.skip("ctapipe is not installed: name its Python in CTAPIPE_PYTHON")
    path = REAL / "ctapipe/ctapipe_LST-1.Run18000.0000.dl1.h5"
    done = subprocess.run(
        [python, "-W", "ignore", "-c", CTAPIPE, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    n_rows, n_finite, mean, first, last = done.stdout.split()
    summary = inspect_file(path)
    assert summary.n_events == int(n_rows)
    spreads = [s for s in summary.quantities.intensity.values() if s.n]
    assert sum(s.n for s in spreads) == int(n_finite)
    ours = sum(s.n * s.mean for s in spreads) / int(n_finite)
    assert ours == close(float(mean), rel=1e-12)
    for moment, text in ((summary.time_first, first), (summary.time_last, last)):
        theirs = dt.datetime.fromisoformat(text[:26]).replace(tzinfo=dt.UTC)
        assert abs((moment - theirs).total_seconds()) < 2e-6
