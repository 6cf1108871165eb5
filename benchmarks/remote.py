"""A large DL1 file on a distant server: inspected remotely, and copied in part.

A sandbox door and pool with TLS run in a separate process behind a relay that adds a round trip
(tests/servers/relay.py describes what it models). Each command is a new process, as when a user
starts it. Requests and bytes are counted by the door and the pool.

Run: ``python benchmarks/remote.py [--file dl1.h5] [--events 60000] [--rtt 20] [--rounds 3]``.
Without a file one of about 1 GB is generated: lstchain's tables, with chunks of images and
parameters alternating, as they are when events are written one by one. If `inspect` exceeds a
limit, the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "servers")]

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.2"  # the relay's; the sandbox listens on 127.0.0.1, on the same ports
REMOTE = "/lst/DL1/20241114/v0.10/tailcut84/dl1_LST-1.Run11111.0000.h5"
MAX_SHARE, MAX_REQUESTS, MAX_SECONDS = 0.01, 40, 3.0
PARAMETERS = "/dl1/event/telescope/parameters/LST_LSTCam"
IMAGES = "/dl1/event/telescope/image/LST_LSTCam"
N_DIFFERENT = 8
N_FILES = 8


# -- the file ----------------------------------------------------------------------------------


def make_file(path: Path, n_events: int) -> None:
    """Write a subrun with noisy images, by repeating a few compressed chunks."""
    import h5py
    import numpy as np

    from ctaflows.sandbox.night import copy_table, new_group

    sample = ROOT / "ctaflows" / "sandbox" / "sample" / "dl1.h5"
    dice = np.random.default_rng(1)
    with h5py.File(sample) as source, h5py.File(path, "w") as target:
        others: list[str] = []
        source.visititems(
            lambda name, node: others.append(name) if isinstance(node, h5py.Dataset) else None
        )
        for name in sorted(others):
            if f"/{name}" not in (PARAMETERS, IMAGES):
                copy_table(source[name], target)
        events = source[PARAMETERS][:]
        first_s = float(events["dragon_time"][0])
        chunks = _noisy_chunks(source[IMAGES], path.with_suffix(".scratch"), dice)
        tables = {}
        for name in (PARAMETERS, IMAGES):
            new_group(source[name].parent, target)
            tables[name] = _like(source[name], target, n_events)
        n_rows, n_image_rows = tables[PARAMETERS].chunks[0], tables[IMAGES].chunks[0]
        n_images = 0
        for start in range(0, n_events, n_rows):
            end = min(start + n_rows, n_events)
            while n_images < end:
                chunk = chunks[int(dice.integers(N_DIFFERENT))]
                tables[IMAGES].id.write_direct_chunk((n_images,), chunk)
                n_images += n_image_rows
            rows = events[np.arange(start, end) % len(events)]
            rows["event_id"] = np.arange(start, end)
            rows["dragon_time"] = first_s + np.arange(start, end) / 6800
            tables[PARAMETERS][start:end] = rows


def _like(source: Any, target: Any, n_rows: int) -> Any:
    import h5py

    from ctaflows.sandbox.night import copy_attributes

    space = h5py.h5s.create_simple((n_rows,), (h5py.h5s.UNLIMITED,))
    properties = source.id.get_create_plist()
    table = h5py.Dataset(
        h5py.h5d.create(
            target.id, source.name.encode(), source.id.get_type(), space, dcpl=properties
        )
    )
    copy_attributes(source, table, n_rows=n_rows)
    return table


def _noisy_chunks(source: Any, scratch: Path, dice: Any) -> list[bytes]:
    """Return compressed chunks of images that compress no better than a camera's."""
    import h5py

    from ctaflows.sandbox.night import new_group

    rows = source[:]
    with h5py.File(scratch, "w") as file:
        new_group(source.parent, file)
        n_rows = source.chunks[0]
        table = _like(source, file, n_rows * N_DIFFERENT)
        for i in range(N_DIFFERENT):
            block = rows[dice.integers(len(rows), size=n_rows)]
            block["image"] = dice.normal(0, 2, block["image"].shape).astype("f4")
            block["peak_time"] = dice.uniform(2, 34, block["peak_time"].shape).astype("f4")
            table[i * n_rows : (i + 1) * n_rows] = block
        file.flush()
        chunks = [table.id.read_direct_chunk((i * n_rows,))[1] for i in range(N_DIFFERENT)]
    scratch.unlink()
    return chunks


# -- the server --------------------------------------------------------------------------------


def serve(home: Path, file: Path, rtt_ms: float, mb_per_s: float) -> None:
    """Serve behind the relay; for each line on stdin print the requests and bytes since then."""
    import relay

    from ctaflows.sandbox import Sandbox

    with Sandbox(home, host=HOST) as box:
        place = box.storage / REMOTE[1:]
        place.parent.mkdir(parents=True)
        try:
            place.hardlink_to(file)
        except OSError:  # another file system
            shutil.copyfile(file, place)
        for n in range(1, N_FILES):
            place.with_name(place.name.replace(".0000.", f".{n:04d}.")).hardlink_to(place)
        ports = [int(url.rpartition(":")[2]) for url in (box.door_url, box.pool_url)]
        issuer = int(box.issuer_url.split(":")[2].partition("/")[0])

        async def listen(port: int) -> None:
            loop, running = asyncio.get_running_loop(), set()
            with socket.create_server((HOST, port), backlog=512) as listener:
                listener.setblocking(False)
                while True:
                    near, _ = await loop.sock_accept(listener)
                    rate = mb_per_s * 1e6
                    task = loop.create_task(relay.connection(near, port, rtt_ms / 1000, rate))
                    running.add(task)
                    task.add_done_callback(running.discard)

        async def listen_all() -> None:
            await asyncio.gather(*map(listen, [*ports, issuer]))

        threading.Thread(target=asyncio.run, args=(listen_all(),), daemon=True).start()
        print(json.dumps({"config_dir": str(box.config_dir)}), flush=True)
        for _ in sys.stdin:
            print(json.dumps(_counted(box)), flush=True)


def _counted(box: Any) -> dict[str, int]:
    seen = [r for r in box.requests if r.server in ("door", "pool")]
    box.requests.clear()
    n_bytes = 0
    for request in seen:
        span = request.headers.get("range", "").removeprefix("bytes=").partition("-")
        if request.server == "pool" and request.status == 206:
            n_bytes += int(span[2]) + 1 - int(span[0])
        elif request.server == "pool" and request.status == 200:
            n_bytes += (box.storage / REMOTE[1:]).stat().st_size
    return {"requests": len(seen), "bytes": n_bytes}


@contextlib.contextmanager
def far_side(home: Path, file: Path, rtt_ms: float, mb_per_s: float) -> Iterator[tuple[Any, Path]]:
    words = [sys.executable, __file__, "--serve", str(home), "--file", str(file)]
    words += ["--rtt", str(rtt_ms), "--rate", str(mb_per_s)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as far:
        try:
            assert far.stdin
            assert far.stdout
            config_dir = Path(json.loads(far.stdout.readline())["config_dir"])

            def counted() -> dict[str, int]:
                far.stdin.write("\n")
                far.stdin.flush()
                return json.loads(far.stdout.readline())

            yield counted, config_dir
        finally:
            far.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                far.wait(10)
            far.kill()


# -- the client --------------------------------------------------------------------------------


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(words: list[str], config_dir: Path, counted: Any) -> tuple[float, float, dict[str, int]]:
    environment = {**os.environ, "CTAFLOWS_CONFIG_DIR": str(config_dir)}
    counted()
    started, cpu_before_s = time.perf_counter(), cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", *words],
        env=environment, capture_output=True, text=True, check=False, cwd=config_dir.parent,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return seconds, cpu_s() - cpu_before_s, counted()


def measure(home: Path, file: Path, asked: argparse.Namespace) -> bool:
    """Print a table; return whether the limits were kept."""
    size = file.stat().st_size
    print(f"{file.name}: {size:,} bytes, round trip {asked.rtt:g} ms")
    print(f"{'':<36}{'seconds':>9}{'CPU':>7}{'requests':>10}{'bytes':>15}{'share':>9}")
    is_kept = True
    with far_side(home, file, asked.rtt, asked.rate) as (counted, config_dir):
        works = {
            "inspect": ["inspect", f"cta:/{REMOTE}", "-q"],
            "inspect --tables --json": ["inspect", "--tables", "--json", f"cta:/{REMOTE}", "-q"],
            f"inspect, {N_FILES} files": [
                "inspect",
                *(f"cta:/{REMOTE}".replace(".0000.", f".{n:04d}.") for n in range(N_FILES)),
                "-q",
            ],
            "inspect --whole": ["inspect", "--whole", f"cta:/{REMOTE}", "-q"],
            "get --tables parameters": ["get", REMOTE, "{n}/", "--tables", "parameters", "-q"],
            "get --drop images": ["get", REMOTE, "{n}d/", "--drop", "images", "-q"],
        }
        if asked.get:
            works["get"] = ["get", REMOTE, "{n}g/", "-q"]
        for name, words in works.items():
            runs = [
                timed([w.replace("{n}", f"out{n}") for w in words], config_dir, counted)
                for n in range(asked.rounds)
            ]
            seconds = statistics.median(s for s, _, _ in runs)
            cpu = statistics.median(s for _, s, _ in runs)
            found = runs[-1][2]
            share = found["bytes"] / size
            print(
                f"{name:<36}{seconds:>9.2f}{cpu:>7.2f}{found['requests']:>10}{found['bytes']:>15,}"
                f"{100 * share:>8.2f}%"
            )
            if name == "inspect":  # the limits are for a single file
                is_kept = (
                    share <= MAX_SHARE
                    and found["requests"] <= MAX_REQUESTS
                    and seconds <= MAX_SECONDS
                )
    return is_kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, help="a DL1 file; by default one is generated")
    parser.add_argument("--events", type=int, default=60_000, help="events of the generated file")
    parser.add_argument("--rtt", type=float, default=20.0, help="round trip, ms")
    parser.add_argument("--rate", type=float, default=0.0, help="MB/s per connection; 0: no limit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--get", action="store_true", help="also fetch the whole file")
    parser.add_argument("--place", type=Path, default=None, help="folder for temporary files")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.file, asked.rtt, asked.rate)
        return
    with tempfile.TemporaryDirectory(prefix="ctaflows-bench-", dir=asked.place) as name:
        file = asked.file
        if file is None:
            file = Path(name) / "dl1.h5"
            make_file(file, asked.events)
        is_kept = measure(Path(name) / "home", file.resolve(), asked)
    if not is_kept:
        sys.exit("inspect exceeded a limit")


if __name__ == "__main__":
    main()
