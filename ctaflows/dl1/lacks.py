"""What a night lacks at the door, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.words import human_bytes

if TYPE_CHECKING:
    from ctaflows.dl1.census import Census


def lacks(census: Census) -> list[tuple[str, list[str]]]:
    """Give headings, each with its lines, which may be none."""
    return [
        ("Missing at the door", list(census.missing)),
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
