"""What a night lacks at the door, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.dl1.night import version_order
from ctaflows.text import human_bytes, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctaflows.dl1.night import Gaps
    from ctaflows.dl1.night_completeness import Census

#: What is missing where nothing can be named.
NO_DL1 = "any DL1 file"


def missing(what: Census | Gaps) -> list[str]:
    """Name what is missing, with the version that has it, or will; nothing where nothing is."""
    older = what.only_older
    named = [f"{name} (in {older[name]})" if name in older else name for name in what.missing]
    named += [f"{run} (not yet in {version})" for run, version in what.awaited.items()]
    return named if what.has_dl1 else [NO_DL1, *named]


def versions_text(runs: Iterable[tuple[str | None, int]]) -> str:
    """Say of each version which runs are taken from it; empty unless they are several.

    Parameters
    ----------
    runs : iterable of (str or None, int)
        Version and run.
    """
    found: dict[str, set[int]] = {}
    for version, run in runs:
        if version is not None:
            found.setdefault(version, set()).add(run)
    if len(found) < 2:
        return ""
    return "; ".join(
        f"{version} of run{'s' * (len(some) != 1)} {shortened(map(str, sorted(some)))}"
        for version, some in sorted(found.items(), key=lambda f: version_order(f[0]))
    )


def lacks(census: Census) -> list[tuple[str, list[str]]]:
    """Give headings, each with its lines, which may be none."""
    return [
        ("Missing at the door", missing(census)),
        ("Still growing", list(census.growing)),
        ("Empty files", list(census.empty)),
        ("Data without a datacheck", list(census.data_without_datacheck)),
        ("Datacheck without data", list(census.datacheck_without_data)),
        ("Sizes out of line", [
            f"{o.path}: {human_bytes(o.size_bytes)}, usual are {human_bytes(o.median_bytes)}"
            for o in census.odd_sizes
        ]),
        ("More than once", [
            f"{d.kind} of run {d.run}: {d.n_files} file{'s' * (d.n_files != 1)} "
            f"in {', '.join(d.places)}"
            for d in census.doubles
        ]),
        ("Not described by the door", list(census.unknown)),
    ]  # fmt: skip


def counted(census: Census) -> str:
    """Say in a line how the night stands."""
    return (
        f"{census.verdict}: {len(census.runs)} runs, {census.n_subruns} subruns, "
        f"{census.n_files} files, {human_bytes(census.size_bytes)}"
    )


def since(census: Census) -> str:
    """Say what has changed since the last look; empty at the first one."""
    changes = census.changes
    if changes is None:
        return ""
    when = f"{changes.since:%Y-%m-%d %H:%M} UTC, {changes.verdict}"
    counts = [
        f"{len(paths)} {word}"
        for word, paths in (
            ("new", changes.new),
            ("changed", changes.changed),
            ("gone", changes.gone),
        )
        if paths
    ]
    return f"{when}; " + (
        f"since then {', '.join(counts)}" if counts else "nothing has changed since"
    )
