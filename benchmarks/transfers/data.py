"""The files that are moved, and whether they arrived."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Files:
    """What a work moves or lists.

    Attributes
    ----------
    n : int
        How many files.
    size_bytes : int
        Of each.
    n_folders : int
        They are spread over so many; 0 for none.
    """

    n: int
    size_bytes: int
    n_folders: int = 0

    @property
    def total_bytes(self) -> int:
        """Of all files, each at least a page of the RAM disk."""
        return self.n * max(self.size_bytes, 4096)

    def names(self) -> list[str]:
        """Give the relative path of each file; no two have the same last part."""
        per_folder = -(-self.n // max(self.n_folders, 1))
        names = (f"dl1_LST-1.Run{1 + i // 1000:05}.{i % 1000:04}.h5" for i in range(self.n))
        if not self.n_folders:
            return list(names)
        return [f"night{i // per_folder:03}/{name}" for i, name in enumerate(names)]

    def within(self, room_bytes: int) -> Files:
        """Give files of the same number that need no more room."""
        if self.total_bytes <= room_bytes:
            return self
        size = max(room_bytes // self.n, 4096)
        return replace(self, size_bytes=size - size % (_BLOCK_BYTES if self.n == 1 else 4096))


def make(folder: Path, files: Files) -> None:
    """Write the files: of no pattern, each block another, readable and writable by servers."""
    noise = random.Random(files.n).randbytes(_BLOCK_BYTES)
    for i, name in enumerate(files.names()):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            for start in range(0, files.size_bytes, _BLOCK_BYTES):
                block = f"{i} {start} ".encode() + noise
                stream.write(block[: min(_BLOCK_BYTES, files.size_bytes - start)])
        file.chmod(0o666)
    for below in [folder, *(p for p in folder.iterdir() if p.is_dir())]:
        below.chmod(0o777)


def warm(folder: Path, n_bytes: int) -> None:
    """Write as many bytes, and let them go again.

    On a virtual machine memory that was free for a while may have gone back to its host: a gigabyte
    written to a RAM disk took 0.5 s of the system's time in memory that was just let go, and up to
    4.8 s in other (virtio-balloon with page reporting, Linux 6.18). Who comes first would pay it.
    """
    file, block = folder / "warm", bytes(_BLOCK_BYTES)
    with file.open("wb") as stream:
        for _ in range(-(-n_bytes // _BLOCK_BYTES)):
            stream.write(block)
    file.unlink()


def empty(folder: Path) -> None:
    """Make a folder that holds nothing and that all may write to."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def difference(source: Path, found: Path, names: list[str]) -> str | None:
    """Compare files byte for byte; give what is wrong, or None.

    Tools differ in whether the folder itself is made below the destination: both are right.
    """
    places = [found, *(p for p in found.glob("*") if p.is_dir())]
    place = next((p for p in places if (p / names[0]).exists()), None)
    if place is None:
        return f"{names[0]} did not arrive"
    for name in names:
        if not (place / name).exists():
            return f"{name} did not arrive"
        if not _same(source / name, place / name):
            return f"{name} differs"
    return None


def _same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(_BLOCK_BYTES):
            if block != b.read(_BLOCK_BYTES):
                return False
    return True


def missing_in(printed: Path, names: list[str]) -> str | None:
    """Look for every file's name in what was printed; give what is wrong, or None."""
    said = re.findall(r"dl1_LST-1\.Run\d{5}\.\d{4}\.h5", printed.read_text(errors="replace"))
    missing = {name.rpartition("/")[2] for name in names} - set(said)
    return f"{len(missing)} of {len(names)} names are missing" if missing else None
