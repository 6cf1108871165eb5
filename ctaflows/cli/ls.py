"""`ctaflows ls`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ctaflows.cli import options, render
from ctaflows.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.model import Entry


@click.command("ls", epilog="Example: ctaflows ls -l cta/DL1/20241114/v0.1/tailcut84")
@click.argument("path", default="/")
@click.option("-l", "--long", is_flag=True, help="Also size, time (UTC) and checksum.")
@click.option("-r", "--recursive", is_flag=True, help="All below, too.")
@options.as_json
@options.profile
@options.verbose
def command(path: str, *, long: bool, recursive: bool, as_json: bool, profile: str | None) -> None:
    """List a directory at the door: entries appear while the listing arrives.

    An empty listing may mean that the door could not read the directory: it shows both alike.
    """
    from ctaflows.storage.connect import connect
    from ctaflows.storage.walk import walk

    door = connect(profile)
    entries = walk(door, path) if recursive else door.list(path)
    if as_json:
        render.print_json_array(entry.to_dict() for entry in entries)
        return
    base = door.normalise(path).rstrip("/") + "/"
    if not _print(entries, base, long=long):
        click.echo("(empty, or not readable for you: the door shows both alike)", err=True)


def _print(entries: Iterator[Entry], base: str, *, long: bool) -> bool:
    found = False
    for entry in entries:
        found = True
        shown = entry.path.removeprefix(base) if entry.path.startswith(base) else entry.name
        if sys.stdout.isatty():
            shown = printable(shown)
        name = click.style(shown + "/", fg="blue") if entry.is_dir else shown
        click.echo(f"{_details(entry)}  {name}" if long else name)
    return found


def _details(entry: Entry) -> str:
    size = "-" if entry.size_bytes is None else f"{entry.size_bytes:,}"
    time = f"{entry.mtime:%Y-%m-%d %H:%M:%S}" if entry.mtime else "-"
    checksum = str(entry.checksums[0]) if entry.checksums else "-"
    offline = f" {entry.locality}" if entry.locality not in (None, "ONLINE") else ""
    return f"{size:>15}  {time:<19}  {checksum:<16}{offline}"
