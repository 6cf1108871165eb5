"""Where the CPU time of a transfer goes: the same transfer in layers, each adding one step.

The files are on a RAM disk, served by nginx or XRootD over TLS. Each layer is a separate process,
and the layers take turns. The table has the CPU time of client and server, and the number of cores
used by both. The cost of a layer is its difference to the previous one.

    python -m benchmarks.where small         5,000 files of 20 KB
    python -m benchmarks.where medium        200 files of 5 MB
    python -m benchmarks.where large         one file of 2 GiB
    python -m benchmarks.where large --put   the same, uploaded
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.transfers import data, workloads
from benchmarks.transfers.stage import RAM_DISK, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.model import Entry
    from ctaflows.transport.wishes import Response

FILES = {
    "small": data.Files(5000, 20_000),
    "medium": data.Files(200, 5_000_000),
    "large": data.Files(1, 2 << 30),
}
TICKS_S = os.sysconf("SC_CLK_TCK")


# -- the layers, each run in a separate process ------------------------------------------------


def nothing(_: Place) -> None:
    """Python and the imports of the command."""
    import ctaflows.cli.get
    import ctaflows.tasks.transfers  # noqa: F401


def listed(place: Place) -> list[Entry]:
    """… and the listing."""
    nothing(place)
    return list(place.door().list("/files"))


def received(place: Place) -> None:
    """… and the bytes, discarded at once."""
    from ctaflows.retry import Retries
    from ctaflows.transport.driver import Width, borrowed

    entries, door = iter(listed(place)), place.door()

    def more() -> tuple[Any, Entry] | None:
        entry = next(entries, None)
        if entry is None:
            return None
        return door.receiving(entry.path, Dropped(), Retries(door.settings)), entry

    with borrowed(door.session) as driver:
        for task in driver.run(more, door.session, Width(8, door.settings.transfers)):
            assert task.error is None, task.error


def fetched(place: Place) -> None:
    """… and their checksums; files written, synced to disk and renamed; the manifest."""
    from ctaflows.transfer.batch import fetch_many
    from ctaflows.transfer.download import Job
    from ctaflows.transfer.manifest import Manifest

    jobs = [Job(entry, place.local / entry.path[1:]) for entry in listed(place)]
    report = fetch_many(place.door(), jobs, manifest=Manifest(place.local / "manifest.jsonl"))
    assert not report.failed, report.failed[0]


def commanded(place: Place) -> None:
    """The command: … and its progress and output."""
    place.command("get", "-r", "/files", f"{place.local}/")


def read(place: Place) -> None:
    """For uploads, after the imports: the files read, with their checksums."""
    nothing(place)
    from ctaflows.transfer.upload import LocalSource

    for file in sorted(place.files.iterdir()):
        with LocalSource(str(file), 0.0) as source:
            body = source.body()
            while not isinstance(body, bytes) and source.read(1 << 19):
                pass


def uploaded(place: Place) -> None:
    """The command: … and all requests."""
    place.command("put", "-r", f"{place.files}", "/arrived/")


def curl(place: Place) -> list[str]:
    """For comparison: curl -Z16 on a ready list; a single file uses one connection."""
    listing = place.local.parent / "curl.list"
    url = os.environ["CTAFLOWS_DOOR_URL"]
    names = FILES[place.work].names()
    pairs = (
        (f"{url}/arrived/{n}", "upload-file", place.files / n)
        if place.is_put
        else (f"{url}/files/{n}", "output", place.local / n)
        for n in names
    )
    listing.write_text("".join(f'url = "{u}"\n{how} = "{file}"\n' for u, how, file in pairs))
    ca = os.environ["CTAFLOWS_CA_FILE"]
    words = ["curl", "-sS", "--cacert", ca, "--parallel", "--parallel-max", "16"]
    return [*words, "--no-progress-meter", "--config", str(listing)]


LAYERS: dict[str, Callable[[Place], Any]] = {
    f.__name__: f for f in (nothing, listed, received, fetched, commanded, read, uploaded)
}
FETCH = ("nothing", "listed", "received", "fetched", "commanded", "curl")
UPLOAD = ("nothing", "read", "uploaded", "curl")


class Dropped:
    """A sink that discards everything."""

    n_received, worth_bytes = 0, 1

    def range_line(self) -> None:
        """Ask for the whole file."""

    def begin(self, answer: Response) -> None:
        """Ignore the head of the response."""

    def write(self, piece: bytes) -> None:
        """Discard the bytes."""

    def ended(self, answer: Response) -> bool:
        """Judge nothing."""
        return False


class Place:
    """The parameters of a layer, read from the environment."""

    def __init__(self) -> None:
        self.work = os.environ["WHERE_WORK"]
        self.local = Path(os.environ["WHERE_LOCAL"])
        self.files = Path(os.environ["WHERE_FILES"])
        self.is_put = bool(os.environ["WHERE_PUT"])
        self._door: Any = None

    def door(self) -> Any:
        """Return the storage, connected once."""
        if self._door is None:
            from ctaflows.storage.connect import connect

            self._door = connect()
        return self._door

    def command(self, *words: str) -> None:
        """Run a command in this process and discard its output."""
        from ctaflows.cli import main

        with Path(os.devnull).open("w") as sys.stdout:
            sys.argv = ["ctaflows", *words]
            try:
                main()
            except SystemExit as end:
                if end.code:
                    raise


# -- running the layers ------------------------------------------------------------------------


def race(asked: argparse.Namespace) -> dict[str, list[tuple[float, float, float]]]:
    """Return the wall time and the CPU times of client and server, for each run of each layer."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    with Stage(RAM_DISK) as stage:
        files = stage.root / "files"
        data.make(files, FILES[asked.work])
        arrived = stage.root / "arrived" if asked.put else stage.local
        work = next(w for w in workloads.WORKS if w.key == "get-small")
        with stage.server(asked.server, work) as server:
            if asked.server == "xrootd" and not asked.put:
                stage.store_checksums(files)
            env = os.environ | {
                "CTAFLOWS_DOOR_URL": server.url,
                "CTAFLOWS_CA_FILE": str(stage.ca_file),
                "CTAFLOWS_CONFIG_DIR": str(stage.home / "config"),
                "BEARER_TOKEN": "any-token",
                "WHERE_WORK": asked.work,
                "WHERE_LOCAL": str(stage.local),
                "WHERE_FILES": str(files),
                "WHERE_PUT": "1" if asked.put else "",
            }
            for _ in range(asked.repeats):
                for name in UPLOAD if asked.put else FETCH:
                    data.empty(arrived)
                    data.warm(stage.local, FILES[asked.work].total_bytes)
                    found.setdefault(name, []).append(run(name, env, server))
    return found


def run(name: str, env: dict[str, str], server: Any) -> tuple[float, float, float]:
    words = [sys.executable, "-m", "benchmarks.where", "--layer", name]
    if name == "curl":
        os.environ.update({k: v for k, v in env.items() if k.startswith(("CTAFLOWS", "WHERE"))})
        words = curl(Place())
    before, served = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_s(server)
    started = time.perf_counter()
    subprocess.run(words, env=env, check=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used, cpu_s(server) - served


def cpu_s(server: Any) -> float:
    """Return the CPU time of a server and its workers."""
    total = 0
    for process in server.processes:
        pid = process.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (str(pid), *children):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS_S


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", nargs="?", choices=FILES, default="small")
    parser.add_argument("--put", action="store_true")
    parser.add_argument("--server", choices=("nginx", "xrootd"), default="nginx")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layer", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.layer:
        LAYERS[asked.layer](Place())
        return
    found = race(asked)
    if asked.json:
        print(json.dumps(found))
        return
    what = f"{FILES[asked.work]}, {asked.server}, medians of {asked.repeats}"
    print(f"{what}, load {os.getloadavg()[0]:.1f}")
    print(f"{'layer':<12}{'wall s':>8}{'CPU s':>8}{'server':>8}{'cores used':>12}")
    for name, runs in found.items():
        wall, used, served = (statistics.median(r[i] for r in runs) for i in range(3))
        print(f"{name:<12}{wall:8.2f}{used:8.2f}{served:8.2f}{(used + served) / wall:12.2f}")


if __name__ == "__main__":
    main()
