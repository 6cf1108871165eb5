"""Where the CPU of a fetch goes: the same files, each time with one layer more.

nginx serves them over TLS from a RAM disk. Each layer is a process of its own, and all take turns;
the CPU time of the client's and of the server's processes is told, and how much of the machine the
two used. What a layer costs is its difference to the one above.

    python -m benchmarks.where small         5,000 files of 20 KB
    python -m benchmarks.where medium        200 files of 5 MB
    python -m benchmarks.where large         one file of 2 GiB
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.transfers import data, workloads
from benchmarks.transfers.stage import RAM_DISK, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.model import Entry
    from ctaflows.transport import Head

FILES = {
    "small": data.Files(5000, 20_000),
    "medium": data.Files(200, 5_000_000),
    "large": data.Files(1, 2 << 30),
}
TICKS_S = os.sysconf("SC_CLK_TCK")


# -- the layers, each run in a process of its own ----------------------------------------------


def nothing(_: Place) -> None:
    """Python, and what the command imports."""
    import ctaflows.cli.get
    import ctaflows.tasks.trees  # noqa: F401


def listed(place: Place) -> list[Entry]:
    """… and the listing."""
    nothing(place)
    return list(place.door().list("/files"))


def received(place: Place) -> None:
    """… and the bytes, forgotten at once."""
    entries, door = listed(place), place.door()
    if place.work == "small":
        wanted = ((entry.path, entry) for entry in entries)
        for _ in door.receive_small(wanted, at_once=8, stop=threading.Event()):
            pass
        return
    from ctaflows.transfer.crew import at_once

    def drop(entry: Entry) -> None:
        door.receive(entry.path, Dropped())

    at_once(drop, entries, 2, threading.Event())


def fetched(place: Place) -> None:
    """… and their checksums, files written, brought to disk and renamed, and the manifest."""
    from ctaflows.transfer.fetch import Job
    from ctaflows.transfer.manifest import Manifest
    from ctaflows.transfer.many import fetch_many

    jobs = [Job(entry, place.local / entry.path[1:]) for entry in listed(place)]
    report = fetch_many(place.door(), jobs, manifest=Manifest(place.local / "manifest.jsonl"))
    assert not report.failed, report.failed[0]


def commanded(_: Place) -> None:
    """The command: … and its progress, its lines and its end."""
    from ctaflows.cli import main

    with Path(os.devnull).open("w") as sys.stdout:
        sys.argv = ["ctaflows", "get", "-r", "/files", os.environ["WHERE_LOCAL"] + "/"]
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise


def curl(place: Place) -> list[str]:
    """For comparison: curl -Z16 on a ready list, one connection for one file."""
    listing = place.local.parent / "curl.list"
    url = os.environ["CTAFLOWS_DOOR_URL"]
    names = FILES[place.work].names()
    listing.write_text(
        "".join(f'url = "{url}/files/{n}"\noutput = "{place.local / n}"\n' for n in names)
    )
    ca = os.environ["CTAFLOWS_CA_FILE"]
    words = ["curl", "-sS", "--cacert", ca, "--parallel", "--parallel-max", "16"]
    return [*words, "--no-progress-meter", "--config", str(listing)]


LAYERS: dict[str, Callable[[Place], Any]] = {
    f.__name__: f for f in (nothing, listed, received, fetched, commanded)
}


class Dropped:
    """A sink that keeps nothing."""

    def begin(self, head: Head) -> None:
        """Look at nothing."""

    def take(self, pieces: list[bytes]) -> None:
        """Keep nothing."""


class Place:
    """What a layer is told by its environment."""

    def __init__(self) -> None:
        self.work = os.environ["WHERE_WORK"]
        self.local = Path(os.environ["WHERE_LOCAL"])
        self._door: Any = None

    def door(self) -> Any:
        """Give the door, made once."""
        if self._door is None:
            from ctaflows.storage.connect import connect

            self._door = connect()
        return self._door


# -- the race ----------------------------------------------------------------------------------


def race(work: str, repeats: int) -> dict[str, list[tuple[float, float, float]]]:
    """Give wall, client's and server's CPU seconds of each run of each layer."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    with Stage(RAM_DISK) as stage:
        data.make(stage.root / "files", FILES[work])
        place = next(w for w in workloads.WORKS if w.key == "get-small")
        with stage.server("nginx", place) as server:
            env = os.environ | {
                "CTAFLOWS_DOOR_URL": server.url,
                "CTAFLOWS_CA_FILE": str(stage.ca_file),
                "CTAFLOWS_CONFIG_DIR": str(stage.home / "config"),
                "BEARER_TOKEN": "any-token",
                "WHERE_WORK": work,
                "WHERE_LOCAL": str(stage.local),
            }
            for _ in range(repeats):
                for name in (*LAYERS, "curl"):
                    data.empty(stage.local)
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
    """Add up the CPU time of a server and its workers."""
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
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layer", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.layer:
        LAYERS[asked.layer](Place())
        return
    found = race(asked.work, asked.repeats)
    if asked.json:
        print(json.dumps(found))
        return
    print(f"{FILES[asked.work]}, load {os.getloadavg()[0]:.1f}, medians of {asked.repeats}")
    print(f"{'layer':<12}{'wall s':>8}{'CPU s':>8}{'server':>8}{'cores used':>12}")
    for name, runs in found.items():
        wall, used, served = (statistics.median(r[i] for r in runs) for i in range(3))
        print(f"{name:<12}{wall:8.2f}{used:8.2f}{served:8.2f}{(used + served) / wall:12.2f}")


if __name__ == "__main__":
    main()
