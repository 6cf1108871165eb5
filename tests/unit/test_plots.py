"""Pictures of a night: what is drawn, and that drawing leaves no trace."""

import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
from nightkit import BEGIN, COUNTS, damaged, datacheck, report, subrun

from ctaflows.dl1.content.quantities import Charges, Images, Pointing
from ctaflows.dl1.report.plot_data import MOST_BINS, points_of, rates
from ctaflows.dl1.report.plots import pictures_of, save
from ctaflows.errors import NoSpace, UsageError
from ctaflows.tasks.pictures import plot_night, write_page


def by_name(*inspections):
    return {picture.name: picture for picture in pictures_of(inspections)}


def lines(axes):
    """Give the lines with data, not those that mark runs."""
    return {line.get_label(): line.get_ydata() for line in axes.lines if line.get_label()[0] != "_"}


def test_a_night_has_five_pictures():
    found = by_name(subrun(11111, 0), subrun(11111, 1), subrun(11113, 0), damaged())
    assert list(found) == ["rates", "spectrum", "pointing", "counts", "charges"]
    assert "cosmic 6000 Hz; pedestal 90 Hz; flatfield 95 Hz." in found["rates"].words
    assert "cosmic 180,000" in found["counts"].words
    assert "index between 316 and 562 p.e. -2.2." in found["spectrum"].words


def test_rates_are_those_of_the_bins_and_runs_are_apart():
    top, below = by_name(subrun(11111, 0), subrun(11111, 1), subrun(11113))["rates"].figure().axes
    (drawn,) = lines(top).values()
    assert np.array_equal(drawn[~np.isnan(drawn)], [6000] * 30)
    assert list(np.flatnonzero(np.isnan(drawn))) == [20]
    assert lines(below).keys() == {"pedestal", "flatfield"}
    # no colour stands alone
    styles = {(one.get_marker(), one.get_linestyle()) for one in below.lines[:2]}
    assert len(styles) == 2


def test_without_bins_or_with_too_many_each_file_has_its_mean():
    point = points_of([subrun(rates=None)])
    assert rates(point)["cosmic"].values == [6000.0]
    many = points_of([subrun(11111, n) for n in range(MOST_BINS // 10 + 1)])
    assert len(rates(many)["cosmic"].values) == MOST_BINS // 10 + 1


def test_in_a_long_line_only_what_stands_alone_has_a_mark():
    long = [subrun(11111, n, rates=None) for n in range(450)]
    axes, _ = by_name(*long, subrun(11115, 0, rates=None))["rates"].figure().axes
    assert axes.lines[0].get_markevery() == [451]


def test_events_count_once():
    whole = subrun(11111, None)
    checked = [datacheck(11111, n) for n in range(3)]
    found = by_name(*checked, whole, subrun(11111, 0), subrun(11111, 1), datacheck(11113, 0))
    bars = found["counts"].figure().axes[0].patches
    # two subruns; of the third, and of the other run, there is a datacheck alone
    assert [bar.get_width() for bar in bars] == [4 * n for n in COUNTS.values()]
    assert [p.subrun for p in points_of([whole])] == [None]


def test_the_spectrum_is_a_rate():
    (axes,) = by_name(subrun(11111, 0), subrun(11111, 1))["spectrum"].figure().axes
    (drawn,) = lines(axes).values()
    edges = np.logspace(1, 6, 101)
    counts = np.array(subrun().summary.quantities.spectrum.counts)
    expected = counts / 10 / np.diff(edges)
    assert np.allclose(drawn, expected[expected > 0])
    many = by_name(*(subrun(run) for run in range(11111, 11119)))["spectrum"]
    assert lines(many.figure().axes[0]).keys() == {"8 runs"}


def test_the_azimuth_passes_north_without_a_line_across():
    azimuths = (359.0, 359.8, 0.6, 1.4)
    turning = [
        subrun(11111, n, pointing=Pointing(9, 0, 60.0, az, 30.0)) for n, az in enumerate(azimuths)
    ]
    _, axes = by_name(*turning)["pointing"].figure().axes
    (drawn,) = lines(axes).values()
    assert np.array_equal(drawn, [359.0, 359.8, np.nan, 0.6, 1.4], equal_nan=True)


def test_charges_stand_beside_the_bounds_of_the_checks():
    looked = [subrun(11111, n, images=None) for n in range(2)]
    assert "charges" not in by_name(*looked)
    # without images the datacheck tells
    figure = by_name(*looked, datacheck(11111, 0), datacheck(11111, 1))["charges"].figure()
    _, flatfield = figure.axes
    assert list(lines(flatfield)["flatfield"]) == [69.0, 69.0]
    (band,) = flatfield.patches
    low, high = band.get_extents().transformed(flatfield.transData.inverted()).intervaly
    assert (round(low, 6), round(high, 6)) == (62.1, 75.9)


def test_what_is_absent_is_left_out():
    assert pictures_of([]) == ()
    assert pictures_of([damaged()]) == ()
    simulated = subrun(time_first=None, time_last=None, duration_s=None, rates=None, spectrum=None)
    assert list(by_name(simulated)) == ["counts"]
    nan = Images(9, 9, 1855, 0, {"pedestal": Charges(9, float("nan"), float("nan"))})
    assert "charges" not in by_name(subrun(images=nan))


@pytest.mark.filterwarnings("error")
def test_odd_values_are_drawn_all_the_same():
    odd = subrun(
        n_events_by_type={"$\\frac{<b>": 1, "\udce9": 2},
        rate_hz_by_type={"$\\frac{<b>": float("inf"), "\udce9": 1.0},
        rates=None,
        time_last=BEGIN + timedelta(days=20_000),
    )
    for picture in pictures_of([odd]):
        assert "<b>" not in picture.svg()
        assert picture.words
    short = subrun(rates=None, time_first=BEGIN, time_last=BEGIN + timedelta(milliseconds=20))
    assert len(pictures_of([short])) == 5
    # between two steps of matplotlib's ticks it warns
    apart = subrun(11111, 16, rates=None)
    assert by_name(subrun(), apart)["rates"].svg()


@pytest.mark.slow
def test_the_same_night_gives_the_same_bytes_whatever_the_settings(tmp_path, monkeypatch):
    import matplotlib as mpl

    night = [subrun(11111, 0), subrun(11113, 1)]
    once = [picture.svg() for picture in pictures_of(night)[:2]]
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "text.usetex": True}):
        before = dict(mpl.rcParams)
        assert [picture.svg() for picture in pictures_of(reversed(night))[:2]] == once
        assert dict(mpl.rcParams) == before
    for place in ("a.png", "b.png", "a.svg", "b.svg"):
        save(pictures_of(night)[2:4], tmp_path / "new" / place, title="A night")
    png, svg = tmp_path / "new/a.png", tmp_path / "new/a.svg"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_bytes().startswith(b"<?xml")
    assert png.read_bytes() == (tmp_path / "new/b.png").read_bytes()
    assert svg.read_bytes() == (tmp_path / "new/b.svg").read_bytes()
    for place, now in (("a.PDF", "1"), ("b.pdf", "1000000000")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", now)  # what matplotlib takes for the time
        save(pictures_of(night)[2:4], tmp_path / place)
    pdf = (tmp_path / "a.PDF").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert pdf == (tmp_path / "b.pdf").read_bytes()


def test_a_notebook_shows_a_picture():
    (picture, *_) = pictures_of([subrun()])
    assert picture._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_drawing_is_loaded_when_something_is_drawn():
    # pyplot would choose a backend, and remember every figure
    program = (
        "import sys, ctaflows.tasks.pictures, ctaflows.dl1.report.html\n"
        "import ctaflows.dl1.report.plots as f\n"
        "assert not {'matplotlib', 'numpy', 'prefect', 'h5py', 'jinja2'} & set(sys.modules)\n"
        "from nightkit import subrun\n"
        "f.save(f.pictures_of([subrun()]), sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    words = [sys.executable, "-c", program, "/dev/null/night.png"]
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    # nothing can be written there: that is all that goes wrong
    assert "UsageError: The file can't be written" in done.stderr, done.stderr


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "night.png"
    path.write_text("before")
    for bad in ("night.jpeg", "night"):
        with pytest.raises(UsageError, match="can't be"):
            plot_night([subrun()], tmp_path / bad)
    with pytest.raises(UsageError, match="nothing to draw"):
        plot_night([damaged()], path)
    from matplotlib.figure import Figure

    def full(self, stream, **_):
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", full)
        with pytest.raises(NoSpace, match="No space left"):
            plot_night([subrun()], path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["night.png"]
    assert plot_night(report(subrun()), path) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="can't be written"):
        write_page([subrun()], path / "night.html")
