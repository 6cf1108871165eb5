"""A login that a Prefect block holds, for workers that share no home.

The CTACredentials block has the refresh token; each home has a private file with the tokens in
use, and a digest of what the block had when that file was written. The digest tells, when the two
differ, which is newer. Whoever renews holds the home's lock and the only slot of a limit at the
Prefect server, so that of all homes one renews at a time.

What the issuer gives is written to the file first and then saved to the block. A token that could
not be saved is saved later by whoever uses this home next.
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
from ctaflows.block_profiles import CREDENTIALS, failure
from ctaflows.errors import AuthError, CtaflowsError, NetworkError, TokenMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from ctaflows.settings import Settings

log = logging.getLogger("ctaflows.auth")

#: The server takes a slot back from a process that died after this time, seconds.
_LEASE_S = 120.0
_GLANCE_S = 0.5
#: Pause after a save that failed, seconds.
_PAUSE_S = 10.0
#: In place of an access token where there was none yet; it has expired.
_NONE_YET = "none-yet"


@dataclass(frozen=True, slots=True)
class _Seen:
    """The block as it was read."""

    id: UUID
    refresh_token: str | None = field(repr=False)

    @property
    def digest(self) -> str:
        return _digest(self.refresh_token)


class BlockStore(Store):
    """The stored tokens of one CTACredentials block, as seen from this home.

    Parameters
    ----------
    settings : Settings
        ``credentials`` names the block, ``config_dir`` has the home's copy.
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
        """Give the tokens in use here, or what the block has if they are of no use any more.

        Raises
        ------
        TokenMissing
            Nobody has logged in with this block yet.
        NetworkError
            The Prefect server does not answer.
        """
        tokens = super().read()
        if tokens is not None and tokens.refused is None and self._seen is None:
            return tokens
        seen = self._seen or self._look()
        if tokens is not None and seen.digest == self._mark():
            return tokens  # the block is as it was: what is here is the same, or newer
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
        """Keep new tokens here, then save a refresh token that is new to the block.

        Only to be called by who holds the lock.

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
        """Put right what a kill or a fault left behind: the bare file, a block not yet saved."""
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
        """Forget the tokens, here and in the block."""
        super().remove()
        remove_private(self._lease_file)
        with self._client() as client:
            self._put(client, (self._seen or self._look()).id, None)

    @contextlib.contextmanager
    def lock(self, wait_s: float = 60.0) -> Iterator[None]:
        """Hold the login against all other processes of this home, and all other homes.

        Parameters
        ----------
        wait_s : float
            How long to wait for another one that holds it.

        Raises
        ------
        Busy
            It is held longer.
        NetworkError
            The Prefect server does not answer.
        """
        ends_at = time.monotonic() + wait_s
        with super().lock(wait_s), self._slot(ends_at):
            self._seen = self._look()
            try:
                yield
            finally:
                self._seen = None

    @property
    def _where(self) -> str:
        return f"block {CREDENTIALS}/{self.name}"

    # -- this home's file --------------------------------------------------------------------

    def _keep(self, tokens: TokenSet, mark: str, room: Room | None = None) -> None:
        # one file, since tokens and mark must never be of different times
        self._replace(json.dumps({**asdict(tokens), "block": mark}), room)
        self._write_bare(tokens)

    def _adopt(self, tokens: TokenSet, seen: _Seen) -> None:
        """Go on with the login that somebody else put into the block."""
        self._keep(self._of_block(tokens, seen), seen.digest)

    def _of_block(self, tokens: TokenSet, seen: _Seen) -> TokenSet:
        """Give tokens with the block's login, which is the block's issuer's."""
        return replace(
            tokens,
            refresh_token=seen.refresh_token,
            refused=None,
            issuer=self._issuer,
            client_id=self._client_id,
        )

    def _mark(self) -> str | None:
        """Give the digest of what the block had when this home's file was written."""
        try:
            mark = json.loads(self.file.read_text(encoding="utf-8")).get("block")
        except (OSError, ValueError, AttributeError):
            return None
        return mark if isinstance(mark, str) else None

    def _is_saved(self, tokens: TokenSet) -> bool:
        return self._mark() == _digest(tokens.refresh_token)

    # -- the block ---------------------------------------------------------------------------

    def _save(self, tokens: TokenSet, seen: _Seen) -> None:
        """Save a refresh token to the block; a failure is told, and the token stays here."""
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
        """Change the one field: another may change the others at the same time."""
        from prefect.client.schemas.actions import BlockDocumentUpdate

        client.update_block_document(
            block_id,
            BlockDocumentUpdate(data={"refresh_token": refresh_token}, merge_existing_data=True),
        )

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """Give a client of the Prefect server; its errors may repeat what was sent, ours do not."""
        from prefect.client.orchestration import get_client
        from prefect.exceptions import ObjectNotFound

        try:
            with get_client(sync_client=True) as client:
                yield client
        except CtaflowsError:
            raise
        except ObjectNotFound:
            raise UsageError(
                "There is no such block",
                where=self._where,
                hint="`prefect block ls` shows the blocks there are; see PREFECT_API_URL.",
            ) from None
        except Exception as why:  # noqa: BLE001  httpx's errors, RuntimeError, pydantic's
            raise NetworkError(
                "The block with the login can't be read or written",
                where=self._where,
                said=failure(why),
                hint="Is the Prefect server there? See PREFECT_API_URL, and `prefect block ls`.",
            ) from None

    # -- the one slot ------------------------------------------------------------------------

    @contextlib.contextmanager
    def _slot(self, ends_at: float) -> Iterator[None]:
        """Hold the only slot of the login's limit at the Prefect server."""
        limit = f"ctaflows-{CREDENTIALS}-{self.name}"
        with self._client() as client:
            # who died with it in this home can't need it: we hold the home's lock
            if left := read_private(self._lease_file):
                self._give_back(client, left)
            while (lease := _lease(client, limit)) is None:
                if time.monotonic() >= ends_at:
                    raise LockTimeout("Another worker is renewing the login", where=self._where)
                time.sleep(_GLANCE_S)
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
        with contextlib.suppress(Exception):  # it has ended, or will
            client.release_concurrency_slots_with_lease(lease)
        remove_private(self._lease_file)


def _lease(client: Any, limit: str) -> str | None:
    """Take the only slot of a limit, which is made if need be; None where another has it."""
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError

    while True:
        try:
            answer = client.increment_concurrency_slots_with_lease(
                names=[limit], slots=1, mode="concurrency", lease_duration=_LEASE_S
            ).json()
        except PrefectHTTPStatusError as why:
            if why.response.status_code == 423:  # Locked
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
    """Return where a login is kept: in a block, if the profile names one, else in a file."""
    return BlockStore(settings) if settings.credentials else Store(settings)


# -- the access token in a Secret block ------------------------------------------------------------
#
# An access token in a Prefect block, for workers that share no home. Never the refresh token.
#
# Who can read a block: every client of the Prefect API, in plain text (Prefect 3.9,
# ``include_secrets``). So it is done on request only, and the token lives for minutes.

#: A block is asked again when less than this is left of its token, seconds.
_MARGIN_S = 30.0
#: Or after this time where the token does not tell its end.
_TRUST_S = 60.0

_known: dict[str, tuple[FoundToken, float]] = {}
_lock = threading.Lock()


def write_token_block(name: str, access_token: str) -> None:
    """Keep an access token in a Secret block.

    Parameters
    ----------
    name : str
        Name of the block; one of that name is replaced.
    access_token : str
        The token.
    """
    from prefect.blocks.system import Secret
    from pydantic import SecretStr

    # not Secret[str]: that is another block type, which Secret.load does not find (Prefect 3.9.1)
    block: Secret[Any] = Secret(value=SecretStr(access_token))
    block.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]  # also within an event loop


def read_token_block(name: str) -> FoundToken:
    """Take the token out of a block; asked of the server only when the one known is short.

    Raises
    ------
    AuthError
        There is no such block, or no server.
    """
    with _lock:
        found, until = _known.get(name, (None, 0.0))
        if found is None or time.time() > until:
            found = _asked(name)
            end = claims(found.value).get("exp")
            until = end - _MARGIN_S if isinstance(end, int | float) else time.time() + _TRUST_S
            _known[name] = (found, until)
        return found


def forget_token_block(name: str) -> None:
    """Ask the server at the next time, whatever the token's end."""
    with _lock:
        _known.pop(name, None)


def _asked(name: str) -> FoundToken:
    from prefect.blocks.system import Secret

    try:
        secret: Any = Secret
        block: Any = secret.load(name, _sync=True)
        value = block.get()
    except Exception as why:  # noqa: BLE001  Prefect raises ValueError, httpx errors and more
        raise AuthError(
            "The token's block can't be read",
            where=f"Secret block {name}",
            said=str(why),
            hint="`maintain-token` with the parameter block makes it; see PREFECT_API_URL.",
        ) from None
    return FoundToken(str(value).strip(), f"block:{name}")
