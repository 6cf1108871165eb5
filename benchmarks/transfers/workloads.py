"""The workloads, the tools that run them, and the targets."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.transfers.data import Files


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool with which ctaflows is compared.

    Attributes
    ----------
    tool : str
        Key in `contestants.TOOLS`.
    at_once : int
        Number of files, connections or threads it is told to use.
    least : float or None
        Target: its time ÷ ours is at least this; None if there is no target.
    rare : bool
        Run only once whatever the repeats, since it takes minutes.
    """

    tool: str
    at_once: int = 1
    least: float | None = None
    rare: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """A workload: a transfer or listing that all tools run.

    Attributes
    ----------
    key : str
        Name on the command line.
    title : str
        Name in the table; ``{n}``, ``{size}`` and ``{folders}`` are filled in.
    act : str
        Method of the tools in `contestants`.
    files, quick : Files
        The files, and those with ``--quick``.
    peers : tuple of Peer
        The tools besides ctaflows.
    servers : tuple of str
        The servers on which it runs, one after the other.
    at_once : int
        Number of transfers ctaflows is told to use, as the peers are; 1 means its own choice.
    rtt_ms, mb_per_s : float
        Round trip, and rate limit of a connection, of a relay before the server; 0 for none.
    most_mb : float
        Limit for the memory of ctaflows, MiB.
    most_cpu : float or None
        Limit for its CPU time ÷ curl's.
    most_over_s : float or None
        Limit for its time minus the fastest peer's, seconds.
    times : int
        Factor on the repeats, for a workload that takes little time.
    """

    key: str
    title: str
    act: str
    files: Files
    quick: Files
    peers: tuple[Peer, ...]
    servers: tuple[str, ...] = ("nginx", "xrootd")
    at_once: int = 1
    rtt_ms: float = 0
    mb_per_s: float = 0
    most_mb: float = 120
    most_cpu: float | None = None
    most_over_s: float | None = None
    times: int = 1


_LARGE, _LARGE_QUICK = Files(1, 2 << 30), Files(1, 64 << 20)
_SMALL, _SMALL_QUICK = Files(5000, 20_000, 10), Files(200, 20_000, 4)

WORKS = (
    Work(
        "get-large", "one {size} file, get", "get_file", _LARGE, _LARGE_QUICK,
        (
            Peer("curl", least=1.0), Peer("davix", least=1.0), Peer("rclone", least=1.0),
            Peer("aria2c", 4, least=1.0), Peer("xrdcp", least=1.0), Peer("xrdcp-tls", least=1.0),
        ),
        most_cpu=1.25,
    ),
    Work(
        "put-large", "one {size} file, put", "put_file", _LARGE, _LARGE_QUICK,
        (
            Peer("curl", least=1.1), Peer("davix", least=1.1), Peer("rclone", least=1.1),
            Peer("xrdcp"), Peer("xrdcp-tls"),
        ),
    ),
    Work(
        "get-medium", "{n} × {size}, get -r", "get_tree",
        Files(200, 5_000_000, 1), Files(20, 1_000_000, 1),
        (
            Peer("davix", 8, least=1.6), Peer("rclone", 8, least=1.6), Peer("webdav4", least=1.6),
            Peer("curl", 16, least=1.0), Peer("xrdcp"),
        ),
    ),
    Work(
        "get-small", "{n} × {size}, get -r", "get_tree", _SMALL, _SMALL_QUICK,
        (
            Peer("davix", 8, least=2.5), Peer("rclone", 8, least=8, rare=True),
            Peer("webdav4", least=8), Peer("curl", 16, least=0.6), Peer("xrdcp"),
        ),
    ),
    Work(
        "put-small", "{n} × {size}, put -r", "put_tree", _SMALL, _SMALL_QUICK,
        (
            Peer("davix", 8, least=3), Peer("rclone", 8, least=3, rare=True),
            Peer("webdav4", least=3), Peer("curl", 16, least=0.3),
        ),
    ),
    Work(
        "list-tree", "list {n} files in {folders} folders", "list_tree",
        Files(20_000, 100, 200), Files(1000, 100, 20),
        (Peer("davix", 8, least=2), Peer("rclone", least=2), Peer("webdav4", 16, least=2)),
    ),
    Work(
        "list-folder", "list {n} files in one folder", "list_folder",
        Files(50_000, 100), Files(2000, 100),
        (Peer("rclone", least=2), Peer("webdav4", least=2), Peer("davix", least=0.35)),
        most_mb=60,
    ),
    Work(
        "get-small-far", "{n} × {size}, 20 ms, get -r", "get_tree",
        Files(500, 20_000, 1), Files(50, 20_000, 1),
        (
            Peer("davix", 8, least=1.8), Peer("rclone", 16, least=1.8),
            Peer("curl", 16, least=0.8), Peer("aria2c", 16, least=0.8),
        ),
        ("nginx",), at_once=16, rtt_ms=20,
    ),
    Work(
        "get-large-far", "{size}, 20 ms, 40 MB/s a connection, get", "get_file",
        Files(1, 512 << 20), Files(1, 32 << 20),
        (
            Peer("aria2c", 8, least=1.0), Peer("aria2c", 4), Peer("curl", least=3),
            Peer("davix", least=3), Peer("rclone", least=3),
        ),
        ("nginx",), rtt_ms=20, mb_per_s=40,
    ),
    Work(
        "cold-start", "ls of {n} files, cold", "start", Files(10, 100), Files(10, 100),
        (Peer("python"),),
        ("nginx",), most_over_s=0.25, times=5,
    ),
)  # fmt: skip


def title(work: Work, files: Files) -> str:
    """Return the name of a workload in the table, with the actual sizes."""
    told = work.title.format(
        n=f"{files.n:,}", size=size_text(files.size_bytes), folders=files.n_folders
    )
    asked = {work.files.size_bytes, work.quick.size_bytes}
    return told if files.size_bytes in asked else f"{told} (smaller: no room for more)"


def size_text(n_bytes: int) -> str:
    """Return a size in the largest unit in which it is a whole number."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("MB", 10**6), ("KB", 10**3)):
        if n_bytes >= one and n_bytes % one == 0:
            return f"{n_bytes // one} {unit}"
    return f"{n_bytes} bytes"


def chosen(words: list[str]) -> list[tuple[Work, str]]:
    """Return the selected workloads, each with its server: ``get-small``, ``put-large:nginx``.

    Raises
    ------
    ValueError
        There is no such workload, or it does not run on that server.
    """
    every = [(work, server) for work in WORKS for server in work.servers]
    known = {word for work, server in every for word in (work.key, f"{work.key}:{server}")}
    unknown = [word for word in words if word not in known]
    if unknown:
        raise ValueError(f"there is no {unknown[0]}; there are {', '.join(sorted(known))}")
    return [
        (work, server)
        for work, server in every
        if not words or work.key in words or f"{work.key}:{server}" in words
    ]
