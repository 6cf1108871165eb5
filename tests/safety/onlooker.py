"""A thread that checks all the time that each file with a final name is complete."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_GLANCE_S = 0.005


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def files(folder: Path) -> dict[str, Path]:
    """Return all files below a directory by their relative path."""
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


class Onlooker:
    """Checks files with final names, as often as it can.

    Parameters
    ----------
    folder : Path
        Where the files appear.
    truth : dict of str to Path
        Path in the folder to what must be there.

    Attributes
    ----------
    n_looks : int
        How often it looked.
    wrong : list of str
        What it saw that should not be.
    """

    def __init__(self, folder: Path, truth: Mapping[str, Path]) -> None:
        self._folder = folder
        self._truth = {name: (p.stat().st_size, digest(p)) for name, p in truth.items()}
        self._known: dict[str, tuple[int, int, int]] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="onlooker")
        self.n_looks = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_GLANCE_S):
            self.look()

    def look(self) -> None:
        """Check once; a file that was complete and has not changed is not read again."""
        with self._lock:
            self.n_looks += 1
            for name in self._truth:
                self._look_at(name)

    def _look_at(self, name: str) -> None:
        file = self._folder / name
        size, sha = self._truth[name]
        try:
            about = file.stat()
            seen = (about.st_ino, about.st_size, about.st_mtime_ns)
            if self._known.get(name) == seen:
                return
            if about.st_size != size:
                self.wrong.append(f"{name} has {about.st_size} bytes of {size}")
            elif digest(file) != sha:
                self.wrong.append(f"{name} has the right size and the wrong bytes")
            self._known[name] = seen
        except FileNotFoundError:
            if self._known.pop(name, None):
                self.wrong.append(f"{name} was there and went away")
