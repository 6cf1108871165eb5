"""`ctaflows ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ctaflows.cli import options

if TYPE_CHECKING:
    from ctaflows.model import Entry


@click.command("ls", epilog="Example: ctaflows ls -l cta/DL1/20241114/v0.1/tailcut84")
@click.argument("path", default="/")
@click.option("-l", "--long", is_flag=True, help="Show size, time (UTC) and checksum too.")
@click.option("-r", "--recursive", is_flag=True, help="List everything below, too.")
@options.follow
@click.option("-U", "--unsorted", is_flag=True, help="Keep the storage's order.")
@options.as_json
@options.profile
@options.verbose
def command(
    path: str,
    *,
    long: bool,
    recursive: bool,
    follow: bool,
    unsorted: bool,
    as_json: bool,
    profile: str | None,
) -> None:
    """List a remote directory; entries appear as the listing arrives.

    Each directory is sorted by name, unless it has more than 10,000 entries. One that is listed as
    empty is asked for once more at the end, since dCache lists one that you may not read likewise.

    With -l a symbolic link is shown as NAME -> file, directory or nothing, with the size, time and
    checksum of that file. With -r a directory behind one is not listed, unless --follow is given.
    """
    from ctaflows.cli import listing
    from ctaflows.tasks.namespace import SORT_UP_TO, iter_dir

    unseen = listing.Unseen(path, profile)
    batches = iter_dir(
        path,
        recursive=recursive,
        follow=follow,
        sort_up_to=0 if unsorted else SORT_UP_TO,
        on_empty=unseen.add_empty,
        on_link=unseen.add_link,
        profile=profile,
    )
    write_name = listing.name_writer()
    base = ""

    def line(entry: Entry) -> str:
        nonlocal base
        if not base:  # the first entry lies in PATH itself
            base = entry.parent.rstrip("/") + "/"
        name = write_name(entry.path.removeprefix(base), entry.is_dir)
        if not long:
            return name
        target = f" -> {entry.link}" if entry.link is not None else ""
        return f"{listing.details(entry)}  {name}{target}"

    batches = unseen.noted(batches)
    if as_json:
        listing.print_entries(batches)
    else:
        listing.print_lines(batches, line)
    unseen.report()
