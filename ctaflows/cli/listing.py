"""How entries are shown: lines or JSON, written while the listing arrives."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ctaflows.cli import console, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ctaflows.model import Entry

_SHOWN = 3


def print_lines(batches: Iterable[Sequence[Entry]], line: Callable[[Entry], str]) -> None:
    """Print a line for each entry, each batch at once."""
    for batch in batches:
        click.echo("\n".join([line(entry) for entry in batch]))


def print_entries(batches: Iterable[Sequence[Entry]]) -> None:
    """Print entries as a JSON array, each batch at once."""
    output.print_json_batches((e.to_dict() for e in batch) for batch in batches)


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


class Unseen:
    """What a listing could not show: directories that show nothing, and undescribed entries.

    A dCache door shows a directory that it can't read like an empty one
    (DcacheDirectoryResource.java, dCache 12.1).
    """

    def __init__(self) -> None:
        self._n_empty = 0
        self._first_empty: list[str] = []
        self._undescribed: list[Entry] = []

    def add_empty(self, path: str) -> None:
        """Add a directory in which nothing was shown."""
        self._n_empty += 1
        if len(self._first_empty) < _SHOWN:
            self._first_empty.append(path)

    def add_undescribed(self, entry: Entry) -> None:
        """Add an entry that the storage names without describing it."""
        self._undescribed.append(entry)

    def noted(self, batches: Iterable[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
        """Yield the batches of a listing, and add their entries that are not described."""
        for batch in batches:
            for entry in batch:
                if entry.error is not None:
                    self.add_undescribed(entry)
            yield batch

    def report(self) -> None:
        """Write to stderr what an empty directory may mean, unless -q was given.

        Raises
        ------
        PartialFailure
            The storage could not describe an entry.
        """
        from ctaflows.tasks.namespace import refuse_undescribed

        self._report_empty()
        refuse_undescribed(self._undescribed)

    def _report_empty(self) -> None:
        if not self._n_empty or console.verbosity < 0:
            return
        if self._n_empty == 1:
            what = f"{output.one_line(self._first_empty[0])} is empty, or not readable for you"
        else:
            more = ", …" if self._n_empty > len(self._first_empty) else ""
            named = ", ".join(map(output.one_line, self._first_empty))
            what = f"{self._n_empty} directories are empty, or not readable for you: {named}{more}"
        click.echo(f"({what}: the door shows both alike)", err=True)
