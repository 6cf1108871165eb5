"""`ctaflows ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ctaflows.cli import options

if TYPE_CHECKING:
    from ctaflows.model import Entry


@click.command("ls", epilog="Example: ctaflows ls -l cta/DL1/20241114/v0.1/tailcut84")
@click.argument("path", default="/")
@click.option("-l", "--long", is_flag=True, help="Also size, time (UTC) and checksum.")
@click.option("-r", "--recursive", is_flag=True, help="All below, too.")
@click.option("-U", "--unsorted", is_flag=True, help="In the door's order, as they arrive.")
@options.as_json
@options.profile
@options.verbose
def command(
    path: str, *, long: bool, recursive: bool, unsorted: bool, as_json: bool, profile: str | None
) -> None:
    """List a directory at the door: entries appear while the listing arrives.

    Each directory is sorted by name, unless it has more than 10,000 entries: these come in the
    door's order. An empty listing may mean that the door could not read the directory: it shows
    both alike.
    """
    from ctaflows.cli import listing
    from ctaflows.storage.connect import connect
    from ctaflows.storage.walk import in_order, walk_batches

    door = connect(profile)
    root = door.normalise(path)
    base = root.rstrip("/") + "/"
    sort = 0 if unsorted else listing.SORTED
    doubts = listing.Doubts()
    if recursive:
        batches = walk_batches(door, root, sort=sort, on_empty=doubts)
    else:
        batches = in_order(door.batches(root), sort)

    write_name = listing.name_writer()

    def line(entry: Entry) -> str:
        below = entry.path[len(base) :] if entry.path.startswith(base) else entry.name
        name = write_name(below, entry.is_dir)
        return f"{listing.details(entry)}  {name}" if long else name

    batches = doubts.noted(batches)
    n_entries = listing.print_entries(batches) if as_json else listing.print_lines(batches, line)
    if not recursive and not n_entries:
        doubts(root)
    doubts.tell()
