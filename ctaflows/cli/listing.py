"""How entries are shown: lines or JSON, written while the listing arrives."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ctaflows.cli import console, output
from ctaflows.storage.namespace import undescribed, undescribed_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ctaflows.model import Entry
    from ctaflows.storage.namespace import RemovalResult

#: Directories of at most so many entries are sorted by name; the entries of larger ones are shown
#: as they arrive, so that they need not be held (5 MB).
SORTED = 10_000

_SHOWN = 3


def print_lines(batches: Iterable[Sequence[Entry]], line: Callable[[Entry], str]) -> int:
    """Print a line for each entry, each list of them at once, and say how many there were."""
    n_entries = 0
    for batch in batches:
        n_entries += len(batch)
        click.echo("\n".join([line(entry) for entry in batch]))
    return n_entries


def print_entries(batches: Iterable[Sequence[Entry]]) -> int:
    """Print entries as a JSON array, each list of them at once, and say how many there were."""
    return output.print_json_batches((e.to_dict() for e in batch) for batch in batches)


def details(entry: Entry) -> str:
    """Write size, time, checksum, and where the file is if it is not on disk."""
    size = "-" if entry.size_bytes is None else f"{entry.size_bytes:,}"
    time = entry.mtime.isoformat(" ")[:19] if entry.mtime else "-"
    checksum = str(entry.checksums[0]) if entry.checksums else "-"
    offline = f" {entry.locality}" if entry.locality not in (None, "ONLINE") else ""
    unknown = f" ({output.one_line(entry.error)})" if entry.error is not None else ""
    return f"{size:>15}  {time:<19}  {checksum:<16}{offline}{unknown}"


def name_writer() -> Callable[[str, bool], str]:
    """Give what writes a name and whether it is a directory's.

    For a terminal names are made so that they can't steer it; for a pipe they are as they are.
    """
    if not sys.stdout.isatty():
        return lambda name, is_dir: name + "/" if is_dir else name
    if os.environ.get("NO_COLOR"):
        return lambda name, is_dir: output.one_line(name) + "/" * is_dir
    return lambda name, is_dir: (
        click.style(output.one_line(name) + "/", fg="blue") if is_dir else output.one_line(name)
    )


class Doubts:
    """What a listing does not tell: directories that show nothing, and entries not described.

    A dCache door shows a directory that it can't read like an empty one.

    Attributes
    ----------
    n_empty : int
        How many directories show nothing.
    """

    def __init__(self) -> None:
        self.n_empty = 0
        self._first: list[str] = []
        self._undescribed: list[RemovalResult] = []

    def __call__(self, path: str) -> None:
        """Take note of one."""
        self.n_empty += 1
        if len(self._first) < _SHOWN:
            self._first.append(path)

    def noted(self, batches: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
        """Give the entries of a listing, and take note of those that are not described."""
        for batch in batches:
            self.note(batch)
            yield batch

    def note(self, entries: Iterable[Entry]) -> None:
        """Take note of those of some entries that are not described."""
        self._undescribed += undescribed(entries)

    def tell(self) -> None:
        """Say on stderr what an empty directory may mean, unless -q was given.

        Raises
        ------
        PartialFailure
            The storage could not describe an entry.
        """
        self._tell_of_empty()
        if self._undescribed:
            raise undescribed_failure(self._undescribed)

    def _tell_of_empty(self) -> None:
        if not self.n_empty or console.verbosity < 0:
            return
        if self.n_empty == 1:
            what = f"{output.one_line(self._first[0])} is empty, or not readable for you"
        else:
            more = ", …" if self.n_empty > len(self._first) else ""
            named = ", ".join(map(output.one_line, self._first))
            what = f"{self.n_empty} directories are empty, or not readable for you: {named}{more}"
        click.echo(f"({what}: the door shows both alike)", err=True)
