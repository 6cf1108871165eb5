"""Race ctaflows and other tools against servers on this machine, and say what was reached.

Everything is served over TLS from a RAM disk by nginx and XRootD, see docs/performance.md.

    python -m benchmarks.transfers                         all works, three runs each
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
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the RAM disk is emptied
        found = _race(asked, works)
    if asked.write_docs:
        _publish(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(work.key for work in workloads.WORKS)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"{known}; or WORK:SERVER")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--quick", action="store_true", help="small sizes, one run")
    parser.add_argument("--limit", type=float, default=300, help="longest run, seconds")
    parser.add_argument("--place", type=Path, help=f"where the files lie [{RAM_DISK}]")
    parser.add_argument("--from", dest="source", type=Path, help="show these results, run nothing")
    parser.add_argument("--write-docs", action="store_true", help=f"into {PAGE.relative_to(HOME)}")
    asked = parser.parse_args()
    if asked.quick and asked.write_docs:
        parser.error("--quick shows that it works, not how fast: nothing to be written")
    return asked


def _race(asked: argparse.Namespace, works: list[tuple[workloads.Work, str]]) -> results.Results:
    repeats = 1 if asked.quick else asked.repeats
    place = asked.place or (RAM_DISK if RAM_DISK.is_dir() else Path(tempfile.gettempdir()))
    compileall.compile_dir(HOME / "ctaflows", quiet=2)  # as an installation does
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
            results.save(found, file)  # each time: a long run may be stopped
    print(f"\nraw figures: {file.relative_to(HOME)}")
    if asked.quick:
        print("sizes are small and each ran once: the ratios mean nothing")
    return found


def _settings(asked: argparse.Namespace, place: Path) -> dict[str, object]:
    load = machine.load()
    if load > 0.5:
        print(f"other work runs here (load {load:.1f}): seconds and ratios can't be trusted")
    return {
        "runs": 1 if asked.quick else asked.repeats,
        "load before": round(load, 1),
        "files on": "a RAM disk" if place == RAM_DISK else "disk",
        **({"sizes": "quick"} if asked.quick else {}),
    }


def _publish(found: results.Results) -> None:
    """Put all that was measured into the page; what was not measured now stays as it was."""
    if found.settings.get("sizes") == "quick":
        sys.exit("benchmarks.transfers: results of --quick are not for the page")
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
