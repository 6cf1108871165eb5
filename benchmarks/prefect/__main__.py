"""Measure the cost of Prefect for a transfer, and that of plans and manifests for a large night.

    python -m benchmarks.prefect                    calls and night, on SQLite, three runs each
    python -m benchmarks.prefect night --database postgres
    python -m benchmarks.prefect scale --entries 1000000
    python -m benchmarks.prefect --quick            small sizes, one run: does it work?

The figures are written to benchmarks/results/prefect-DATE.json and printed as a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.prefect import calls, night, scale, table
from benchmarks.transfers import machine

HOME = Path(__file__).parents[2]
KEPT = HOME / "benchmarks" / "results"
WORKS = ("calls", "night", "scale")


def main() -> None:
    asked = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    started = datetime.now(UTC)
    found: dict[str, Any] = {
        "when": f"{started:%Y-%m-%d %H:%M}",
        "quick": asked.quick,
        "load before": round(machine.load(), 2),
        "machine": {"cores": len(os.sched_getaffinity(0)), "Python": platform.python_version()}
        | {name: metadata.version(name) for name in ("ctaflows", "prefect")},
    }
    file = KEPT / f"prefect-{started:%Y%m%d-%H%M%S}.json"
    for work in asked.works or ("calls", "night"):
        if work == "calls":
            found[work] = calls.measure(quick=asked.quick)
        elif work == "night":
            found[work] = night.measure(
                n_files=asked.files, repeats=asked.repeats,
                door=asked.door, database=asked.database, rtt_ms=asked.rtt,
            )  # fmt: skip
        else:
            found[work] = scale.measure(asked.entries)
        print(table.text(work, found[work]), flush=True)
        KEPT.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=1))  # after each: a long run may be stopped
    print(f"\nload before {found['load before']}; raw figures: {file.relative_to(HOME)}")
    if asked.quick:
        print("small sizes, one run: the figures mean nothing")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--files", type=int, default=10_000, help="of the night [10000]")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind [3]")
    parser.add_argument(
        "--door", choices=("nginx", "sandbox"), default="nginx",
        help="server of the night [nginx]",
    )  # fmt: skip
    parser.add_argument(
        "--database", default="sqlite",
        help="Prefect's: sqlite, postgres (one is started), or an SQLAlchemy address [sqlite]",
    )  # fmt: skip
    parser.add_argument("--rtt", type=float, default=0.0, help="round trip to nginx, ms [0]")
    parser.add_argument("--entries", type=int, default=1_000_000, help="for scale [1000000]")
    parser.add_argument("--quick", action="store_true", help="300 files, 10000 entries, one run")
    asked = parser.parse_args()
    if unknown := set(asked.works) - set(WORKS):
        parser.error(f"there is no {unknown.pop()}; there are {', '.join(WORKS)}")
    if asked.quick:
        asked.files, asked.entries, asked.repeats = 300, 10_000, 1
    return asked


if __name__ == "__main__":
    main()
