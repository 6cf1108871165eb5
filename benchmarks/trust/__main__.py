"""Tell lies to ctaflows and other tools, and see what they make of them.

A WebDAV door on loopback lies in one way at a time; see docs/trust.md.

    python -m benchmarks.trust                                   all tools, all lies
    python -m benchmarks.trust --kinds file --tools ctaflows,curl --cases flip,cut -v
    python -m benchmarks.trust --sizes 100000000 --kinds file    so that files are fetched by ranges
    python -m benchmarks.trust --list                            the lies, in a sentence each
    python -m benchmarks.trust --write-docs                      and write to docs/trust.md
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks.transfers import machine
from benchmarks.transfers.table import between_markers
from benchmarks.trust import table, trial
from benchmarks.trust.door import Door
from benchmarks.trust.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.trust.trial import Trial
    from benchmarks.trust.verdicts import Outcome

T = TypeVar("T")

HOME = Path(__file__).parents[2]
PAGE = HOME / "docs" / "trust.md"
_SIZES = (20_000, 3_000_000)


def main() -> None:
    asked = _options()
    if asked.list:
        for kind in trial.KINDS:
            if kind.key != "small":
                print(*(f"{kind.key:5} {x.name:20} {x.sentence}" for x in kind.lies), sep="\n")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the files are removed
    absent = [peer for peer in asked.tools if not peer.is_installed()]
    peers = [peer for peer in asked.tools if peer not in absent]
    for peer in absent:
        print(f"left out: {peer.name}, {peer.package} is not installed")
    began, versions = datetime.now(UTC), machine.versions()
    outcomes = _told(trial.planned(asked.kinds, asked.sizes, peers, asked.cases), asked)
    if asked.json:
        found = {"began": f"{began:%Y-%m-%d %H:%M}", "versions": versions}
        found["outcomes"] = [dataclasses.asdict(outcome) for outcome in outcomes]
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    tools = [[peer.name, versions[peer.package], f"`{peer.shown()}`"] for peer in peers]
    tools += [[peer.name, "not installed: left out", ""] for peer in absent]
    said = f"""{_about(began, versions, asked)}

{table.rows(["tool", "version", "called for one file"], tools)}
{table.tables(outcomes, asked.kinds)}"""
    print(said)
    if asked.write_docs:
        PAGE.write_text(between_markers(PAGE.read_text(encoding="utf-8"), said), encoding="utf-8")
        print(f"written: {PAGE.relative_to(HOME)}")


def _told(trials: list[Trial], asked: argparse.Namespace) -> list[Outcome]:
    """Hold all trials, several at once: most of the time tools wait before they try again."""
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="ctaflows-trust-") as name,
        Door(Path(name)) as door,
        ThreadPoolExecutor(asked.at_once) as pool,
    ):
        for outcome in pool.map(lambda t: trial.hold(t, door, Path(name), asked.limit), trials):
            outcomes.append(outcome)
            if asked.verbose:
                _tell(outcome)
            elif len(outcomes) % 50 == 0:
                print(f"{len(outcomes)} of {len(trials)}", file=sys.stderr, flush=True)
    return outcomes


def _tell(outcome: Outcome) -> None:
    name = f"{outcome.kind} {outcome.case}, {outcome.size_bytes:,} B"
    print(f"{name:40} {outcome.tool:15} {table.cell(outcome)} {outcome.seconds} s: {outcome.said}",
          file=sys.stderr, flush=True)  # fmt: skip


def _about(began: datetime, versions: dict[str, str], asked: argparse.Namespace) -> str:
    """Say when and how the tables were made."""
    sizes = ",".join(map(str, asked.sizes))
    command = f"python -m benchmarks.trust --sizes {sizes} --limit {asked.limit:g}"
    base = f"Python {versions['Python']}, Debian {versions['Debian']}"
    return f"Made {began:%Y-%m-%d %H:%M} UTC by `{command}`, with {base}."


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    kinds = {kind.key: kind for kind in trial.KINDS}
    peers = {peer.name: peer for peer in PEERS}
    cases = {lie.name: lie.name for kind in trial.KINDS for lie in kind.lies}
    add("--kinds", type=_names(kinds), default=[*kinds.values()], help=", ".join(kinds))
    add("--tools", type=_names(peers), default=[*peers.values()], help=", ".join(peers))
    add("--cases", type=_names(cases), default=[], help="names of lies, see --list [all]")
    add(
        "--sizes",
        type=_sizes,
        default=[*_SIZES],
        metavar="BYTES",
        help="of single files and uploads; from 64 MiB on there are more lies [20000,3000000]",
    )
    add("--limit", type=float, default=60, help="longest call, seconds [60]")
    add("--at-once", type=int, default=12, help="number of tools running [12]")
    add("--list", action="store_true", help="print the lies, tell none")
    add("-v", "--verbose", action="store_true", help="print each outcome")
    add("--json", type=Path, metavar="FILE", help="write all outcomes to it")
    add("--write-docs", action="store_true", help=f"write to {PAGE.relative_to(HOME)}")
    asked = parser.parse_args()
    if asked.write_docs and (asked.cases or len(asked.kinds) < len(kinds)):
        parser.error("--write-docs is for all lies: the page has no others")
    return asked


def _names(known: dict[str, T]) -> Callable[[str], list[T]]:
    def chosen(said: str) -> list[T]:
        if unknown := [name for name in said.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]}")
        return [known[name] for name in said.split(",")]

    return chosen


def _sizes(said: str) -> list[int]:
    return [int(size) for size in said.split(",")]


if __name__ == "__main__":
    main()
