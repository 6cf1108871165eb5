"""The files behind the door, with their checksums, localities and upload state."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ctaflows.model import Checksum
from ctaflows.storage.checksum import Hasher, of_file

if TYPE_CHECKING:
    from ctaflows.sandbox.faults import PoolState
    from ctaflows.sandbox.messages import Body
    from ctaflows.sandbox.quirks import Quirks

#: The texts with which a GET of a file fails whose upload is not complete, or has failed.
UPLOADING = "File upload not yet completed"  # Transfer.java:850-856, dCache 12.1
BROKEN = "File is broken"  # seen, dCache 11.2.5


class UploadFailed(Exception):
    """An upload was incomplete or had the wrong checksum.

    Attributes
    ----------
    status : int
        Status of the pool's response.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


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
    pool : PoolState
        What is wrong with the pool.

    Attributes
    ----------
    denied : set of str
        Paths that may not be read.
    localities : dict
        Path to FileLocality, for files that are not ONLINE.
    flaws : dict
        Path to `UPLOADING` or `BROKEN`, for files that can't be read.
    """

    def __init__(self, root: Path, incoming: Path, quirks: Quirks, pool: PoolState) -> None:
        self.root = root.resolve()
        self.pool = pool
        self._incoming = incoming
        self._quirks = quirks
        self._lock = threading.RLock()
        self._checksums: dict[tuple[int, ...], dict[str, Checksum]] = {}
        self._checksums_at: dict[tuple[int, ...], float] = {}
        self._generations: dict[int, int] = {}
        self.denied: set[str] = set()
        self.localities: dict[str, str] = {}
        self.flaws: dict[str, str] = {}

    # -- paths and links ---------------------------------------------------------------------

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
        return str("/" / self._real(file).relative_to(self.root)) if file else "/"

    def link(self, path: str, target: str) -> Path:
        """Make a symbolic link and return its local path; an absolute target begins at the root."""
        file = self._place(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(f"{self.root}{target}" if target.startswith("/") else target)
        return file

    def link_text(self, link: Path) -> str:
        """Return the target of a symbolic link, as it was given."""
        return str(link.readlink()).removeprefix(str(self.root))

    # -- what is known of a file -------------------------------------------------------------

    def is_denied(self, path: str) -> bool:
        """Return whether reading is denied for a path or a directory above it."""
        parts = Path(self.resolved(path))
        return any(str(p) in self.denied for p in (parts, *parts.parents))

    def locality(self, path: str) -> str:
        """Return the FileLocality of a file."""
        known = self.localities.get(self.resolved(path)) if self.localities else None
        if known is None and self.is_uploading(path):
            return "NONE"  # seen, dCache 11.2.5
        return known or ("UNAVAILABLE" if self.pool.state == "unavailable" else "ONLINE")

    def flaw(self, path: str) -> str | None:
        """Return `UPLOADING` or `BROKEN` if a file can't be read, else None."""
        return self.flaws.get(self.resolved(path)) if self.flaws else None

    def is_uploading(self, path: str) -> bool:
        """Return whether the upload of a file is not complete."""
        return self.flaw(path) == UPLOADING

    def _identity(self, file: Path, *, follow: bool = True) -> tuple[int, ...]:
        stat = file.stat(follow_symlinks=follow)
        # a file system reuses the inode numbers of deleted files; dCache never reuses a pnfsid
        generation = self._generations.get(stat.st_ino, 0)
        return stat.st_ino, generation, stat.st_size, stat.st_mtime_ns

    def etag(self, file: Path, *, follow: bool = True) -> str:
        """Return the quoted ETag, ``"<pnfsid>_<hash>"`` as by Milton's DefaultETagGenerator.

        It is that of a link's target, or of the link itself if `follow` is False. StoRM has the
        path in the place of the pnfsid.
        """
        _, _, *rest = self._identity(file, follow=follow)
        digest = hashlib.sha256(repr(rest).encode()).hexdigest()
        is_path = self._quirks.links_look_like_targets
        return f'"{quote(str(file)) if is_path else self.pnfsid(file, follow=follow)}_{digest[:8]}"'

    def pnfsid(self, file: Path, *, follow: bool = True) -> str:
        """Return dCache's id of a file or directory, or of a link's target."""
        inode, generation, *_ = self._identity(file, follow=follow)
        return f"0000{generation:012X}{inode:020X}"

    def checksums(self, file: Path) -> tuple[Checksum, ...]:
        """Return the checksums stored for a file: adler32, and md5 if it was requested."""
        if self._quirks.no_checksums:
            return ()
        identity = self._identity(file)
        if self.pool.clock.now() < self._checksums_at.get(identity, 0.0):
            return ()
        if identity not in self._checksums:
            wanted = ("adler32", "md5") if self._quirks.has_md5 else ("adler32",)
            self._checksums[identity] = {a: of_file(file, a) for a in wanted}
        return tuple(self._checksums[identity].values())

    # -- uploads -----------------------------------------------------------------------------

    def begin(self, path: str) -> str | None:
        """Create the namespace entry of a file that is about to be uploaded.

        dCache deletes an existing entry and creates the new one, without a size, before any content
        is sent (Transfer.java:736-763, dCache 12.1).

        Returns
        -------
        str or None
            The new entry's pnfsid; None if there is no entry yet.
        """
        file = self._place(path)
        with self._lock:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not self._quirks.put_deletes_first:
                return None
            file.unlink(missing_ok=True)
            file.touch()
            self._renew(file)
            self.flaws[self.resolved(path)] = UPLOADING
            return self.pnfsid(file)

    def abandon(self, path: str, entry: str | None) -> None:
        """Remove what `begin` made, as a door does when an upload fails on its way through it."""
        file = self._place(path)
        with self._lock:
            if entry is not None and file.exists() and self.pnfsid(file) == entry:
                file.unlink()
                self.forget(path)

    def forget(self, path: str) -> None:
        """Forget that a file can't be read, since it is gone."""
        self.flaws.pop(self.resolved(path), None)

    def rename(self, source: Path, destination: Path) -> None:
        """Rename a file or directory, with what is known of it."""
        before, after = (self.normal(str(p.relative_to(self.root))) for p in (source, destination))
        source.rename(destination)
        with self._lock:
            for path in [p for p in self.flaws if f"{p}/".startswith(f"{before}/")]:
                self.flaws[after + path.removeprefix(before)] = self.flaws.pop(path)

    def receive(
        self, path: str, body: Body, *, md5: str | None = None, keeps_md5: bool = False,
        entry: str | None = None, redirected: bool = False,
    ) -> Path:  # fmt: skip
        """Store an uploaded file.

        Of a redirected upload that fails the part stays under the file's name, with the size and
        checksum of the part; GET of it is 500 (seen, dCache 11.2.5; #6455; WriteHandleImpl.java).
        If the md5 is another, the one that the client stated is the file's only checksum.

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
        entry : str or None
            What `begin` returned.
        redirected : bool
            Whether the content comes to the pool, and not through the door.

        Returns
        -------
        Path
            Local path of the file.

        Raises
        ------
        UploadFailed
            The client disconnected early, the md5 is another, or the entry was deleted meanwhile.
        """
        if body.length is not None and body.length > self.pool.free_bytes:
            self.pool.hold()
        temporary = self._incoming / uuid.uuid4().hex
        hashers = [Hasher("adler32")] + ([Hasher("md5")] if md5 or keeps_md5 else [])
        sums: dict[str, Checksum] = {}
        is_whole = False
        try:
            with temporary.open("wb") as stream:
                for block in body.blocks():
                    stream.write(block)
                    for hasher in hashers:
                        hasher.update(block)
            sums = {h.algorithm: h.checksum() for h in hashers}
            if md5 and sums["md5"].value != md5:
                actual = ", ".join(f"{_NUMBERS[a]}:{c.value}" for a, c in sums.items())
                sums = {"md5": Checksum("md5", md5)}
                raise UploadFailed(f"Checksum mismatch (expected=[2:{md5}], actual=[{actual}])")
            if not keeps_md5:
                sums.pop("md5", None)
            is_whole = True
        except EOFError as why:
            raise UploadFailed(f"Client disconnected: {why}") from why
        finally:
            file = self._finish(path, temporary, sums, entry, is_whole or redirected, is_whole)
        if file is None:
            # seen, dCache 11.2.5, of two uploads to one name
            raise UploadFailed(f"No such file or directory: {entry}", 500)
        return file

    def _finish(
        self, path: str, temporary: Path, sums: dict[str, Checksum], entry: str | None,
        keeps: bool, is_whole: bool,
    ) -> Path | None:  # fmt: skip
        """Put what arrived in the entry's place; return None if the entry is no longer there."""
        file = self._place(path)
        with self._lock:
            is_there = file.exists() and self.pnfsid(file) == entry
            if (entry is not None and not is_there) or not keeps:
                temporary.unlink()
                return None
            if not is_whole and (entry is None or not temporary.stat().st_size):
                temporary.unlink()  # of no bytes nothing is registered (WriteHandleImpl.java, fail)
                return None
            self._renew(temporary)
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(file)
            self.forget(path)
            if not is_whole:
                self.flaws[self.resolved(path)] = BROKEN
            identity = self._identity(file)
            if sums:
                self._checksums[identity] = sums
            if self._quirks.late_checksums_s:
                late = self.pool.clock.now() + self._quirks.late_checksums_s
                self._checksums_at[identity] = late
        return file

    def _renew(self, file: Path) -> None:
        inode = file.stat().st_ino
        self._generations[inode] = self._generations.get(inode, 0) + 1

    def set_mtime(self, file: Path, epoch_s: int) -> None:
        """Set the modification time, and keep the stored checksums."""
        before = self._identity(file)
        os.utime(file, (epoch_s, epoch_s))
        stores: tuple[dict[tuple[int, ...], Any], ...] = (self._checksums, self._checksums_at)
        for known in stores:
            if before in known:
                known[self._identity(file)] = known.pop(before)

    def _place(self, path: str) -> Path:
        file = self.file(path)
        if file is None:
            raise ValueError(f"{path} leaves the storage")
        return file


_NUMBERS = {"adler32": 1, "md5": 2}  # ChecksumType.java
