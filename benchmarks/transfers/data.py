"""The transferred files, and the verification of what arrived."""

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
    """The files of a workload.

    Attributes
    ----------
    n : int
        Number of files.
    size_bytes : int
        Size of each.
    n_folders : int
        Number of folders over which they are spread; 0 for none.
    """

    n: int
    size_bytes: int
    n_folders: int = 0

    @property
    def total_bytes(self) -> int:
        """Total size, with at least a page of the RAM disk for each file."""
        return self.n * max(self.size_bytes, 4096)

    def names(self) -> list[str]:
        """Return the relative path of each file; no two have the same last part."""
        per_folder = -(-self.n // max(self.n_folders, 1))
        names = (f"dl1_LST-1.Run{1 + i // 1000:05}.{i % 1000:04}.h5" for i in range(self.n))
        if not self.n_folders:
            return list(names)
        return [f"night{i // per_folder:03}/{name}" for i, name in enumerate(names)]

    def within(self, room_bytes: int) -> Files:
        """Return the same number of files, smaller if need be to fit into `room_bytes`."""
        if self.total_bytes <= room_bytes:
            return self
        size = max(room_bytes // self.n, 4096)
        return replace(self, size_bytes=size - size % (_BLOCK_BYTES if self.n == 1 else 4096))


def make(folder: Path, files: Files) -> None:
    """Write files of random blocks, all different, that servers can read and write."""
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
    """Write so many bytes and delete them, so that the memory they need is present.

    A virtual machine may have returned free memory to its host, and the first process to touch it
    again pays for the page faults: writing a gigabyte to a RAM disk took 0.5 s of system time in
    recently freed memory, and up to 4.8 s otherwise (virtio-balloon with page reporting,
    Linux 6.18).
    """
    file, block = folder / "warm", bytes(_BLOCK_BYTES)
    with file.open("wb") as stream:
        for _ in range(-(-n_bytes // _BLOCK_BYTES)):
            stream.write(block)
    file.unlink()


def empty(folder: Path) -> None:
    """Create an empty folder that all may write to, in place of an old one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def difference(source: Path, found: Path, names: list[str]) -> str | None:
    """Compare files byte for byte; return what is wrong, or None.

    Tools differ in whether they create the folder itself below the destination: both are accepted.
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
    """Look for every file's name in the output; return what is wrong, or None."""
    said = re.findall(r"dl1_LST-1\.Run\d{5}\.\d{4}\.h5", printed.read_text(errors="replace"))
    missing = {name.rpartition("/")[2] for name in names} - set(said)
    return f"{len(missing)} of {len(names)} names are missing" if missing else None
