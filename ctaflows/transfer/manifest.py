"""``manifest.jsonl``: the record of each file's transfer, a JSON line appended when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows.atomic_files import is_special, local_error, local_errors, open_ours, read_ours
from ctaflows.errors import CtaflowsError
from ctaflows.model import Transfer, json_line, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

NAME = "manifest.jsonl"
#: While the file is kept open, so many lines are written at once, or those of so many seconds.
_MOST_LINES, _WRITE_S = 64, 0.05
_quoted = json.encoder.encode_basestring
_BOOLEANS = {True: "true", False: "false"}
# the start of a line; one whose path is escaped in JSON does not match, and is parsed as a whole
_PATH = re.compile(rb'\{"path": "([^"\\]*)"')


class Manifest:
    """The manifest of one destination folder.

    Parameters
    ----------
    file : Path
        Its path; the file is created with the first line.
    of : iterable of str, optional
        The remote paths whose records are wanted; by default all. To skip a line takes a tenth of
        the time of reading it, which counts where each batch of a large night reads the manifest.

    Attributes
    ----------
    proofs : dict of str to Transfer
        The record of each remote path: the last line of that path.

    Raises
    ------
    CtaflowsError
        The file exists but can't be read, see `atomic_files.local_error`.
    """

    def __init__(self, file: Path, *, of: Iterable[str] | None = None) -> None:
        self.file = file
        self._folder = _prefix(file)
        self.proofs, self._is_cut = _read(file, of)
        self._lock = threading.Lock()
        self._keeps = False
        self._kept: int | None = None
        self._waiting: list[tuple[str, bytes]] = []  # with the remote path
        self._written_at = 0.0

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the file open from the first line to the block's end, and write many lines at once.

        Only one block at a time may do so. A kill loses the lines of the last files, which are then
        compared once more.
        """
        self._keeps = True
        try:
            yield
        finally:
            self.unwritten()
            with self._lock:
                self._keeps, kept, self._kept = False, self._kept, None
                if kept is not None:
                    os.close(kept)

    def unwritten(self) -> dict[str, CtaflowsError]:
        """Write the lines that wait, and return why not by the remote path of each that can't be.

        They wait no more.
        """
        with self._lock:
            try:
                if self._waiting:
                    self._write()
            except CtaflowsError as why:
                return dict.fromkeys((path for path, _ in self._waiting), why)
            finally:
                self._waiting.clear()
        return {}

    def record(self, done: Transfer) -> None:
        """Append the record of a file, unless the manifest has it already.

        A transfer is always recorded. A file that was skipped is recorded only if its last record
        differs in ``verified`` or ``error``, or, where it is not verified, in the checksum.
        """
        if self._is_news(done):
            self.append(done)

    def note(self, done: Transfer) -> None:
        """Take over into `proofs` what another process has written to the file."""
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
        """Append the record of a file."""
        line = line_of(transfer, self._relative(transfer.local))
        with self._lock:
            self._waiting.append((transfer.path, line))
            now = time.monotonic()
            is_due = len(self._waiting) >= _MOST_LINES or now - self._written_at >= _WRITE_S
            if is_due or not self._keeps:
                self._written_at = now
                self._write()
        self.proofs[transfer.path] = transfer

    def _relative(self, local: str) -> str:
        """Return a path relative to the manifest's folder, which may be moved with its files.

        A path outside that folder is returned absolute, since the reader takes relative ones to be
        below it.
        """
        if not self._folder or (self._folder != "/" and local.startswith(self._folder)):
            return local.removeprefix(self._folder)
        return os.path.join(os.getcwd(), local)  # noqa: PTH109, PTH118

    def _write(self) -> None:
        """Write the lines that wait; what can't be written goes on waiting."""
        lines = b"".join(line for _, line in self._waiting)
        rest = b"\n" + lines if self._is_cut else lines
        with local_errors(self.file, "The manifest can't be written"):
            descriptor = self._opened() if self._kept is None else self._kept
            try:
                while rest:
                    n_bytes = os.write(descriptor, rest)
                    rest = rest[n_bytes:]
                    self._is_cut = bool(rest)
                self._waiting.clear()
            finally:
                if self._keeps:
                    self._kept = descriptor
                else:
                    os.close(descriptor)
                    self._waiting.clear()  # who is told that it was not written, has no line

    def _opened(self) -> int:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # O_APPEND and one write a line: lines of several processes don't mix
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        if self.file.name != NAME:  # chosen by the user: may be a link or a device
            return os.open(self.file, flags | os.O_CLOEXEC, 0o666)
        return open_ours(self.file, flags, may_be_linked=True)


def line_of(done: Transfer, local: str) -> bytes:
    """Return the line of a record.

    It is what `json_line` makes of `Transfer.to_dict`, in a third of the time, which counts for
    thousands of small files.

    Parameters
    ----------
    done : Transfer
        The record.
    local : str
        Its local path as it is to stand there.
    """
    checksum = "null" if done.checksum is None else f'"{done.checksum}"'
    mtime = "null" if done.mtime is None else f'"{utc_text(done.mtime)}"'
    size = "null" if done.size_bytes is None else done.size_bytes
    server, note, error = [
        "null" if text is None else _quoted(text) for text in (done.server, done.note, done.error)
    ]
    text = (
        f'{{"path": {_quoted(done.path)}, "local": {_quoted(local)}, "size_bytes": {size}, '
        f'"moved_bytes": {done.moved_bytes}, "seconds": {round(done.seconds, 3)}, '
        f'"checksum": {checksum}, "verified": {_BOOLEANS[done.verified]}, '
        f'"skipped": {_BOOLEANS[done.skipped]}, "retries": {done.retries}, '
        f'"resumed_bytes": {done.resumed_bytes}, "mtime": {mtime}, "server": {server}, '
        f'"note": {note}, "error": {error}}}\n'
    )
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json_line({**done.to_dict(), "local": local})


def kept_open(manifest: Manifest | None) -> contextlib.AbstractContextManager[None]:
    """Keep a manifest's file open in the block, if there is a manifest."""
    return manifest.kept_open() if manifest else contextlib.nullcontext()


def _content(file: Path) -> bytes:
    """Return the content of a manifest that the user has chosen; empty for a device or pipe."""
    return b"" if is_special(file) else file.read_bytes()


def _prefix(file: Path) -> str:
    """Return the prefix of the paths below a manifest's folder."""
    folder = os.fspath(file.parent)
    return "" if folder == "." else os.path.join(folder, "")  # noqa: PTH118


def _read(file: Path, of: Iterable[str] | None = None) -> tuple[dict[str, Transfer], bool]:
    """Return the records by path, and whether the last line is incomplete, as after a kill.

    Lines that are no records are skipped.
    """
    found: dict[str, Transfer] = {}
    try:
        content = read_ours(file) if file.name == NAME else _content(file)
    except FileNotFoundError:
        return found, False
    except OSError as why:
        raise local_error(why, file) from why  # nor could it be written
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
