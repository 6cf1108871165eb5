"""Time and memory for a night of many files, apart from the transfers themselves.

The files are generated and sparse, so that a million need no disk; nothing is transferred.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.prefect.servers import NIGHT, RAM_DISK

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.model import Entry

HOME = Path(__file__).parents[2]
FILE_BYTES = 4096
_MTIME = datetime(2024, 11, 15, 12, 0, tzinfo=UTC)
_BASE = "/" + NIGHT
#: Files per subdirectory: a million in one directory make any file system slow.
_IN_FOLDER = 1000


def measure(n_entries: int) -> dict[str, Any]:
    """Run each step in a separate process."""
    place = RAM_DISK if RAM_DISK.is_dir() else None
    steps = []
    with tempfile.TemporaryDirectory(prefix="ctaflows-scale-", dir=place) as folder:
        for name in STEPS:
            command = [sys.executable, "-m", "benchmarks.prefect.scale", name, str(n_entries)]
            done = subprocess.run(
                [*command, folder], cwd=HOME, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"benchmarks.prefect: {name} failed\n{done.stderr[-3000:]}")
            steps.append(json.loads(done.stdout))
    return {"n_entries": n_entries, "file_bytes": FILE_BYTES, "steps": steps}


def entries(n: int) -> list[Entry]:
    """Return entries as a listing would."""
    from ctaflows.model import Checksum, Entry

    # a Checksum object for each, as in a listing
    value = f"{zlib.adler32(bytes(FILE_BYTES)):08x}"
    return [
        Entry(
            f"{_BASE}/{i // _IN_FOLDER:04}/dl1_LST-1.Run{i // 200:05}.{i % 200:04}.h5",
            size_bytes=FILE_BYTES, mtime=_MTIME, checksums=(Checksum("adler32", value),),
            locality="ONLINE", etag=f'"{i}"',
        )
        for i in range(n)
    ]  # fmt: skip


def _jobs(n: int, folder: Path) -> list[Any]:
    from ctaflows.storage.paths import local_path
    from ctaflows.transfer.download import Job

    return [Job(e, local_path(e.path, _BASE, folder)) for e in entries(n)]


def _hold(n: int, _folder: Path) -> Callable[[], object]:
    return lambda: entries(n)


def _cut(n: int, _folder: Path) -> Callable[[], object]:
    from ctaflows.transfer.decide import batches

    found = entries(n)
    return lambda: batches(found)


def _plan(n: int, folder: Path) -> Callable[[], object]:
    from ctaflows.transfer.batch import plan

    jobs = _jobs(n, folder)
    return lambda: plan(jobs)


def _write(n: int, folder: Path) -> Callable[[], object]:
    from ctaflows.model import Transfer
    from ctaflows.transfer.manifest import NAME, Manifest

    jobs = _jobs(n, folder)
    manifest = Manifest(folder / NAME)
    done = (
        Transfer(
            job.entry.path, str(job.local), FILE_BYTES, FILE_BYTES, 0.01,
            job.entry.checksums[0], verified=True, mtime=_MTIME, server="dCache/12.1",
        )
        for job in jobs
    )  # fmt: skip

    def write() -> None:
        for transfer in done:
            manifest.append(transfer)

    return write


def _read(_n: int, folder: Path) -> Callable[[], object]:
    from ctaflows.transfer.manifest import NAME, Manifest

    return lambda: Manifest(folder / NAME)


def _plan_again(n: int, folder: Path) -> Callable[[], object]:
    from ctaflows.transfer.batch import plan
    from ctaflows.transfer.manifest import NAME, Manifest

    jobs = _jobs(n, folder)
    for job in jobs:
        job.local.parent.mkdir(exist_ok=True)
        with job.local.open("wb") as file:
            file.truncate(FILE_BYTES)
        os.utime(job.local, (_MTIME.timestamp(), _MTIME.timestamp()))

    def again() -> None:
        planned = plan(jobs, manifest=Manifest(folder / NAME))
        assert all(transfer.skipped for transfer in planned)

    return again


def _verify(_n: int, folder: Path) -> Callable[[], object]:
    from ctaflows.transfer.verify import verify

    def check() -> None:
        assert all(verdict.verdict == "intact" for verdict in verify(folder))

    return check


#: Name to its row in the table, and the function that prepares the step and returns it.
STEPS: dict[str, tuple[str, Callable[[int, Path], Callable[[], object]]]] = {
    "hold": ("hold the listing", _hold),
    "cut": ("split it into batches", _cut),
    "plan": ("plan, no file present", _plan),
    "write": ("write the manifest", _write),
    "read": ("read the manifest", _read),
    "again": ("plan, all files present and verified", _plan_again),
    "verify": (f"verify ({FILE_BYTES >> 10} KiB per file)", _verify),
}


def main() -> None:
    """Run one step and print its time and memory, as JSON."""
    name, n_entries, folder = sys.argv[1:]
    what, ready = STEPS[name]
    work = ready(int(n_entries), Path(folder))
    began, cpu_began = time.perf_counter(), time.process_time()
    kept = work()
    took = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"what": what, **took, "peak_mb": peak_mb}))
    del kept


if __name__ == "__main__":
    main()
