"""The tools, called as `benchmarks.transfers` calls them, with a token."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.transfers import contestants
from benchmarks.transfers.job import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.transfers.job import Command

TOKEN = "c2VjcmV0LXRva2Vu"
_HEADER = f"Authorization: Bearer {TOKEN}"
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool, and what is added to its command line.

    Attributes
    ----------
    name : str
        Name in the table.
    tool : str
        Key in `contestants.TOOLS`.
    words, again : tuple of str
        Arguments; those of a second call for the same file.
    env : dict
        Environment variables.
    lists, uploads : bool
        Whether it reads listings, and whether it uploads.
    """

    name: str
    tool: str
    words: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    lists: bool = True
    uploads: bool = True

    @property
    def package(self) -> str:
        """Name of its package."""
        return contestants.TOOLS[self.tool].package

    def command(self, act: str, job: Job, *, is_again: bool = False) -> Command:
        """Return its command for a job; acts are those of `contestants`."""
        made = contestants.command(self.tool, act, job, _AT_ONCE if act == "get_tree" else 1)
        more = (*self.words, *(self.again if is_again and act == "get_file" else ()))
        return replace(made, words=[*made.words, *more], env={**made.env, **self.env})

    def example(self) -> Command:
        """Return its command for one file, with names in place of what is known only later."""
        with tempfile.TemporaryDirectory() as home:
            job = Job(
                url="https://DOOR", ca_file=Path("CA"), ca_dir=Path("CAS"), remote="/FILE",
                local=Path("HERE"), names=[], home=Path(home),
            )  # fmt: skip
            made = self.command("get_file", job)
            words = [word.replace(TOKEN, "TOKEN") for word in made.words]
            env = {name: value.replace(TOKEN, "TOKEN") for name, value in made.env.items()}
            env = {name: value.replace(home, "HOME") for name, value in env.items()}
            return replace(made, words=words, env=env)

    def is_installed(self) -> bool:
        """Return whether its program is found."""
        return shutil.which(self.example().words[0]) is not None

    def shown(self) -> str:
        """Return its command line for one file, with the environment before it."""
        made = self.example()
        env = (f"{name}={shlex.quote(value)}" for name, value in made.env.items())
        return " ".join([*env, Path(made.words[0]).name, shlex.join(made.words[1:])])


_CURL = ("--location", "--header", _HEADER)
_TRIES = ("--retry", "3", "--retry-all-errors", "--remove-on-error")

PEERS = (
    Peer("ctaflows", "ctaflows", env={"BEARER_TOKEN": TOKEN, "CTAFLOWS_TRACK": "never"}),
    Peer("curl", "curl", _CURL, ("--continue-at", "-"), lists=False),
    Peer("curl --retry 3", "curl", _CURL + _TRIES, lists=False),
    Peer("rclone", "rclone", env={
        "RCLONE_CONFIG_DOOR_BEARER_TOKEN": TOKEN,
        "RCLONE_WEBDAV_PACER_MIN_SLEEP": "0",  # a version that does not know it ignores it
    }),
    Peer("davix", "davix", ("-H", _HEADER)),
    Peer("aria2c", "aria2c", (
        f"--header={_HEADER}", "--continue=true", "--allow-overwrite=true",
        "--auto-file-renaming=false", "--retry-wait=1", "--max-tries=3",
    ), lists=False, uploads=False),
)  # fmt: skip
