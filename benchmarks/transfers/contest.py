"""One workload on one server: all tools in turn, and the verification of their results."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from benchmarks.transfers import contestants, data, timing
from benchmarks.transfers.job import Job
from benchmarks.transfers.results import Outcome, Row
from benchmarks.transfers.stage import Stage, Unavailable
from benchmarks.transfers.workloads import Peer, Work, title

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.transfers.data import Files


def hold(
    stage: Stage, work: Work, server: str, *, quick: bool, repeats: int, limit_s: float
) -> Row:
    """Run all tools in turn, and return the row with their results.

    Parameters
    ----------
    stage : Stage
        RAM disk and servers.
    work : Work
        The workload.
    server : str
        Name of the server.
    quick : bool
        Whether to use the small sizes.
    repeats : int
        Runs of each tool.
    limit_s : float
        Longest run, seconds.

    Returns
    -------
    Row
        The results; if the server is unavailable, a note with the reason.
    """
    files = (work.quick if quick else work.files).within(stage.room_bytes() // 2)
    row = Row(
        work.key, title(work, files), server, most_mb=work.most_mb, most_cpu=work.most_cpu,
        most_over_s=work.most_over_s,
    )  # fmt: skip
    try:
        with stage.server(server, work) as running:
            contest = _Contest(stage, work, running, files, limit_s)
            contest.prepare()
            row.outcomes = contest.run(repeats)
    except Unavailable as why:
        row.note = str(why)
    for folder in (stage.root, stage.local):
        data.empty(folder)
    return row


#: Memory that the processes themselves may need.
_BESIDE_BYTES = 128 << 20


class _Contest:
    def __init__(self, stage: Stage, work: Work, server: Any, files: Files, limit_s: float) -> None:
        self.stage, self.work, self.server, self.limit_s = stage, work, server, limit_s
        self.names = files.names()
        self.files = files
        self.is_put = work.act.startswith("put")
        self.source = (stage.local if self.is_put else stage.root) / "data"
        self.target = (stage.root if self.is_put else stage.local) / "arrived"
        us = Peer("ctaflows", work.at_once)
        can_xroot = server.xroot_url is not None
        self.peers = [us, *(p for p in work.peers if can_xroot or not p.tool.startswith("xrdcp"))]

    def prepare(self) -> None:
        data.make(self.source, self.files)
        if self.server.name.startswith("xrootd") and self.work.act.startswith("get"):
            self.stage.store_checksums(self.source)

    def run(self, repeats: int) -> list[Outcome]:
        found = [self._outcome(peer) for peer in self.peers]
        for repeat in range(repeats * self.work.times):
            for peer, outcome in timing.turns(list(zip(self.peers, found, strict=True)), repeat):
                if outcome.reason is None and (repeat == 0 or not peer.rare):
                    self._run_one(peer, outcome)
        return found

    def _outcome(self, peer: Peer) -> Outcome:
        command = contestants.command(peer.tool, self.work.act, self._job(), peer.at_once)
        outcome = Outcome(peer.tool, command.label, least=peer.least)
        if shutil.which(command.words[0]) is None:
            package = contestants.TOOLS[peer.tool].package
            outcome.reason = f"absent: {package} is not installed"
        return outcome

    def _run_one(self, peer: Peer, outcome: Outcome) -> None:
        data.empty(self.target)
        data.empty(self.stage.scratch)
        command = contestants.command(peer.tool, self.work.act, self._job(), peer.at_once)
        env = {
            "PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.stage.scratch),
            "LC_ALL": "C.UTF-8", **command.env,
        }  # fmt: skip
        if self.work.act.startswith(("get", "put")):
            data.warm(self.stage.scratch, self.files.total_bytes + _BESIDE_BYTES)
        try:
            cost, printed = timing.measure(
                command.words,
                env=env,
                folder=self.stage.scratch,
                limit_s=self.limit_s,
                exit_codes=command.exit_codes,
            )
            if not outcome.costs or len(command.exit_codes) > 1:
                outcome.reason = self._wrong(peer, printed)
            outcome.costs.append(cost)
        except timing.Failed as why:
            outcome.reason = f"failed: {why}".replace(str(self.stage.home), "…")
        data.empty(self.target)
        now = self.stage.revived(self.server)
        if now is not self.server and outcome.reason is not None:
            outcome.reason = "failed: the server crashed"
        self.server = now

    def _wrong(self, peer: Peer, printed: Path) -> str | None:
        """Return what is wrong with the result of a run, or None."""
        if self.work.act.startswith("list"):
            wrong = data.missing_in(printed, self.names)
        elif self.work.act == "start":
            wrong = None if peer.tool == "python" else data.missing_in(printed, self.names)
        else:
            wrong = data.difference(self.source, self.target, self.names)
        return None if wrong is None else f"wrong: {wrong}"

    def _job(self) -> Job:
        is_file = self.work.act.endswith("_file")
        there = "/arrived" if self.is_put else "/data"
        here = self.source if self.is_put else self.target
        if is_file and self.is_put:
            here /= self.names[0]
        elif is_file:
            there += f"/{self.names[0]}"
        return Job(
            url=self.server.url, ca_file=self.stage.ca_file, ca_dir=self.stage.ca_dir,
            remote=there, local=here, names=self.names, home=self.stage.scratch,
            xroot_url=self.server.xroot_url,
        )  # fmt: skip
