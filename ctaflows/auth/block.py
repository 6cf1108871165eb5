"""An access token in a Prefect block, for workers that share no home. Never the refresh token.

Who can read a block: every client of the Prefect API, in plain text (Prefect 3.9,
``include_secrets``). So it is done on request only, and the token lives for minutes.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from ctaflows.auth.tokens import FoundToken, claims
from ctaflows.errors import AuthError

#: A block is asked again when less than this is left of its token, seconds.
_MARGIN_S = 30.0
#: Or after this time where the token does not tell its end.
_TRUST_S = 60.0

_known: dict[str, tuple[FoundToken, float]] = {}
_lock = threading.Lock()


def put(name: str, access_token: str) -> None:
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


def get(name: str) -> FoundToken:
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


def forget(name: str) -> None:
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
