"""The job that every tool is given, and the command a tool makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """A transfer or listing, the same for all tools.

    Attributes
    ----------
    url, xroot_url : str
        URLs of the server, without a slash at the end.
    ca_file, ca_dir : Path
        Its CA as a file and as a hashed directory.
    remote : str
        Remote file or folder to read, or folder to write to.
    local : Path
        Local folder to write to, or file or folder to read.
    names : list of str
        Relative paths of the files, for tools that can't list directories.
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
    """A command line.

    Attributes
    ----------
    label : str
        Name in the table.
    words : list of str
        Program and arguments.
    env : dict
        Additional environment variables.
    exit_codes : tuple of int
        Exit codes that are not taken for a failure; the result is verified in any case.
    """

    label: str
    words: list[str]
    env: dict[str, str] = field(default_factory=dict)
    exit_codes: tuple[int, ...] = (0,)


class Tool:
    """Base class of the tools.

    Attributes
    ----------
    package : str
        Name of its package, in Debian or in the Python package index.
    """

    package: ClassVar[str]


def last_part(path: str) -> str:
    return path.rpartition("/")[2]


def davs(job: Job) -> str:
    return job.url.replace("https:", "davs:")


def urls(job: Job) -> Iterable[tuple[str, str]]:
    """Return the relative path and the remote URL of each file."""
    base = job.url + job.remote
    return ((name, f"{base}/{name}") for name in job.names)


def quoted(value: object) -> str:
    return f'"{value}"'


def write(file: Path, lines: Iterable[str]) -> str:
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)
