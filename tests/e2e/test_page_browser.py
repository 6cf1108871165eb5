"""The page in a real browser: it sorts, filters, fits a phone, and loads nothing."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from nightkit import FOLDER, damaged, datacheck, report, subrun

from ctaflows.dl1.quality.checks import Inspection
from ctaflows.tasks.pictures import write_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here (apt-get install chromium)"),
]

#: Works on the page in a frame as a person would: the page's own rules let no other script in.
DRIVER = """<!DOCTYPE html><title>driver</title>
<iframe id="page" src="/night.html" style="width:390px;height:800px;border:0"></iframe>
<pre id="found"></pre>
<script>
document.getElementById("page").onload = (event) => {
  const page = event.target.contentDocument;
  const head = (name) => [...page.querySelectorAll("#files th")]
    .find((one) => one.textContent.startsWith(name));
  const click = (name) => head(name).querySelector("button").click();
  const seen = () => [...page.querySelectorAll("#files tbody tr")]
    .filter((row) => row.getClientRects().length)
    .map((row) => row.cells[0].firstChild.data);
  const choose = (id, value, type) => {
    const field = page.getElementById(id);
    field.value = value;
    field.dispatchEvent(new event.target.contentWindow.Event(type, {bubbles: true}));
  };
  const shown = () => page.getElementById("shown").value;
  const found = {images: page.images.length, scripts: page.scripts.length, at_first: seen()};
  found.is_dark = event.target.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches;
  click("Events"); found.by_events = seen(); found.sorted = head("Events").ariaSort;
  click("Events"); found.by_events_down = seen(); found.sorted_down = head("Events").ariaSort;
  click("Verdict"); click("Verdict"); found.worst_first = seen();
  found.still_sorted = head("Events").ariaSort;
  click("File"); found.by_name = seen();
  choose("verdict", "not ok", "change"); found.not_ok = [seen(), shown()];
  choose("verdict", "", "change");
  choose("words", "run11113 .0000", "input"); found.words = [seen(), shown()];
  choose("words", "RATE_FLATFIELD", "input"); found.remark = [seen(), shown()];
  choose("words", "", "input"); found.all = shown();
  found.too_wide = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  found.drawn = [...page.querySelectorAll("figure svg")].map((svg) => svg.getBBox().width > 100);
  // an attack that got past the escapes would find this door closed
  const evil = page.createElement("script");
  evil.textContent = "window.evil = true";
  page.body.append(evil);
  found.evil = Boolean(event.target.contentWindow.evil);
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


def browse(tmp_path: Path, url: str) -> str:
    """Give the page as it stands once its scripts have run."""
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-extensions", "--disable-background-networking", "--disable-sync",
             f"--user-data-dir={tmp_path / 'chromium'}", "--virtual-time-budget=5000",
             "--dump-dom", url]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def names(*numbers: tuple[int, int]) -> list[str]:
    return [f"dl1_LST-1.Run{run}.{number:04d}.h5" for run, number in numbers]


EVIL = "<img src=x onerror=\"document.title='evil'\">.h5"


@pytest.fixture
def night(tmp_path: Path) -> Path:
    few = {"cosmic": 50_000, "pedestal": 900}
    night = report(
        subrun(11111, 0),
        subrun(11113, 0, n_events=9_000),
        subrun(11111, 1, n_events=100_000, n_events_by_type=few),
        damaged(11111, 2),
        datacheck(11113, 0),
        Inspection(f"{FOLDER}/{EVIL}", error=f"NotHDF5: {EVIL}"),
    )
    return write_page(night, tmp_path / "night.html")


@pytest.fixture
def served(night: Path) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    pages = {"/night.html": night.read_bytes(), "/driver.html": DRIVER.encode()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = pages.get(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/driver.html", asked
        finally:
            server.shutdown()
            thread.join()


def test_the_table_sorts_and_filters(tmp_path: Path, served: tuple[str, list[str]]) -> None:
    url, asked = served
    dom = browse(tmp_path, url)
    match = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert match
    assert match[1], "the page did not load, or the driver failed"
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    first, third, second, cut = names((11111, 0), (11113, 0), (11111, 1), (11111, 2))
    check = f"datacheck_{third}"
    assert found["at_first"] == [first, third, second, cut, check, EVIL]
    # numbers as numbers, equal ones in the night's order, absent ones last both ways
    assert found["by_events"] == [third, first, check, second, cut, EVIL]
    assert found["by_events_down"] == [second, first, check, third, cut, EVIL]
    assert (found["sorted"], found["sorted_down"]) == ("ascending", "descending")
    assert found["worst_first"] == [second, cut, EVIL, first, third, check]
    assert found["still_sorted"] is None
    assert found["by_name"] == [EVIL, check, first, second, cut, third]
    assert found["not_ok"] == [[EVIL, second, cut], "3 of 6 files"]
    assert found["words"] == [[check, third], "2 of 6 files"]
    assert found["remark"] == [[second], "1 of 6 files"]
    assert found["all"] == "6 of 6 files"
    # a phone's width is enough
    assert found["too_wide"] == 0
    assert found["drawn"] == [True] * 5
    # names of files are no HTML, and no script runs but the page's
    assert (found["images"], found["scripts"], found["evil"]) == (0, 1, False)
    assert set(asked) <= {"/driver.html", "/night.html", "/favicon.ico"}


def test_it_opens_from_a_disk(tmp_path: Path, night: Path) -> None:
    dom = browse(tmp_path, night.as_uri())
    assert "6 of 6 files</output>" in dom
    assert '<html lang="en" class="">' in dom
    assert "<title>DL1 night 20241114 v0.1</title>" in dom
