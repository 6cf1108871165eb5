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
DOUBTFUL = ("empty, or not readable for you", ": the storage lists both alike")


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
    """What a listing may lack: the content of empty directories, and entries without properties.

    A dCache door lists a directory that it can't read as empty (DcacheDirectoryResource.java,
    dCache 12.1), so that each of them is asked for once more at the end.

    Parameters
    ----------
    profile : str or None
        Settings to use.

    Attributes
    ----------
    n_entries : int
        Number of entries that were listed.
    """

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._empty: list[str] = []
        self._undescribed: list[Entry] = []
        self.n_entries = 0

    def add_empty(self, path: str) -> None:
        """Add a directory whose listing is empty."""
        self._empty.append(path)

    def add_undescribed(self, entry: Entry) -> None:
        """Add an entry that the storage lists without its properties."""
        self._undescribed.append(entry)

    def noted(self, batches: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
        """Yield the batches of a listing, and add their entries without properties."""
        for batch in batches:
            self.n_entries += len(batch)
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
            It can't list the only directory there is.
        """
        from ctaflows.tasks.namespace import refuse_undescribed, unconfirmed, unread_entries

        unread = unconfirmed(self._empty, profile=self._profile)
        print_note([path for path in self._empty if path not in unread], "empty")
        print_note([path for path, why in unread.items() if why is None], *DOUBTFUL)
        if not self.n_entries and len(self._empty) == 1:
            for why in filter(None, unread.values()):
                raise why
        refuse_undescribed([*unread_entries(unread), *self._undescribed])


def print_note(paths: Sequence[str], what: str, why: str = "") -> None:
    """Print on stderr what is to be known of some directories, unless -q was given."""
    if not paths or console.verbosity < 0:
        return
    if len(paths) == 1:
        said = f"{output.one_line(paths[0])} is {what}"
    else:
        more = ", …" if len(paths) > _SHOWN else ""
        named = ", ".join(map(output.one_line, paths[:_SHOWN]))
        said = f"{len(paths)} directories are {what}: {named}{more}"
    click.echo(f"({said}{why})", err=True)
