"""One lie told to one tool: the files, the calls, and what came of it."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.transfers.job import Job
from benchmarks.trust import lies
from benchmarks.trust.door import EVIL, File, Visit
from benchmarks.trust.peers import PEERS
from benchmarks.trust.verdicts import Found, Outcome, compare, judge

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from benchmarks.transfers.job import Command
    from benchmarks.trust.door import Door
    from benchmarks.trust.lies import Lie
    from benchmarks.trust.peers import Peer

SMALL_BYTES = 20_000
_N_SMALL = 5
_SUBJECT = "f.bin"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job.

    Attributes
    ----------
    key, title, act : str
        Name, name in the documentation, method of the tools in `contestants`.
    lies : tuple of Lie
        What is told.
    is_sized : bool
        Whether there is one file, of each of the sizes.
    """

    key: str
    title: str
    act: str
    lies: tuple[Lie, ...]
    is_sized: bool = False

    def suits(self, peer: Peer, lie: Lie, size_bytes: int) -> bool:
        """Return whether a tool can do this, and a lie is for files of that size."""
        can = {"put": peer.uploads, "tree": peer.lists}.get(self.key, True)
        return can and size_bytes >= lie.least_bytes


KINDS = (
    Kind("file", "One file", "get_file", lies.FILE_LIES, is_sized=True),
    Kind("small", f"One of {_N_SMALL} small files in a directory", "get_tree", lies.FILE_LIES),
    Kind("tree", "The listing of a directory", "get_tree", lies.TREE_LIES),
    Kind("put", "An upload", "put_file", lies.PUT_LIES, is_sized=True),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """A lie to be told to a tool."""

    kind: Kind
    size_bytes: int
    lie: Lie
    peer: Peer


def planned(
    kinds: Sequence[Kind], sizes: Sequence[int], peers: Sequence[Peer], cases: Collection[str]
) -> list[Trial]:
    """Return all trials; of all cases if none are named."""
    return [
        Trial(kind, size, lie, peer)
        for kind in kinds
        for size in (sizes if kind.is_sized else [SMALL_BYTES])
        for lie in kind.lies
        for peer in peers
        if (not cases or lie.name in cases) and kind.suits(peer, lie, size)
    ]


def hold(trial: Trial, door: Door, place: Path, limit_s: float) -> Outcome:
    """Tell a tool a lie, and return what came of it.

    Parameters
    ----------
    trial : Trial
        What is told, and to whom.
    door : Door
        Who tells it.
    place : Path
        Folder in which a folder for this trial is made, and removed.
    limit_s : float
        Longest call, seconds. A tool that fails within half of it is called once more, as a user
        would.
    """
    kind, lie, peer = trial.kind, trial.lie, trial.peer
    key = f"{kind.key}-{trial.size_bytes}-{lie.name}-{PEERS.index(peer)}"
    visit = _visit(key, trial)
    before = dict(visit.files)
    door.visits[key] = visit
    began = time.monotonic()
    codes: list[int | None] = []
    with _folder(place / key) as folder:
        job = _job(folder, door, visit, trial)
        for is_again in (False, True):
            code, said = _call(peer.command(kind.act, job, is_again=is_again), job.home, limit_s)
            codes.append(code)
            if code in (0, None) or time.monotonic() - began > limit_s / 2:
                break
        visit.over.set()
        if kind.key == "put":
            found, note = _stored(visit, content(trial.size_bytes))
        else:
            found, note = _fetched(folder, job, before, visit)
    del door.visits[key]
    if door.faults:
        raise RuntimeError(f"the door failed at {key}") from door.faults[0]
    elsewhere = [heard for heard in visit.heard if heard.origin != "door"]
    return Outcome(
        peer.name, kind.key, lie.name, trial.size_bytes,
        judge(codes[-1], found, was_lied_to=visit.was_lied_to), found, note, codes,
        n_requests=len(visit.heard),
        has_leaked_token=any(heard.has_token for heard in elsewhere),
        went_clear=any(heard.origin == "clear" for heard in elsewhere),
        seconds=round(time.monotonic() - began, 1), said=said,
    )  # fmt: skip


@functools.lru_cache(maxsize=4)
def content(size_bytes: int, seed: int = 0) -> bytes:
    """Return the bytes of a file."""
    return random.Random(seed).randbytes(size_bytes)


def _visit(key: str, trial: Trial) -> Visit:
    lie, size = trial.lie, trial.size_bytes
    if trial.kind.key == "put":
        return Visit(key, lie, {})
    names = {
        "file": [_SUBJECT], "tree": ["a.bin", "sub/b.bin"],
        "small": [f"{i}.bin" for i in range(_N_SMALL)],
    }[trial.kind.key]  # fmt: skip
    subject = None if trial.kind.key == "tree" else names[len(names) // 2]
    files = {}
    for i, name in enumerate(names):
        data = content(size, i)
        told = lies.other_than(data) if lie.sum_is_wrong and name == subject else data
        files[name] = File(data, sum_of=told if lie.has_sums else None)
    return Visit(key, lie, files, subject)


def _job(folder: Path, door: Door, visit: Visit, trial: Trial) -> Job:
    local, remote = folder / "a" / "b" / "here", f"/{visit.key}"
    home = folder / "home"
    for made in (local, home):
        made.mkdir(parents=True)
    if trial.kind.key == "put":
        local /= _SUBJECT
        local.write_bytes(content(trial.size_bytes))
    elif trial.kind.key == "file":
        remote += f"/{_SUBJECT}"
    return Job(
        url=door.url, ca_file=door.ca_file, ca_dir=door.ca_file.parent, remote=remote,
        local=local, names=list(visit.files), home=home,
    )  # fmt: skip


def _call(command: Command, home: Path, limit_s: float) -> tuple[int | None, str]:
    """Run a command; return its exit code, None if it was ended, and the last line it printed."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C.UTF-8",
        **command.env,
    }  # fmt: skip
    with subprocess.Popen(
        command.words, env=env, cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=limit_s)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, code = process.communicate()[0], None
    lines = [line.strip() for line in printed.decode(errors="replace").splitlines()]
    return code, next((line[:200] for line in reversed(lines) if line), "")


def _stored(visit: Visit, source: bytes) -> tuple[Found, str]:
    """Compare what is on the door with what was to be uploaded."""
    found, note = compare({name: f.data for name, f in visit.files.items()}, {_SUBJECT: [source]})
    n_left = len(visit.files.keys() - {_SUBJECT})
    return found, ", ".join(filter(None, [note, f"{n_left} temporary left" if n_left else ""]))


def _fetched(folder: Path, job: Job, before: dict[str, File], visit: Visit) -> tuple[Found, str]:
    """Compare what is in the destination with what was on the door, before or after a change."""
    got, unwanted = {}, []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        is_inside = file.is_relative_to(job.local)
        name = str(file.relative_to(job.local if is_inside else folder))
        # tools differ in whether they create the directory itself below the destination
        name = name.removeprefix(f"{visit.key}/") if is_inside else f"outside: {name}"
        got[name] = file.read_bytes()
        if name.endswith(EVIL):
            unwanted.append(name)
    right = {name: {was.data, visit.files[name].data} for name, was in before.items()}
    return compare(got, right, optional=visit.lie.also_right, unwanted=unwanted)


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
