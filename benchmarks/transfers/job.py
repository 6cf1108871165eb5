"""What a contestant is asked to do, and what it makes of it: a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done, the same for all tools.

    Attributes
    ----------
    url, xroot_url : str
        The server, without a slash at the end.
    ca_file, ca_dir : Path
        Its CA as a file and as a hashed folder.
    remote : str
        Path at the server of the file or folder that is read or, of a folder, written into.
    local : Path
        Folder that is written into, or file or folder that is read.
    names : list of str
        Relative paths of the files, for tools that can't walk.
    home : Path
        Scratch space.
    """

    url: str
    ca_file: Path
    ca_dir: Path
    remote: str
    local: Path
    names: list[str]
    home: Path
    xroot_url: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed.

    Attributes
    ----------
    label : str
        What it is called in the table.
    words : list of str
        Program and arguments.
    env : dict
        What it finds in its environment besides the usual.
    exit_codes : tuple of int
        Those that don't tell of a failure; whether it is one is told by what arrived.
    """

    label: str
    words: list[str]
    env: dict[str, str] = field(default_factory=dict)
    exit_codes: tuple[int, ...] = (0,)


class Tool:
    """What all tools have.

    Attributes
    ----------
    package : str
        Where it comes from, on Debian or from the package index.
    """

    package: ClassVar[str]


def last_part(path: str) -> str:
    return path.rpartition("/")[2]


def davs(job: Job) -> str:
    return job.url.replace("https:", "davs:")


def urls(job: Job) -> Iterable[tuple[str, str]]:
    """Give each file's relative path and its URL, there to be read or to be written."""
    base = job.url + job.remote
    return ((name, f"{base}/{name}") for name in job.names)


def quoted(value: object) -> str:
    return f'"{value}"'


def write(file: Path, lines: Iterable[str]) -> str:
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)
