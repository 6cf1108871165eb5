"""The page of a night: one file, all of it text that is meant to be there."""

import base64
import dataclasses
import datetime as dt
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from html.parser import HTMLParser
from importlib import resources

import pytest
from nightkit import BEGIN, FOLDER, damaged, datacheck, report, subrun

from ctaflows.dl1.night import Gaps
from ctaflows.dl1.night_completeness import Completeness, Duplicate, SizeOutlier
from ctaflows.dl1.quality.checks import Check, Inspection, remarks
from ctaflows.dl1.report.html import page
from ctaflows.dl1.report.totals import rows_of_inspections, totals_by_run
from ctaflows.model import Checksum, Transfer
from ctaflows.tasks.pictures import write_page

WEEK = dt.timedelta(days=7)
VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """Elements with their attributes, and the text in each."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], Counter()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append((tag, self.elements[-1][2]))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        opened, _ = self.open.pop()
        assert opened == tag

    def handle_data(self, data):
        for _, texts in self.open:
            texts.append(data)

    def all(self, tag, **attributes):
        return [
            (attrs, "".join(texts))
            for name, attrs, texts in self.elements
            if name == tag and all(attrs.get(k.rstrip("_")) == v for k, v in attributes.items())
        ]

    def rows(self):
        return [text for attrs, text in self.all("tr") if "data-verdict" in attrs]


@pytest.fixture(scope="module")
def night():
    lost = Transfer(f"{FOLDER}/dl1_LST-1.Run11113.0001.h5", "/x", error="NetworkError: it broke")
    return report(
        subrun(11111, 0),
        subrun(11111, 1, n_events_by_type={"cosmic": 5}),
        damaged(11111, 2),
        datacheck(11111, 0),
        subrun(11113, 0),
        missing=["Run11111.0003"],
        growing=["dl1_LST-1.Run11114.0000.h5"],
        transfers=[lost],
    )


@pytest.fixture(scope="module")
def text(night):
    return page(night)


def test_it_says_what_the_night_is(night, text):
    found = Page(text)
    assert [t for _, t in found.all("h1")] == ["DL1 night 20241114 v0.1"]
    ((_, headline),) = found.all("p", id="headline")
    assert "bad Not complete: 2 files failed." in headline
    headings = [t for _, t in found.all("h2")]
    assert headings == [
        "Failed (2)", "Missing at the door (1)", "Still growing (1)", "Pictures", "Runs", "Files",
    ]  # fmt: skip
    assert {"Run11111.0003", "dl1_LST-1.Run11114.0000.h5"} <= {t for _, t in found.all("li")}
    assert len(found.all("svg")) == 5
    assert len(found.rows()) == len(night.transfers) == 6


def test_each_file_has_its_verdict_and_what_is_not_good(night, text):
    rows = night.rows()
    assert [row.verdict for row in rows] == ["ok", "bad", "bad", "ok", "ok", "failed"]
    shown = Page(text).rows()
    second = list(night.inspections.values())[1]
    for remark in remarks(second.checks):
        assert remark in shown[1]
    assert "rate_pedestal" in shown[1]
    assert "the file ends after 5 of 9 bytes" in shown[2]
    assert "NetworkError: it broke" in shown[5]
    # said once, and not beside a file that is good
    assert shown[2].count("Truncated") == 1
    assert rows[0].remarks == ()


def test_runs_are_added_up_and_events_counted_once(night):
    first, second = totals_by_run(night.rows())
    assert (first.run, first.n_files, first.n_events) == (11111, 4, 2 * 61_850)
    assert first.verdicts == {"ok": 2, "bad": 2}
    assert first.duration_s == 20.0
    assert (second.run, second.n_files, second.n_events) == (11113, 2, 61_850)
    (whole,) = totals_by_run(rows_of_inspections([subrun(11111, None), datacheck(11111, None)]))
    assert whole.n_events == 61_850


@pytest.mark.usefixtures("without_pictures")
def test_files_of_several_nights_have_dates():
    early, late = subrun(), subrun(11113, 0)
    assert ">2024-" not in page([early, late]).partition('id="runs"')[2]
    later = dataclasses.replace(late.summary, time_first=late.summary.time_first + WEEK,
                                time_last=late.summary.time_last + WEEK)  # fmt: skip
    text = page([early, dataclasses.replace(late, summary=later)])
    day = f"{later.time_last:%Y-%m-%d}"
    assert f" to {day} " in text
    assert f">{day} " in text.partition('id="runs"')[2]


@pytest.mark.usefixtures("without_pictures")
def test_a_good_night_and_an_empty_one():
    good = subrun(rates=None, pointing=None, spectrum=None, images=None, rate_hz_by_type=None)
    assert "ok</strong> <span>Complete. Files: 1 good.</span>" in page(report(good))
    missing = page(report(good, missing=["Run11112"]))
    assert "Not complete: subruns are missing at the door. Files: 1 good." in missing
    growing = page(report(good, growing=["x.h5"]))
    assert "Not complete: the night is still growing at the door. Files: 1 good." in growing
    unseen = Transfer("/cta/a.pdf", "/x/a.pdf", 5)
    assert "1 not checked" in page(report(transfers=[unseen]))
    assert "0 files: none." in page([])
    assert "<h1>Mine</h1>" in page([], title="Mine")


def test_nothing_is_loaded_and_only_its_own_script_runs(text):
    found = Page(text)
    for _, attrs, _ in found.elements:
        for key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert attrs.get(key, "#")[0] == "#", attrs
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", text)
    ((policy, _),) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; ")
    ((_, script),) = found.all("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f" script-src 'sha256-{digest}'; " in policy["content"]


HOSTILE = (
    "<img src=x onerror=alert(1)>\"'&</td></script><script>alert(2)</script>\u202e\udce9\x1b[2J.h5"
)


def test_hostile_names_and_words_are_only_text(tmp_path):
    errors = f"NotHDF5: {HOSTILE} Bearer abcdefgh12345678"
    bad = Inspection(f"/d/{HOSTILE}", error=errors)
    files = report(bad, missing=[HOSTILE], transfers=[Transfer(f"/p/{HOSTILE}", "y", error=errors)])
    write_page(files, tmp_path / "night.html", title=HOSTILE)
    text = (tmp_path / "night.html").read_text("utf-8")
    found = Page(text)
    assert found.all("img") == []
    assert len(found.all("script")) == 1
    assert "abcdefgh12345678" not in text
    assert not set(text) & set("\u202e\x1b")
    shown = HOSTILE.translate(dict.fromkeys([0x202E, 0xDCE9, 0x1B], "\ufffd"))
    ((_, heading),) = found.all("h1")
    assert heading == shown
    assert all(shown.rpartition("/")[2] in row for row in found.rows())
    (first, _) = [attrs for attrs, _ in found.all("td") if attrs.get("title")]
    assert first["title"].endswith(shown)


EVIL = "<script>\"'&"


def with_texts(value, change):
    """Give the value with every text in it changed; verdicts are words of our own."""
    if isinstance(value, str):
        return change(value)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **{
            k: v if k == "verdict" else with_texts(v, change) for k, v in fields.items()
        })  # fmt: skip
    if isinstance(value, Mapping):
        return {with_texts(k, change): with_texts(v, change) for k, v in value.items()}
    return tuple(with_texts(v, change) for v in value) if isinstance(value, tuple) else value


def bare(inspection, *checks):
    summary = dataclasses.replace(inspection.summary, tables=())
    return dataclasses.replace(inspection, summary=summary, checks=checks)


@pytest.fixture(scope="module")
def told():
    """Give a night in which whatever may be told is told."""
    beyond = Check("beyond", 2.0, "a unit", (0, 1), (0, 9), "warn", said="/a/t", source="a source")
    census = Completeness(
        "20241114", "v0.2", "/cta/looked-at", BEGIN,
        missing=("Run1",), growing=("census-grows.h5",), empty=("/cta/empty.h5",),
        data_without_datacheck=("Run2.0001",), datacheck_without_data=("Run2.0002",),
        doubles=(Duplicate("double", 3, 2, ("here", "there")),),
        odd_sizes=(SizeOutlier("/cta/odd.h5", 1, 2),), unknown=("/cta/unknown",),
        only_older={"Run1": "v0.05"}, awaited={"Run4": "v0.3"},
    )  # fmt: skip
    moved = Transfer(
        "/cta/DL1/20241114/v0.2/dl1_LST-1.Run11112.0000.h5", "/data/local.h5", 5,
        checksum=Checksum("md5", "00"), verified=True, server="a server", note="a note",
    )  # fmt: skip
    lost = Transfer("/cta/lost.h5", "/data/lost.h5", error="NetworkError: it broke")
    night = report(
        bare(subrun(), beyond),
        damaged(),
        bare(datacheck()),
        transfers=[moved, lost],
        census=census,
        versions={v: f"/cta/DL1/20241114/{v}" for v in ("v0.1", "v0.2")},
    )
    gaps = Gaps(
        ("Run5",), ("grows.h5",), {"Run5": "v0.04"}, True, {"Run6": "v0.4"}, ("/cta/gaps-unknown",)
    )
    return dataclasses.replace(night, gaps=gaps)


def test_no_text_of_a_night_is_taken_for_html(told, request):
    texts, shown = set(), set()
    with_texts(told, texts.add)
    for night in (told, tuple(told.inspections.values())):
        known = {key for _, attrs, _ in Page(page(night)).elements for key in attrs}
        for change in (lambda text: text + EVIL, lambda text: EVIL + text):
            text = page(with_texts(night, change))
            found = Page(text)
            assert text.count("<script>") == len(found.all("script")) == 1
            assert {key for _, attrs, _ in found.elements for key in attrs} == known
            read = [v for _, attrs, said in found.elements for v in (*attrs.values(), *said) if v]
            shown |= {text for text in texts if any(change(text) in v for v in read)}
        request.getfixturevalue("without_pictures")  # the files alone make the same ones
    # all others were there to be escaped; of a checksum, the first 16 characters
    (readable,) = damaged().checks
    assert texts - shown == {
        "/data/local.h5", "/data/lost.h5", "a server", "a note", "a source", readable.source,
        "1a2b3c4d", "lstchain", "DL1a+DL1b", "datacheck", "/cta/looked-at", "/cta/gaps-unknown",
    }  # fmt: skip


def test_it_can_be_read_without_eyes_or_colours(text):
    found = Page(text)
    assert found.elements[0] == ("html", {"lang": "en", "class": "no-script"}, found.elements[0][2])
    assert found.all("meta", name="viewport")
    assert len(found.all("caption")) == len(found.all("table")) == 2
    assert all(attrs["scope"] == "col" for attrs, _ in found.all("th"))
    images = found.all("div", role="img")
    assert len(images) == 5
    assert all(len(attrs["aria-label"]) > 20 for attrs, _ in images)
    signs = {t for attrs, t in found.all("td") if "verdict" in (attrs.get("class") or "")}
    assert signs == {"✓ ok", "✗ bad", "✗✗ failed"}
    names = [attrs["id"] for _, attrs, _ in found.elements if "id" in attrs]
    assert len(names) == len(set(names))
    uses = {v[1:] for _, a, _ in found.elements for v in a.values() if v and v[0] == "#"}
    uses |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert uses <= set(names)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_contrast_by_day_by_night_and_on_paper():
    css = (resources.files("ctaflows.dl1.report") / "page.css").read_text()
    themes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", theme))
        colours = {k: "#" + "".join(c * 2 for c in v[1:]) if len(v) == 4 else v
                   for k, v in colours.items()}  # fmt: skip
        ground = luminance(colours["ground"])
        for name, least in {
            "text": 7, "soft": 4.5, "ok": 4.5, "warn": 4.5, "bad": 4.5,
            "blue": 3, "vermillion": 3, "green": 3, "purple": 2.9,
        }.items():  # fmt: skip
            high, low = sorted((ground, luminance(colours[name])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (name, colours[name])


def test_a_night_of_thousands_stays_a_page():
    big = page([subrun(11000 + run, n) for run in range(1, 20) for n in range(100)])
    assert big.count("<tr data-verdict=") == 1900
    assert len(big) < 2_000_000
