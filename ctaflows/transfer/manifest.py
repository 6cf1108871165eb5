"""manifest.jsonl: the proof of each file, one JSON line a file, appended as files finish."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows.atomic_files import is_special, open_ours, read_ours
from ctaflows.model import Transfer
from ctaflows.transfer.part_file import local_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

NAME = "manifest.jsonl"
_encode = json.JSONEncoder(ensure_ascii=False).encode
# a line begins so; one whose path needs escapes is read to its end
_PATH = re.compile(rb'\{"path": "([^"\\]*)"')


class Manifest:
    """The manifest of one destination folder.

    Parameters
    ----------
    file : Path
        Where it lies; made with the first line.
    of : iterable of str, optional
        Remote paths of which alone the proofs are wanted: to pass over the others takes a tenth of
        the time, and each batch of a large night would read them all.

    Attributes
    ----------
    proofs : dict of str to Transfer
        Remote path to what the manifest says of it. The last line of a path counts.
    """

    def __init__(self, file: Path, *, of: Iterable[str] | None = None) -> None:
        self.file = file
        self._folder = _prefix(file)
        self.proofs, self._is_cut = _read(file, of)
        self._lock = threading.Lock()
        self._keeps = False
        self._kept: int | None = None

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the file open from the first line on: thousands of them cost a third less.

        It belongs to one caller at a time, as its lines do.
        """
        self._keeps = True
        try:
            yield
        finally:
            with self._lock:
                self._keeps, kept, self._kept = False, self._kept, None
            if kept is not None:
                os.close(kept)

    def record(self, done: Transfer) -> None:
        """Append the line of a file that has finished, if it says anything new.

        A file that was left as it is has nothing new to say where its last line says the same: that
        it is verified, or is not; that it failed, or did not; and its checksum, where nothing has
        verified it.
        """
        if self._is_news(done):
            self.append(done)

    def note(self, done: Transfer) -> None:
        """Take in what another process has recorded."""
        if self._is_news(done):
            self.proofs[done.path] = done

    def _is_news(self, done: Transfer) -> bool:
        known = self.proofs.get(done.path)
        if known is None or not done.skipped:
            return True
        if known.verified != done.verified or known.error != done.error:
            return True
        return not known.verified and done.checksum not in (None, known.checksum)

    def append(self, transfer: Transfer) -> None:
        """Append the line of a file that has finished."""
        values = transfer.to_dict()
        values["local"] = self._relative(transfer.local)
        line = _encode(values) + "\n"
        with self._lock:
            self._append(line.encode("utf-8", "surrogateescape"))
        self.proofs[transfer.path] = transfer

    def _relative(self, local: str) -> str:
        """Write a path below the manifest's folder relative to it: folders are moved about.

        Any other is written whole, since it is read as seen from there.
        """
        if not self._folder or (self._folder != "/" and local.startswith(self._folder)):
            return local.removeprefix(self._folder)
        return os.path.join(os.getcwd(), local)  # noqa: PTH109, PTH118

    def _append(self, line: bytes) -> None:
        rest = b"\n" + line if self._is_cut else line
        try:
            descriptor = self._opened() if self._kept is None else self._kept
            try:
                while rest:
                    n_bytes = os.write(descriptor, rest)
                    rest = rest[n_bytes:]
                    self._is_cut = bool(rest)
            finally:
                if self._keeps:
                    self._kept = descriptor
                else:
                    os.close(descriptor)
        except OSError as why:
            raise local_error(why, self.file) from why

    def _opened(self) -> int:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # one write to a file opened for appending: lines of several threads don't mix
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        if self.file.name != NAME:  # a person has chosen it, perhaps a link or a device
            return os.open(self.file, flags | os.O_CLOEXEC, 0o666)
        return open_ours(self.file, flags, may_be_linked=True)


def _content(file: Path) -> bytes:
    """Read a file that a person has chosen; what is no file tells nothing."""
    return b"" if is_special(file) else file.read_bytes()


def _prefix(file: Path) -> str:
    """Give what the paths below a manifest's folder begin with."""
    folder = os.fspath(file.parent)
    return "" if folder == "." else os.path.join(folder, "")  # noqa: PTH118


def _read(file: Path, of: Iterable[str] | None = None) -> tuple[dict[str, Transfer], bool]:
    """Read what is there, and tell whether the last line was cut short, as by a kill.

    What is no proof is passed over.
    """
    found: dict[str, Transfer] = {}
    try:
        content = read_ours(file) if file.name == NAME else _content(file)
    except FileNotFoundError:
        return found, False
    except OSError as why:
        raise local_error(why, file) from why
    folder = _prefix(file)
    wanted = None if of is None else {path.encode("utf-8", "surrogateescape") for path in of}
    for line in content.split(b"\n"):
        if wanted is not None and (path := _PATH.match(line)) and path[1] not in wanted:
            continue
        try:
            transfer = Transfer.from_dict(json.loads(line.decode("utf-8", "surrogateescape")))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            continue
        if isinstance(transfer.path, str) and isinstance(transfer.local, str):
            found[transfer.path] = (
                replace(transfer, local=folder + transfer.local)
                if (transfer.local and not transfer.local.startswith("/"))
                else transfer
            )
    return found, bool(content) and not content.endswith(b"\n")
