"""Compare ctaflows with other tools on servers on this machine, and check its targets.

The files are on a RAM disk, served by nginx and XRootD over TLS, see docs/performance.md.

    python -m benchmarks.transfers                         all workloads, three runs each
    python -m benchmarks.transfers get-small put-large:nginx
    python -m benchmarks.transfers --quick                 small sizes, one run: does it work?
    python -m benchmarks.transfers --from FILE --write-docs
"""

from __future__ import annotations

import argparse
import compileall
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.transfers import contest, machine, results, table, workloads
from benchmarks.transfers.stage import RAM_DISK, Stage

HOME = Path(__file__).parents[2]
PAGE = HOME / "docs" / "performance.md"
KEPT = HOME / "benchmarks" / "results"
PUBLISHED = KEPT / "published.json"


def main() -> None:
    asked = _options()
    try:
        works = workloads.chosen(asked.works)
    except ValueError as why:
        sys.exit(f"benchmarks.transfers: {why}")
    if asked.source is not None:
        found = results.load(asked.source)
        print(table.text(found.rows))
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the RAM disk is cleared
        found = _race(asked, works)
    if asked.write_docs:
        _publish(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(work.key for work in workloads.WORKS)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"{known}; or WORK:SERVER")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each tool")
    parser.add_argument("--quick", action="store_true", help="small sizes, one run")
    parser.add_argument("--limit", type=float, default=300, help="longest run, seconds")
    parser.add_argument("--place", type=Path, help=f"folder for the files [{RAM_DISK}]")
    parser.add_argument("--from", dest="source", type=Path, help="show these results, run nothing")
    parser.add_argument(
        "--write-docs", action="store_true", help=f"write the table to {PAGE.relative_to(HOME)}"
    )
    asked = parser.parse_args()
    if asked.quick and asked.write_docs:
        parser.error("--quick only shows that it works: its results are not published")
    return asked


def _race(asked: argparse.Namespace, works: list[tuple[workloads.Work, str]]) -> results.Results:
    repeats = 1 if asked.quick else asked.repeats
    place = asked.place or (RAM_DISK if RAM_DISK.is_dir() else Path(tempfile.gettempdir()))
    compileall.compile_dir(HOME / "ctaflows", quiet=2)  # as pip does
    found = results.Results(f"{datetime.now(UTC):%Y-%m-%d %H:%M}", {}, _settings(asked, place))
    file = KEPT / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    print(table.text([]), flush=True)
    with Stage(place) as stage:
        for work, server in works:
            row = contest.hold(
                stage, work, server, quick=asked.quick, repeats=repeats, limit_s=asked.limit
            )
            found.rows.append(row)
            print(table.text([row], head=False), flush=True)
            found.machine = machine.versions() | stage.versions()
            results.save(found, file)  # after each: a long run may be stopped
    print(f"\nraw figures: {file.relative_to(HOME)}")
    if asked.quick:
        print("small sizes, one run: the ratios mean nothing")
    return found


def _settings(asked: argparse.Namespace, place: Path) -> dict[str, object]:
    load = machine.load()
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): times and ratios are unreliable")
    return {
        "runs": 1 if asked.quick else asked.repeats,
        "load before": round(load, 1),
        "files on": "a RAM disk" if place == RAM_DISK else "disk",
        **({"sizes": "quick"} if asked.quick else {}),
    }


def _publish(found: results.Results) -> None:
    """Write the results to the page, and keep the rows that were not measured this time."""
    if found.settings.get("sizes") == "quick":
        sys.exit("benchmarks.transfers: results of --quick are not published")
    before = results.load(PUBLISHED) if PUBLISHED.exists() else None
    order = [(work.key, server) for work, server in workloads.chosen([])]
    try:
        published = results.merged(found, before, order)
    except ValueError as why:
        sys.exit(f"benchmarks.transfers: {why}")
    results.save(published, PUBLISHED)
    table.write(published, PAGE)
    print(f"written: {PAGE.relative_to(HOME)}")


if __name__ == "__main__":
    main()
