"""The files behind the door, with their checksums, localities and upload state."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.storage.checksum import Hasher, of_file

if TYPE_CHECKING:
    from ctaflows.model import Checksum
    from ctaflows.sandbox.messages import Body
    from ctaflows.sandbox.quirks import Quirks


class UploadFailed(Exception):
    """An upload was incomplete or had the wrong checksum; its temporary file was deleted."""


class Storage:
    """A folder as the namespace of a door.

    Symbolic links in it are those of the namespace; none leads out of the folder.

    Parameters
    ----------
    root : Path
        Folder that is the door's ``/``.
    incoming : Path
        Folder on the same file system, for incomplete uploads.
    quirks : Quirks
        Which of dCache's peculiarities to imitate.

    Attributes
    ----------
    denied : set of str
        Paths that may not be read.
    localities : dict
        Path to FileLocality, for files that are not ONLINE.
    uploading : set of str
        Paths of files whose upload is not complete.
    """

    def __init__(self, root: Path, incoming: Path, quirks: Quirks) -> None:
        self.root = root.resolve()
        self._incoming = incoming
        self._quirks = quirks
        self._lock = threading.RLock()
        self._checksums: dict[tuple[int, ...], dict[str, Checksum]] = {}
        self._generations: dict[int, int] = {}
        self.denied: set[str] = set()
        self.localities: dict[str, str] = {}
        self.uploading: set[str] = set()

    @staticmethod
    def normal(path: str) -> str:
        """Return a path with a leading slash and without a trailing one."""
        return "/" + path.strip("/")

    def file(self, path: str) -> Path | None:
        """Return the local path; None if it would be outside the root."""
        parts = [p for p in path.split("/") if p]
        if any(p in (".", "..") or "\0" in p for p in parts):
            return None
        file = self.root.joinpath(*parts)
        return file if self._real(file).is_relative_to(self.root) else None

    @staticmethod
    def _real(file: Path) -> Path:
        return Path(os.path.realpath(file))  # Path.resolve fails for a link to itself

    def resolved(self, path: str) -> str:
        """Return the normal path to which a path leads, when all links are followed."""
        file = self.file(path)
        return self.normal("" if file is None else str(self._real(file).relative_to(self.root)))

    def link(self, path: str, target: str) -> Path:
        """Make a symbolic link and return its local path; an absolute target begins at the root."""
        file = self._place(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(f"{self.root}{target}" if target.startswith("/") else target)
        return file

    def link_text(self, link: Path) -> str:
        """Return the target of a symbolic link, as it was given."""
        return str(link.readlink()).removeprefix(str(self.root))

    def is_denied(self, path: str) -> bool:
        """Return whether reading is denied for a path or a directory above it."""
        parts = Path(self.resolved(path))
        return any(str(p) in self.denied for p in (parts, *parts.parents))

    def locality(self, path: str) -> str:
        """Return the FileLocality of a file."""
        known = self.localities
        return known.get(self.resolved(path), "ONLINE") if known else "ONLINE"

    def is_uploading(self, path: str) -> bool:
        """Return whether the upload of a file is not complete."""
        return bool(self.uploading) and self.resolved(path) in self.uploading

    def _identity(self, file: Path, *, follow: bool = True) -> tuple[int, ...]:
        stat = file.stat(follow_symlinks=follow)
        # a file system reuses the inode numbers of deleted files; dCache never reuses a pnfsid
        generation = self._generations.get(stat.st_ino, 0)
        return stat.st_ino, generation, stat.st_size, stat.st_mtime_ns

    def etag(self, file: Path, *, follow: bool = True) -> str:
        """Return the quoted ETag, ``"<pnfsid>_<hash>"`` as by Milton's DefaultETagGenerator.

        It is that of a link's target, or of the link itself if `follow` is False.
        """
        inode, generation, *rest = self._identity(file, follow=follow)
        digest = hashlib.sha256(repr(rest).encode()).hexdigest()
        return f'"0000{generation:012X}{inode:020X}_{digest[:8]}"'

    def pnfsid(self, file: Path) -> str:
        """Return dCache's id of a file or directory, or of a link's target."""
        return self.etag(file).strip('"').partition("_")[0]

    def checksums(self, file: Path) -> tuple[Checksum, ...]:
        """Return the checksums stored for a file: adler32, and md5 if it was requested."""
        if self._quirks.no_checksums:
            return ()
        identity = self._identity(file)
        known = self._checksums.setdefault(identity, {})
        wanted = ("md5", "adler32") if self._quirks.has_md5 else ("adler32",)
        for algorithm in wanted:
            if algorithm not in known:
                known[algorithm] = of_file(file, algorithm)
        return tuple(known[a] for a in ("md5", "adler32") if a in known)

    def begin(self, path: str) -> None:
        """Create the namespace entry of a file that is about to be uploaded.

        dCache deletes an existing entry and creates the new one, without a size, before any content
        is sent (Transfer.java:736-763, dCache 12.1).
        """
        file = self._place(path)
        with self._lock:
            file.parent.mkdir(parents=True, exist_ok=True)
            if self._quirks.put_deletes_first:
                file.unlink(missing_ok=True)
                file.touch()
                self.uploading.add(self.resolved(path))

    def abandon(self, path: str) -> None:
        """Remove the namespace entry of a file whose upload failed.

        This follows the source (Transfer.java, dCache 12.1). After a redirect, dCache 11.2.5 was
        observed to leave the entry, with size and checksum of the part, and to respond to a GET
        with 500 "File is broken" (#6455).
        """
        with self._lock:
            if self.is_uploading(path):
                self.uploading.discard(self.resolved(path))
                self._place(path).unlink(missing_ok=True)

    def receive(self, path: str, body: Body, *, md5: str | None, keeps_md5: bool) -> Path:
        """Store an uploaded file.

        Parameters
        ----------
        path : str
            A path for which `begin` was called.
        body : Body
            The content.
        md5 : str or None
            Expected md5, hexadecimal.
        keeps_md5 : bool
            Whether to store the md5 beside the adler32.

        Returns
        -------
        Path
            Local path of the file.

        Raises
        ------
        UploadFailed
            The client disconnected early, or the md5 is another.
        """
        temporary = self._incoming / uuid.uuid4().hex
        hashers = [Hasher("adler32")] + ([Hasher("md5")] if md5 or keeps_md5 else [])
        try:
            with temporary.open("wb") as stream:
                for block in body.blocks():
                    stream.write(block)
                    for hasher in hashers:
                        hasher.update(block)
            sums = {h.algorithm: h.checksum() for h in hashers}
            if md5 and sums["md5"].value != md5:
                raise UploadFailed(f"Checksum mismatch (expected md5 {md5})")
        except EOFError as why:
            self._drop(path, temporary)
            raise UploadFailed(f"Client disconnected: {why}") from why
        except BaseException:
            self._drop(path, temporary)
            raise
        if not keeps_md5:
            sums.pop("md5", None)
        return self._finish(path, temporary, sums)

    def _finish(self, path: str, temporary: Path, sums: dict[str, Checksum]) -> Path:
        file = self._place(path)
        with self._lock:
            inode = temporary.stat().st_ino
            self._generations[inode] = self._generations.get(inode, 0) + 1
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(file)
            self.uploading.discard(self.resolved(path))
            self._checksums[self._identity(file)] = sums
        return file

    def set_mtime(self, file: Path, epoch_s: int) -> None:
        """Set the modification time, and keep the stored checksums."""
        known = self._checksums.pop(self._identity(file), None)
        os.utime(file, (epoch_s, epoch_s))
        if known is not None:
            self._checksums[self._identity(file)] = known

    def _drop(self, path: str, temporary: Path) -> None:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        self.abandon(path)

    def _place(self, path: str) -> Path:
        file = self.file(path)
        if file is None:
            raise ValueError(f"{path} leaves the storage")
        return file
