"""The verdicts on quantities, and bounds from a file."""

import dataclasses
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from nights import make_night

from ctaflows.dl1.content.inspect import inspect_file
from ctaflows.dl1.content.quantities import (
    Calibration,
    Charges,
    Identities,
    Images,
    Pointing,
    Quantities,
    Rate,
    Rates,
    Spectrum,
    Spread,
    Times,
)
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.hdf5.tables import TableInfo
from ctaflows.dl1.quality.checks import (
    Bounds,
    Check,
    Inspection,
    check,
    check_error,
    load_bounds,
    notable,
    remarks,
    verdict_of,
    with_datacheck,
)
from ctaflows.dl1.quality.rules import RULES
from ctaflows.errors import Truncated, UsageError

N = 70_000
COUNTS = {"cosmic": N - 1900, "pedestal": 950, "flatfield": 950}
TABLES = (
    "/configuration/instrument/subarray/layout",
    "/dl1/event/telescope/image/LST_LSTCam",
    "/dl1/event/telescope/monitoring/calibration",
    "/dl1/event/telescope/monitoring/flatfield",
    "/dl1/event/telescope/monitoring/pedestal",
    "/dl1/event/telescope/parameters/LST_LSTCam",
)
CHARGES = {
    "pedestal": Charges(900, 0.2, 2.0, n_noisy=3),
    "flatfield": Charges(900, 70.0, 9.0, time_mean_ns=18.0, relative_time_std_ns=0.4),
}
GOOD = Quantities(
    identities=Identities(0, 0, 0, 0),
    times=Times(N, 0, 0, 0, 0.002, 7e-6, 1.4e-4, 0.95, 9.5),
    rates=Rates(1.0, 10, {"all": Rate(7000, 80, 6900, 7100, 0.0)}),
    pointing=Pointing(N, 0, 70.0, 110.0, 20.0, 0.04, 0.0001),
    intensity={"cosmic": Spread(54_000, N - 1900 - 54_000), "pedestal": Spread(2, 948)},
    n_incomplete=0,
    spectrum=Spectrum((1000,) * 100, 1.7, -2.25, 1.75, -2.23, 0.02),
    images=Images(N, 2900, 1855, 2, CHARGES, 0),
    calibration=Calibration(n_unusable_pixels=4, n_pixels=1855),
)


def summary(quantities=GOOD, counts=COUNTS, tables=TABLES, **changes):
    n = sum(counts.values())
    values = {
        "file": "dl1_LST-1.Run11111.0000.h5",
        "size_bytes": 10,
        "layout": "lstchain",
        "level": "DL1a+DL1b",
        "simulated": False,
        "n_events": n,
        "n_events_by_type": counts,
        "duration_s": 10.0,
        "rate_hz": n / 10.0,
        "rate_hz_by_type": {k: v / 10.0 for k, v in counts.items()},
        "tables": tuple(TableInfo(path, 1, ()) for path in tables),
        "quantities": quantities,
    }
    return DL1Summary(**{**values, **changes})


def changed(**parts):
    return summary(dataclasses.replace(GOOD, **parts))


def verdicts(found, bounds=None):
    return {c.name: c.verdict for c in check(found, bounds)}


def test_a_good_subrun():
    found = verdicts(summary())
    assert set(found) == {"readable", *RULES}
    assert found.pop("datacheck_events") == "absent"
    assert set(found.values()) == {"ok"}
    assert verdict_of(check(summary())) == "ok"
    assert remarks(check(summary())) == []


def charges(kind, **values):
    return Images(N, 2900, 1855, 2, {**CHARGES, kind: dataclasses.replace(CHARGES[kind], **values)})


WRONG = [
    ("tables_missing", "warn", summary(tables=TABLES[:2] + TABLES[3:])),
    ("events", "bad", summary(counts={"cosmic": 0})),
    (
        "images_unmatched",
        "bad",
        changed(images=Images(N, 2900, 1855, 2, {**CHARGES, "all": Charges(1)})),
    ),
    ("ids_duplicate", "bad", changed(identities=Identities(1, 0, 0, 0))),
    ("ids_missing", "warn", changed(identities=Identities(0, 2000, 0, 0))),
    ("ids_missing", "bad", changed(identities=Identities(0, N, 0, 0))),
    ("tags_differ", "bad", changed(identities=Identities(0, 0, N // 10, 0))),
    ("ucts_jumps", "warn", changed(identities=Identities(0, 0, 0, 1))),
    ("types_unknown", "warn", summary(counts={**COUNTS, "unknown": 1000})),
    ("time_backward", "bad", changed(times=dataclasses.replace(GOOD.times, n_backward=1))),
    ("time_unset", "warn", changed(times=dataclasses.replace(GOOD.times, n_unset=1))),
    ("time_gap", "warn", changed(times=dataclasses.replace(GOOD.times, max_step_s=0.02))),
    ("time_gap", "bad", changed(times=dataclasses.replace(GOOD.times, max_step_s=2.0))),
    ("live_fraction", "warn", changed(times=dataclasses.replace(GOOD.times, live_fraction=0.8))),
    ("rate_cosmic", "warn", summary(counts={**COUNTS, "cosmic": 35_000})),
    ("rate_cosmic", "bad", summary(counts={**COUNTS, "cosmic": 7000})),
    ("rate_pedestal", "warn", summary(counts={**COUNTS, "pedestal": 700})),
    ("rate_pedestal", "bad", summary(counts={k: COUNTS[k] for k in ("cosmic", "flatfield")})),
    ("rate_flatfield", "bad", summary(counts={**COUNTS, "flatfield": 100})),
    ("rate_excess", "warn", changed(rates=Rates(1.0, 9, {"all": Rate(1, 1, 1, 1, 0.2)}))),
    ("cleaned_pedestal", "bad", changed(intensity={"pedestal": Spread(300, 650)})),
    ("cleaned_cosmic", "warn", changed(intensity={"cosmic": Spread(1000, 3000)})),
    ("incomplete", "warn", changed(n_incomplete=600)),
    ("spectrum_index", "warn", changed(spectrum=Spectrum((9999,) * 100, 1, -2, 1.7, -2.5, 0.01))),
    ("spectrum_rate", "warn", changed(spectrum=Spectrum((9999,) * 100, 1, -2, 1.2, -2.2, 0.01))),
    ("pedestal_charge_std", "warn", changed(images=charges("pedestal", charge_std=2.8))),
    ("pedestal_noisy", "bad", changed(images=charges("pedestal", n_noisy=1800))),
    ("flatfield_charge", "warn", changed(images=charges("flatfield", charge_mean=60.0))),
    ("flatfield_charge", "bad", changed(images=charges("flatfield", charge_mean=30.0))),
    ("flatfield_charge_std", "warn", changed(images=charges("flatfield", charge_std=12.0))),
    ("flatfield_time", "warn", changed(images=charges("flatfield", time_mean_ns=25.0))),
    ("flatfield_time_std", "bad", changed(images=charges("flatfield", relative_time_std_ns=2.0))),
    ("pixels_unusable", "warn", changed(calibration=Calibration(n_unusable_pixels=71))),
    ("charges_nan", "warn", changed(images=Images(N, 2900, 1855, 2, CHARGES, 9))),
    ("charges_nan", "bad", changed(images=Images(N, 2900, 1855, 2, CHARGES, 2900 * 20))),
    ("pixels_dead", "bad", changed(images=Images(N, 2900, 1855, 100, CHARGES))),
    ("pointing_step", "warn", changed(pointing=Pointing(9, 0, 70, 1, 20, 1.0, 0.1))),
    ("pointing_nan", "warn", changed(pointing=Pointing(100, 1, 70, 1, 20, 0.0, 0.0))),
]


@pytest.mark.parametrize(("name", "verdict", "wrong"), WRONG, ids=lambda v: str(v)[:30])
def test_what_is_wrong_is_found(name, verdict, wrong):
    assert verdicts(wrong)[name] == verdict
    assert verdict_of(check(wrong)) in ("warn", "bad")
    assert any(name in line for line in remarks(check(wrong)))


def test_every_rule_can_fail():
    elsewhere = {"tables_empty", "rows_disagree", "datacheck_events"}
    assert {name for name, _, _ in WRONG} | elsewhere == set(RULES)


def looked(file, **changes):
    found = summary(file=file, **changes)
    return Inspection(file, found, checks=check(found))


def events_of(inspections, bounds=None):
    """Give what comes of the comparison, by file."""
    return {
        one.file: [c for c in one.checks if c.name == "datacheck_events"]
        for one in with_datacheck(inspections, bounds)
    }


def test_data_are_compared_with_their_datacheck():
    about = {"level": "datacheck", "counts": {**COUNTS, "cosmic": N - 1905}}
    data = [looked(f"n/dl1_LST-1.Run11111{x}.h5") for x in (".0000", ".0001", "")]
    short = looked("n/datacheck/datacheck_dl1_LST-1.Run11111.0000.h5", **about)
    whole = looked("datacheck_dl1_LST-1.Run11111.h5", level="datacheck")
    damaged = Inspection("datacheck_dl1_LST-1.Run11111.0001.h5", error="Truncated: …")
    for order in ([short, *data, damaged, whole], [*reversed(data), whole, short, damaged]):
        found = events_of(order)
        assert list(found) == [one.file for one in order]
        (bad,), (absent,), (good,) = (found[one.file] for one in data)
        assert (bad.verdict, bad.value) == ("bad", 5)
        assert "70000 events, 69995 in the datacheck" in bad.said
        assert (absent.verdict, good.verdict, good.value) == ("absent", "ok", 0)
        assert found[short.file] == []


def test_the_datacheck_of_the_same_version_counts():
    versions = [looked(f"n/v0.{i}/t84/dl1_LST-1.Run11111.0000.h5", counts={"cosmic": N + i})
                for i in (1, 2)]  # fmt: skip
    checked = [looked(f"n/v0.{i}/t84/datacheck/datacheck_dl1_LST-1.Run11111.0000.h5",
                      level="datacheck", counts={**COUNTS, "cosmic": N - 1900 + i})
               for i in (2, 1)]  # fmt: skip
    found = events_of([*versions, *checked])
    assert [found[one.file][0].value for one in versions] == [0, 0]


def test_a_datacheck_lacks_types_of_fewer_than_two_events():
    data = looked("dl1_LST-1.Run11111.0000.h5", counts={"cosmic": N, "pedestal": 1})
    name = "datacheck_dl1_LST-1.Run11111.0000.h5"
    for counts, verdict in (({"cosmic": N}, "ok"), ({"cosmic": N - 3}, "bad")):
        checked = looked(name, level="datacheck", counts=counts)
        (one,) = events_of([data, checked])[data.file]
        assert one.verdict == verdict


def test_the_comparison_keeps_to_bounds(tmp_path):
    (tmp_path / "b.toml").write_text("[datacheck_events]\nwarn = [0, 9]\nbad = [0, 99]\n")
    (tmp_path / "none.toml").write_text("[datacheck_events]\nuse = false\n")
    data = looked("dl1_LST-1.Run11111.0000.h5")
    short = looked(f"datacheck_{data.file}", level="datacheck", counts={**COUNTS, "pedestal": 945})
    (one,) = events_of([data, short], load_bounds(tmp_path / "b.toml"))[data.file]
    assert (one.verdict, one.warn) == ("ok", (0, 9))
    bounds = load_bounds(tmp_path / "none.toml")
    bare = dataclasses.replace(data, checks=check(data.summary, bounds))
    assert events_of([bare, short], bounds)[data.file] == []


def test_tables():
    empty = (TableInfo(TABLES[1], 0, ()), *summary().tables[2:])
    assert verdicts(dataclasses.replace(summary(), tables=empty))["tables_empty"] == "warn"
    uneven = (TableInfo(TABLES[1], 5, ()), TableInfo(TABLES[5], 6, ()))
    (one,) = [c for c in check(dataclasses.replace(summary(), tables=uneven))
              if c.name == "rows_disagree"]  # fmt: skip
    assert (one.verdict, one.value) == ("bad", 1)
    assert "5 images, 6 parameters" in one.said


def test_what_is_absent_is_not_judged():
    found = verdicts(summary(Quantities(), rate_hz=None, duration_s=None, rate_hz_by_type=None))
    assert found["flatfield_charge"] == found["rate_pedestal"] == found["time_gap"] == "absent"
    assert verdict_of(check(summary(Quantities()))) != "absent"
    assert verdict_of([]) == "absent"


def test_simulations_and_datacheck_have_their_own_checks():
    simulated = verdicts(summary(simulated=True))
    assert "rate_cosmic" not in simulated
    assert "rows_disagree" in simulated
    datacheck = verdicts(summary(level="datacheck", tables=()))
    assert "time_gap" not in datacheck
    assert datacheck["tables_missing"] == "warn"
    assert datacheck["flatfield_charge"] == "ok"


def test_few_events_are_judged_mildly():
    def lasting(duration_s, n_flatfield):
        return summary(
            counts={"cosmic": round(6500 * duration_s), "pedestal": 1, "flatfield": n_flatfield},
            duration_s=duration_s,
            rate_hz=6700.0,
            rate_hz_by_type={"cosmic": 6500.0},
        )

    # two flat-field events in 20 ms are what 100 Hz give, and twenty in 200 ms
    assert verdicts(lasting(0.02, 7))["rate_flatfield"] == "absent"
    assert verdicts(lasting(0.2, 25))["rate_flatfield"] == "ok"
    assert verdicts(lasting(0.2, 70))["rate_flatfield"] == "bad"
    many = summary(counts={**COUNTS, "flatfield": 1700})
    assert verdicts(many)["rate_flatfield"] == "bad"


def test_numbers_that_are_none_are_absent():
    for value in (float("nan"), float("inf"), None):
        odd = changed(times=dataclasses.replace(GOOD.times, live_fraction=value))
        (one,) = [c for c in check(odd) if c.name == "live_fraction"]
        assert (one.verdict, one.value) == ("absent", None)


def test_a_file_that_can_not_be_read():
    checks = check_error(Truncated("the file ends", where="x.h5"))
    assert [(c.name, c.verdict) for c in checks] == [("readable", "bad")]
    assert "Truncated" in checks[0].said
    assert remarks(checks) == ["bad: can't be read, Truncated: the file ends: x.h5"]


def test_what_is_notable_has_the_same_verdict():
    for some in (check(summary()), check(WRONG[-1][2]), check(WRONG[1][2]), check_error("x")):
        assert verdict_of(notable(some)) == verdict_of(some)
        assert remarks(notable(some)) == remarks(some)
    assert [c.name for c in notable(check(summary()))] == ["readable"]


def test_each_has_a_source_and_turns_into_json():
    for one in check(summary()):
        assert one.source
        assert Check.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False))) == one


def test_bounds_of_the_rules_are_in_order():
    for name, rule in RULES.items():
        for low, high in (rule.warn, rule.bad):
            assert low is None or high is None or low <= high, name
        assert rule.bad[0] is None or rule.bad[0] <= rule.warn[0], name
        assert rule.bad[1] is None or rule.bad[1] >= rule.warn[1], name


def written(bounds):
    low, high = (None if b is None else f"{b:g}" for b in bounds)
    if high is None:
        return f"≥ {low}"
    return low if low == high else f"{low} to {high}"


def test_the_page_on_checks_is_right():
    page = (Path(__file__).parents[2] / "docs/checks.md").read_text()
    for name, rule in RULES.items():
        (line,) = [x for x in page.splitlines() if x.startswith(f"| `{name}`")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1:] == [written(rule.warn), written(rule.bad), rule.source], name


# ---------------------------------------------------------------------------- bounds
def test_bounds_from_a_file(tmp_path):
    file = tmp_path / "bounds.toml"
    file.write_text(
        "[flatfield_charge]\nwarn = [80, 90]\nbad = [-inf, inf]\n[rate_cosmic]\nuse = false\n"
    )
    bounds = load_bounds(file)
    found = verdicts(summary(), bounds)
    assert found["flatfield_charge"] == "warn"
    assert "rate_cosmic" not in found
    assert list(found) == [n for n in ("readable", *RULES) if n != "rate_cosmic"]
    assert bounds.rules["flatfield_charge"].bad == (None, None)
    assert Bounds().rules["flatfield_charge"].warn == (62.1, 75.9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[flatfield_charge", "can't be read"),
        ("[nonsense]\nwarn = [1, 2]", "no check"),
        ("flatfield_charge = 1", "no check"),
        ("[flatfield_charge]\nwarn = [2, 1]", "can't be"),
        ("[flatfield_charge]\nwarn = [1]", "can't be"),
        ("[flatfield_charge]\nwarn = 'x'", "can't be"),
        ("[flatfield_charge]\nwarn = [nan, 1]", "can't be"),
        ("[flatfield_charge]\nwarn = [true, 1]", "can't be"),
        ("[flatfield_charge]\nbounds = [1, 2]", "can't be"),
        ("[flatfield_charge]\nuse = 'no'", "can't be"),
    ],
)
def test_bounds_that_are_none(tmp_path, text, said):
    file = tmp_path / "bounds.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        load_bounds(file)
    assert str(file) in str(caught.value)
    assert caught.value.hint


def test_no_bounds_file(tmp_path):
    with pytest.raises(UsageError, match="can't be read"):
        load_bounds(tmp_path / "none.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="can't be read"):
        load_bounds(tmp_path / "x.toml")


# ---------------------------------------------------------------------------- whole files
PARAMETERS = "dl1/event/telescope/parameters/LST_LSTCam"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    root = tmp_path_factory.mktemp("night")
    day = dt.date(2024, 11, 14)
    return make_night(root, day, runs=[11111], subruns=[1], events=2000, datacheck=False)[0]


def test_images_without_numbers_are_found(tmp_path):
    day = dt.date(2024, 11, 14)
    (path,) = make_night(
        tmp_path, day, runs=[11111], subruns=[1], events=60, datacheck=False, images=True
    )
    name = "dl1/event/telescope/image/LST_LSTCam"
    with h5py.File(path, "a") as file:
        rows = file[name][:]
        rows["image"][:] = np.nan
        file[name][...] = rows
    (one,) = [c for c in check(inspect_file(path)) if c.name == "charges_nan"]
    assert (one.verdict, one.value) == ("bad", 1.0)


def damaged(sample, tmp_path, change):
    """Change the rows of a subrun's parameters."""
    path = tmp_path / sample.name
    path.write_bytes(sample.read_bytes())
    with h5py.File(path, "a") as file:
        rows = file[PARAMETERS][:]
        change(rows)
        file[PARAMETERS][...] = rows
    return {c.name: c.verdict for c in check(inspect_file(path))}


def step_back(rows):
    rows["dragon_time"][700:] -= 0.1


def gap(rows):
    rows["dragon_time"][1000:] += 2


def same_numbers(rows):
    rows["event_id"][500:510] = rows["event_id"][490:500]


def nan(rows):
    rows["width"][::7] = np.nan


def jump(rows):
    rows["alt_tel"][1000:] += np.radians(1)


def no_pointing(rows):
    rows["alt_tel"] = np.nan


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (step_back, "time_backward"),
        (gap, "time_gap"),
        (same_numbers, "ids_duplicate"),
        (nan, "incomplete"),
        (jump, "pointing_step"),
        (no_pointing, "pointing_nan"),
    ],
)
def test_damage_in_the_rows_is_found(sample, tmp_path, change, name):
    before = damaged(sample, tmp_path, lambda rows: None)
    after = damaged(sample, tmp_path, change)
    assert before[name] == "ok"
    assert after[name] == "bad"


def test_checks_are_pure():
    code = (
        "import sys, ctaflows.dl1.quality.checks\n"
        "print(sorted({'h5py', 'numpy', 'prefect', 'tomllib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
