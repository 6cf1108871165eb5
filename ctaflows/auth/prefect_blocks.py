"""Tokens in Prefect blocks, for workers that do not share a home directory.

A CTACredentials block holds a login's refresh token. Each home directory has a private file with
the tokens in use and a digest of the block's refresh token at the time the file was written: if the
block still has that digest, the file is the same or newer. A renewal holds the file's lock and the
only slot of a global concurrency limit of the Prefect server, so that one process renews at a time.

New tokens are written to the file first, then the refresh token is saved to the block. If that
fails, the next process that uses the login from this home directory saves it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import LockTimeout, Room, read_private, remove_private, write_private
from ctaflows.auth.store import Store, TokenSet
from ctaflows.auth.tokens import FoundToken, claims
from ctaflows.block_profiles import CREDENTIALS
from ctaflows.errors import AuthError, CtaflowsError, TokenMissing, UsageError
from ctaflows.prefect_client import prefect_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from ctaflows.settings import Settings

log = logging.getLogger("ctaflows.auth")

#: Lifetime of a slot's lease, seconds: after it the server frees the slot of a process that died
#: (prefect 3.9.1, server/api/concurrency_limits_v2.py).
_LEASE_S = 120.0
_POLL_S = 0.5
#: Pause after a save that failed, seconds.
_PAUSE_S = 10.0
#: Stands for an access token where there is only the block's refresh token yet; already expired.
_NONE_YET = "none-yet"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A CTACredentials block as it was read: its id and its refresh token."""

    id: UUID
    refresh_token: str | None = field(repr=False)

    @property
    def digest(self) -> str:
        return _digest(self.refresh_token)


class BlockStore(Store):
    """The stored tokens of one CTACredentials block, with a copy in this home directory.

    Parameters
    ----------
    settings : Settings
        ``credentials`` names the block; the copy is below ``config_dir``.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = str(settings.credentials)
        self._issuer, self._client_id = settings.issuer_url.rstrip("/"), settings.client_id
        # two servers may each have a block of this name
        server = hashlib.sha256(_server().encode()).hexdigest()[:8]
        super().__init__(settings.replace(profile=f"credentials-{self.name}-{server}"))
        self._lease_file = self.file.with_suffix(".lease")
        self._seen: _Seen | None = None
        self._save_not_before = 0.0

    def read(self) -> TokenSet | None:
        """Return the local tokens; with the block's refresh token where the block has a newer one.

        The block is read only where no local tokens are stored, where the issuer has refused the
        local refresh token, and under the lock.

        Raises
        ------
        TokenMissing
            The block has no refresh token: nobody has logged in with it yet.
        UsageError
            There is no such block.
        NetworkError
            The Prefect server does not answer.
        """
        tokens = super().read()
        if tokens is not None and tokens.refused is None and self._seen is None:
            return tokens
        seen = self._seen or self._look()
        if tokens is not None and seen.digest == self._mark():
            return tokens  # the block has not changed since: the local tokens are the same or newer
        if seen.refresh_token is None:
            raise TokenMissing(
                "Nobody has logged in with this block yet",
                where=self._where,
                hint=f"ctaflows token login --profile block:{CREDENTIALS}/{self.name}",
            )
        if tokens is None:
            return self._of_block(TokenSet(_NONE_YET, expires_in=0.0), seen)
        return self._of_block(tokens, seen)

    def write(self, tokens: TokenSet, room: Room | None = None) -> None:
        """Store new tokens locally, then save a refresh token that is new to the block.

        The caller must hold the lock. A failure to save to the block is logged, not raised: the
        tokens are stored locally, and `mend` tries again.

        Parameters
        ----------
        tokens, room
            As for `Store.write`.
        """
        seen = self._seen or self._look()
        self._remove_left()
        self._keep(tokens, seen.digest, room)
        if tokens.refused is None and _digest(tokens.refresh_token) != seen.digest:
            self._save(tokens, seen)

    def mend(self, tokens: TokenSet) -> None:
        """Write the bare token file, and save the refresh token to the block, if either is behind.

        A killed process or a server that was away may have left them so. After a failure the next
        10 s bring no new try.
        """
        super().mend(tokens)
        if self._is_saved(tokens) or time.monotonic() < self._save_not_before:
            return
        self._save_not_before = time.monotonic() + _PAUSE_S
        with contextlib.suppress(CtaflowsError), self.lock(wait_s=0):
            now = super().read()  # another process may have saved it since
            if now is not None and self._seen is not None:
                if self._seen.digest == self._mark():
                    self.write(now)
                else:
                    self._adopt(now, self._seen)

    def remove(self) -> None:
        """Remove the tokens, locally and from the block."""
        super().remove()
        remove_private(self._lease_file)
        with self._client() as client:
            self._put(client, (self._seen or self._look()).id, None)

    @contextlib.contextmanager
    def lock(self, wait_s: float = 60.0, *, required: bool = True) -> Iterator[None]:
        """Lock the login against all other processes, in this home directory and in others.

        Parameters
        ----------
        wait_s : float
            How long to wait for another holder, seconds.
        required : bool
            As for `Store.lock`.

        Raises
        ------
        LockTimeout
            Another process holds it longer than that.
        NetworkError
            The Prefect server does not answer.
        """
        ends_at = time.monotonic() + wait_s
        with super().lock(wait_s, required=required), self._slot(ends_at):
            self._seen = self._look()
            try:
                yield
            finally:
                self._seen = None

    @property
    def _where(self) -> str:
        return f"block {CREDENTIALS}/{self.name}"

    # -- the local file ----------------------------------------------------------------------

    def _keep(self, tokens: TokenSet, mark: str, room: Room | None = None) -> None:
        # in one file, since tokens and digest must never be of different times
        self._replace(json.dumps({**asdict(tokens), "block": mark}), room)
        self._write_bare(tokens)

    def _adopt(self, tokens: TokenSet, seen: _Seen) -> None:
        """Store the login that somebody else has put into the block since."""
        self._keep(self._of_block(tokens, seen), seen.digest)

    def _of_block(self, tokens: TokenSet, seen: _Seen) -> TokenSet:
        """Return tokens with the block's refresh token and its issuer and client."""
        return replace(
            tokens,
            refresh_token=seen.refresh_token,
            refused=None,
            issuer=self._issuer,
            client_id=self._client_id,
        )

    def _mark(self) -> str | None:
        """Return the digest of the block's refresh token when the local file was written."""
        try:
            mark = json.loads(self.file.read_text(encoding="utf-8")).get("block")
        except (OSError, ValueError, AttributeError):
            return None
        return mark if isinstance(mark, str) else None

    def _is_saved(self, tokens: TokenSet) -> bool:
        return self._mark() == _digest(tokens.refresh_token)

    # -- the block ---------------------------------------------------------------------------

    def _save(self, tokens: TokenSet, seen: _Seen) -> None:
        """Save a refresh token to the block, unless it was changed since; failures are logged."""
        try:
            now = self._look()
            if now.digest != seen.digest:
                log.warning("%s was changed meanwhile: its login stays", self._where)
                self._adopt(tokens, now)
                return
            with self._client() as client:
                self._put(client, now.id, tokens.refresh_token)
            self._keep(tokens, _digest(tokens.refresh_token))
        except CtaflowsError as why:
            self._save_not_before = time.monotonic() + _PAUSE_S
            log.warning("The renewed login is not saved yet, it is kept in %s: %s", self.file, why)

    def _look(self) -> _Seen:
        with self._client() as client:
            found = client.read_block_document_by_name(self.name, CREDENTIALS)
        value = found.data.get("refresh_token")
        return _Seen(found.id, str(value) if value else None)

    @staticmethod
    def _put(client: Any, block_id: UUID, refresh_token: str | None) -> None:
        """Write the one field; another process may change other fields at the same time."""
        from prefect.client.schemas.actions import BlockDocumentUpdate

        client.update_block_document(
            block_id,
            BlockDocumentUpdate(data={"refresh_token": refresh_token}, merge_existing_data=True),
        )

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """Yield a client of the Prefect server; its errors are translated.

        Those of Prefect may repeat what was sent, so also secrets.
        """
        from prefect.client.orchestration import get_client
        from prefect.exceptions import ObjectNotFound

        what = "The block with the login can't be read or written"
        with prefect_errors(what, where=self._where):
            try:
                with get_client(sync_client=True) as client:
                    yield client
            except ObjectNotFound:
                raise UsageError(
                    "There is no such block",
                    where=self._where,
                    hint="`prefect block ls` shows the blocks there are; see PREFECT_API_URL.",
                ) from None

    # -- the one slot ------------------------------------------------------------------------

    @contextlib.contextmanager
    def _slot(self, ends_at: float) -> Iterator[None]:
        """Hold the only slot of the login's global concurrency limit."""
        limit = f"ctaflows-{CREDENTIALS}-{self.name}"
        with self._client() as client:
            # the lease of a process of this home directory that died: we hold the file's lock
            if left := read_private(self._lease_file):
                self._give_back(client, left)
            while (lease := _lease(client, limit)) is None:
                if time.monotonic() >= ends_at:
                    raise LockTimeout("Another worker is renewing the login", where=self._where)
                time.sleep(_POLL_S)
            try:
                write_private(self._lease_file, lease)
            except CtaflowsError:
                self._give_back(client, lease)
                raise
        try:
            yield
        finally:
            with contextlib.suppress(CtaflowsError), self._client() as client:
                self._give_back(client, lease)

    def _give_back(self, client: Any, lease: str) -> None:
        with contextlib.suppress(Exception):  # the lease has ended, or will
            client.release_concurrency_slots_with_lease(lease)
        remove_private(self._lease_file)


def _lease(client: Any, limit: str) -> str | None:
    """Take the only slot of a limit, which is created if need be.

    Returns
    -------
    str or None
        The lease's id; None where another process has the slot (423 Locked, Prefect 3.9.1).
    """
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError

    while True:
        try:
            answer = client.increment_concurrency_slots_with_lease(
                names=[limit], slots=1, mode="concurrency", lease_duration=_LEASE_S
            ).json()
        except PrefectHTTPStatusError as why:
            if why.response.status_code == 423:  # no free slot (concurrency_limits_v2.py, as above)
                return None
            raise
        if answer["limits"]:
            return str(answer["lease_id"])
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_global_concurrency_limit(
                GlobalConcurrencyLimitCreate(name=limit, limit=1)
            )


def _server() -> str:
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())


def _digest(refresh_token: str | None) -> str:
    return hashlib.sha256((refresh_token or "").encode()).hexdigest()


def store_for(settings: Settings) -> Store:
    """Return the store of a profile's login: a block if the profile names one, else a file."""
    return BlockStore(settings) if settings.credentials else Store(settings)


# -- the access token in a Secret block ------------------------------------------------------------
#
# An access token, never the refresh token, for workers that do not share a home directory.
#
# Every client of the Prefect API can read a block in plain text (``include_secrets``, Prefect 3.9).
# So a token is put there on request only, and it expires within minutes.

#: A block is read again when less than this is left of its token, seconds.
_MARGIN_S = 30.0
#: Or after this time, seconds, where the token has no ``exp`` claim.
_TRUST_S = 60.0

_known: dict[str, tuple[FoundToken, float]] = {}
_lock = threading.Lock()


def write_token_block(name: str, access_token: str) -> None:
    """Store an access token in a Secret block.

    Parameters
    ----------
    name : str
        Name of the block; an existing block of that name is overwritten.
    access_token : str
        The token.
    """
    from prefect.blocks.system import Secret
    from pydantic import SecretStr

    # not Secret[str], which is another block type that Secret.load does not find (Prefect 3.9.1)
    block: Secret[Any] = Secret(value=SecretStr(access_token))
    save: Any = block.save
    with prefect_errors("The token can't be kept in a block", where=f"Secret block {name}"):
        save(name, overwrite=True, _sync=True)  # _sync: also within an event loop


def read_token_block(name: str) -> FoundToken:
    """Return the token in a Secret block.

    The server is asked again only when less than 30 s are left of the token that was read last, or
    after a minute where that has no ``exp`` claim.

    Raises
    ------
    AuthError
        There is no such block.
    NetworkError
        The Prefect server does not answer.
    """
    with _lock:
        found, until = _known.get(name, (None, 0.0))
        if found is None or time.time() > until:
            found = _read_secret(name)
            end = claims(found.value).get("exp")
            until = end - _MARGIN_S if isinstance(end, int | float) else time.time() + _TRUST_S
            _known[name] = (found, until)
        return found


def forget_token_block(name: str) -> None:
    """Forget the token that was read from a block: the next call reads the block again."""
    with _lock:
        _known.pop(name, None)


def _read_secret(name: str) -> FoundToken:
    from prefect.blocks.system import Secret

    what, where = "The token's block can't be read", f"Secret block {name}"
    with prefect_errors(what, where=where):
        try:
            secret: Any = Secret
            block: Any = secret.load(name, _sync=True)
            value = block.get()
        except ValueError as why:
            raise AuthError(
                what,
                where=where,
                said=str(why),
                hint="`maintain-token` with the parameter block makes it; see PREFECT_API_URL.",
            ) from None
    return FoundToken(str(value).strip(), f"block:{name}")
