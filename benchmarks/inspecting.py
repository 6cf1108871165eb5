"""Inspection of several DL1 files, one after the other and in parallel, alternating.

Run: ``python benchmarks/inspecting.py [--files 8] [--events 20000] [--rounds 5]``. The files have
images, of which as many are read as by `ctaflows check`. Times are medians; the gain is the ratio
of one worker to many, and means little on a machine that is otherwise busy.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()

    from ctaflows.dl1.reader_process import _readers, inspect_files
    from ctaflows.sandbox.night import make_night

    most = _readers().size
    with tempfile.TemporaryDirectory(prefix="ctaflows-bench-") as name:
        files = make_night(
            Path(name), dt.date(2024, 11, 14), runs=[11111], subruns=[asked.files],
            events=asked.events, images=True, datacheck=False,
        )  # fmt: skip
        n_bytes = sum(file.stat().st_size for file in files)
        inspect_files(files, workers=most)  # starts the processes and fills the page cache
        seconds: dict[int, list[float]] = {1: [], most: []}
        for _ in range(asked.rounds):
            for workers in sorted(seconds):
                started = time.perf_counter()
                found = inspect_files(files, workers=workers)
                seconds[workers].append(time.perf_counter() - started)
                assert all(one.summary for one in found)
    print(f"{len(files)} files, {n_bytes / 1e6:.0f} MB, {asked.events} events each")
    for workers, some in seconds.items():
        print(f"{workers:>3} at once{statistics.median(some):>9.3f} s")
    print(f"gain {statistics.median(seconds[1]) / statistics.median(seconds[most]):.2f}")


if __name__ == "__main__":
    main()
