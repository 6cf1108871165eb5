"""`ctaflows find`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from ctaflows.cli import options
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: The values of --type.
_KINDS: dict[str | None, Literal["file", "directory", "link"] | None] = {
    None: None,
    "f": "file",
    "d": "directory",
    "l": "link",
}


@click.command(
    "find",
    epilog="Example: ctaflows find cta/DL1 --name 'dl1_*.h5' --newer-than 7d --min-size 1MB",
)
@click.argument("path")
@click.option(
    "--name", "names", multiple=True, metavar="GLOB", help="Only names that match, e.g. '*.h5'."
)
@options.patterns
@click.option(
    "--type",
    "kind",
    type=click.Choice(["f", "d", "l"]),
    help="Only files (and symbolic links to files), directories, or symbolic links.",
)
@options.follow
@click.option("--newer-than", metavar="TIME", help="Modified after this time.")
@click.option("--older-than", metavar="TIME", help="Modified before this time.")
@click.option("--min-size", metavar="SIZE", help="Files of at least this size.")
@click.option("--max-size", metavar="SIZE", help="Files of at most this size.")
@options.as_json
@options.profile
@options.verbose
def command(
    path: str,
    *,
    names: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    kind: str | None,
    follow: bool,
    newer_than: str | None,
    older_than: str | None,
    min_size: str | None,
    max_size: str | None,
    as_json: bool,
    profile: str | None,
) -> None:
    """Print the files and directories below PATH that meet all conditions.

    TIME is a date or time (UTC), such as 2024-11-14 or 2024-11-14T03:00, or an age: 90s, 30m, 12h,
    7d, 2w. SIZE is such as 1000, 10k, 1.5GB or 64KiB. --name must match the name itself. --include
    and --exclude match the name, the path relative to PATH, or the name of a directory in that
    path; excluded directories are not searched, and those behind symbolic links only with --follow.
    """
    from ctaflows.cli import listing
    from ctaflows.tasks import iter_find

    now = datetime.now(UTC)
    unseen = listing.Unseen(path, profile)
    batches = iter_find(
        path,
        include=include,
        exclude=exclude,
        names=names,
        kind=_KINDS[kind],
        newer_than=_option("--newer-than", newer_than, lambda text: parse_moment(text, now)),
        older_than=_option("--older-than", older_than, lambda text: parse_moment(text, now)),
        min_size_bytes=_option("--min-size", min_size, parse_size),
        max_size_bytes=_option("--max-size", max_size, parse_size),
        follow=follow,
        on_empty=unseen.add_empty,
        on_link=unseen.add_link,
        profile=profile,
    )
    described = (
        found
        for batch in unseen.noted(batches)
        if (found := [entry for entry in batch if entry.error is None])
    )
    if as_json:
        listing.print_entries(described)
    else:
        write_name = listing.name_writer()
        listing.print_lines(described, lambda entry: write_name(entry.path, False))
    unseen.report()


def _option(name: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    """Return the parsed value of an option; an error names the option."""
    try:
        return None if text is None else parse(text)
    except UsageError as why:
        raise UsageError(f"{name}: {why.what}", hint=why.hint) from None


_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*([smhdw])", re.ASCII)
_AGE_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the time that a text gives as a date, a time or an age.

    Parameters
    ----------
    text : str
        ISO 8601, in UTC where no offset is given, such as ``2024-11-14`` or ``2024-11-14T03:00``;
        or an age: ``90s``, ``30m``, ``12h``, ``7d``, ``2w``.
    now : datetime
        Time from which an age is subtracted, aware.

    Returns
    -------
    datetime
        Aware, UTC.

    Raises
    ------
    UsageError
        The text is neither.
    """
    text = text.strip()
    age = _AGE.fullmatch(text)
    try:
        if age:
            return now.astimezone(UTC) - timedelta(**{_AGE_UNITS[age[2]]: float(age[1])})
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"“{text}” is not a time",
            hint="Write 2024-11-14, 2024-11-14T03:00 (UTC), or an age: 90s, 30m, 12h, 7d, 2w.",
        ) from None


_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(?:([kKMGTP])(i?))?B?", re.ASCII)


def parse_size(text: str) -> int:
    """Return the size in bytes that a text gives.

    Parameters
    ----------
    text : str
        ``1000``, ``10k``, ``1.5GB`` (powers of 1000), ``64KiB``, ``1Gi`` (powers of 1024).

    Raises
    ------
    UsageError
        The text is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"“{text}” is not a size", hint="Write 1000, 10k, 1.5GB, 64KiB or 1Gi.")
    number, unit, is_binary = found.groups()
    power = " KMGTP".index(unit.upper()) if unit else 0
    factor: int = (1024 if is_binary else 1000) ** power
    return int(float(number) * factor) if "." in number else int(number) * factor
