"""Output of listings: lines or JSON, printed as the listing arrives."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ctaflows.cli import console, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ctaflows.model import Entry

#: Empty directories named in the message at the end.
_SHOWN = 3
#: What `print_note` says of directories with an empty listing, where the storage does not tell.
DOUBTFUL = ("empty, or not readable for you, or gone", ": the storage does not tell")


def print_lines(batches: Iterable[Sequence[Entry]], line: Callable[[Entry], str]) -> None:
    """Print a line for each entry, batch by batch."""
    for batch in batches:
        click.echo("\n".join([line(entry) for entry in batch]))


def print_entries(batches: Iterable[Sequence[Entry]]) -> None:
    """Print entries as a JSON array, batch by batch."""
    output.print_json_batches((e.to_dict() for e in batch) for batch in batches)


def details(entry: Entry) -> str:
    """Return size, time, checksum and, of a file that is not on disk, locality as a text."""
    size = "-" if entry.size_bytes is None else f"{entry.size_bytes:,}"
    time = entry.mtime.isoformat(" ")[:19] if entry.mtime else "-"
    checksum = str(entry.checksums[0]) if entry.checksums else "-"
    offline = f" {entry.locality}" if entry.locality not in (None, "ONLINE") else ""
    unknown = f" ({output.one_line(entry.error)})" if entry.error is not None else ""
    return f"{size:>15}  {time:<19}  {checksum:<16}{offline}{unknown}"


def name_writer() -> Callable[[str, bool], str]:
    """Return the function that formats a name, given also whether it is a directory's.

    On a terminal, control characters in names are replaced; elsewhere names are unchanged.
    """
    if not sys.stdout.isatty():
        return lambda name, is_dir: name + "/" if is_dir else name
    if os.environ.get("NO_COLOR"):
        return lambda name, is_dir: output.one_line(name) + "/" * is_dir
    return lambda name, is_dir: (
        click.style(output.one_line(name) + "/", fg="blue") if is_dir else output.one_line(name)
    )


class Unseen:
    """What a listing may lack: what is behind symbolic links or in directories that are empty.

    And the properties of entries that the storage does not describe.

    A dCache door lists a directory that it can't read as empty (DcacheDirectoryResource.java,
    dCache 12.1), so that each of them is asked for once more at the end.

    Parameters
    ----------
    path : str
        The directory that is listed, as given on the command line.
    profile : str or None
        Settings to use.
    """

    def __init__(self, path: str, profile: str | None) -> None:
        self._path, self._profile = path, profile
        self._empty: list[str] = []
        self._undescribed: list[Entry] = []
        self._links: list[Entry] = []

    def add_empty(self, path: str) -> None:
        """Add a directory whose listing is empty."""
        self._empty.append(path)

    def add_link(self, link: Entry) -> None:
        """Add what ``on_link`` gives, such as a symbolic link that was not followed."""
        self._links.append(link)

    def add_undescribed(self, entry: Entry) -> None:
        """Add an entry that the storage lists without its properties."""
        self._undescribed.append(entry)

    def noted(self, batches: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
        """Yield the batches of a listing, and add their entries without properties."""
        for batch in batches:
            for entry in batch:
                if entry.error is not None:
                    self.add_undescribed(entry)
            yield batch

    def report(self) -> None:
        """Print on stderr which directories are empty, unless -q was given.

        Raises
        ------
        PartialFailure
            The storage can't list some directories, or listed an entry without its properties.
        Refused, StorageError
            It can't list the directory that was asked for.
        """
        from ctaflows.tasks.namespace import (
            absolute,
            refuse_undescribed,
            unconfirmed,
            unread_entries,
        )

        unread = unconfirmed(self._empty, profile=self._profile)
        print_note([path for path in self._empty if path not in unread], "empty")
        print_note([path for path, why in unread.items() if why is None], *DOUBTFUL)
        print_links(self._links)
        if why := unread.get(absolute(self._path, profile=self._profile)):
            raise why
        refuse_undescribed([*unread_entries(unread), *self._undescribed])


def print_note(paths: Sequence[str], what: str, why: str = "") -> None:
    """Print on stderr what is to be known of some directories, unless -q was given."""
    if not paths or console.verbosity < 0:
        return
    is_one = len(paths) == 1
    click.echo(
        f"({_named(paths, f'is {what}' if is_one else f'directories are {what}')}{why})", err=True
    )


def print_links(links: Sequence[Entry]) -> None:
    """Print on stderr what ``on_link`` gave, and what was not listed, unless -q was given."""
    from ctaflows.tasks.transfers import LISTED_ELSEWHERE

    if console.verbosity < 0:
        return
    print_note([link.path for link in links if link.is_dir], LISTED_ELSEWHERE)
    broken = [link.path for link in links if link.link == "nothing"]
    others = [link.path for link in links if link.link == "directory"]
    if others:
        is_one = len(others) == 1
        what = "is a symbolic link to a directory" if is_one else "symbolic links to directories"
        not_entered = f"which {'was' if is_one else 'were'} not entered: --follow enters"
        click.echo(f"({_named(others, what)}, {not_entered})", err=True)
    if broken:
        what = "is a symbolic link" if len(broken) == 1 else "symbolic links"
        click.echo(f"({_named(broken, what)} to nothing)", err=True)


def _named(paths: Sequence[str], what: str) -> str:
    """Return paths and what they are: ``/a is a link``; ``2 links: /a, /b``."""
    if len(paths) == 1:
        return f"{output.one_line(paths[0])} {what}"
    more = ", …" if len(paths) > _SHOWN else ""
    return f"{len(paths)} {what}: {', '.join(map(output.one_line, paths[:_SHOWN]))}{more}"
