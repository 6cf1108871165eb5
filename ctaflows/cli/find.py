"""`ctaflows find`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click

from ctaflows.cli import options
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ctaflows.model import Entry

T = TypeVar("T")


@click.command(
    "find",
    epilog="Example: ctaflows find cta/DL1 --name 'dl1_*.h5' --newer-than 7d --min-size 1MB",
)
@click.argument("path")
@click.option(
    "--name", "names", multiple=True, metavar="GLOB", help="Only such names, e.g. '*.h5'."
)
@options.patterns
@click.option("--type", "kind", type=click.Choice(["f", "d"]), help="Only files, or directories.")
@click.option("--newer-than", metavar="TIME", help="Changed after it.")
@click.option("--older-than", metavar="TIME", help="Changed before it.")
@click.option("--min-size", metavar="SIZE", help="Files of at least so much.")
@click.option("--max-size", metavar="SIZE", help="Files of at most so much.")
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
    newer_than: str | None,
    older_than: str | None,
    min_size: str | None,
    max_size: str | None,
    as_json: bool,
    profile: str | None,
) -> None:
    """Find files and directories below PATH; what fulfils all conditions is printed.

    TIME is a date or time (UTC), such as 2024-11-14 or 2024-11-14T03:00, or an age: 90s, 30m, 12h,
    7d, 2w. SIZE is such as 1000, 10k, 1.5GB or 64KiB. --name is compared with the name itself;
    --include and --exclude also with the path below PATH and with the names of the directories on
    the way, and a directory that is left out so is not searched.
    """
    from ctaflows.cli import listing
    from ctaflows.storage.connect import connect
    from ctaflows.storage.paths import selected
    from ctaflows.storage.search import Criteria, parse_moment, parse_size
    from ctaflows.storage.walk import unless_excluded, walk_batches

    now = datetime.now(UTC)
    criteria = Criteria(
        names,
        include,
        exclude,
        None if kind is None else kind == "d",
        _option("--newer-than", newer_than, lambda text: parse_moment(text, now)),
        _option("--older-than", older_than, lambda text: parse_moment(text, now)),
        _option("--min-size", min_size, parse_size),
        _option("--max-size", max_size, parse_size),
    )
    door = connect(profile)
    root = door.normalise(path)
    base = root.rstrip("/") + "/"
    doubts = listing.Doubts()

    def wanted() -> Iterator[Sequence[Entry]]:
        enter = unless_excluded(exclude)
        for batch in walk_batches(door, root, sort=listing.SORTED, enter=enter, on_empty=doubts):
            doubts.note(e for e in batch if selected(e.path.removeprefix(base), (), exclude))
            if found := [e for e in batch if criteria.accept(e, e.path.removeprefix(base))]:
                yield found

    if as_json:
        listing.print_entries(wanted())
    else:
        write_name = listing.name_writer()
        listing.print_lines(wanted(), lambda entry: write_name(entry.path, False))
    doubts.tell()


def _option(name: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    """Read an option's value; an error names the option."""
    try:
        return None if text is None else parse(text)
    except UsageError as why:
        raise UsageError(f"{name}: {why.what}", hint=why.hint) from None
