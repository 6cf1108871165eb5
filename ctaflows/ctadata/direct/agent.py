"""A login by a person, where the agent needs one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ctaflows.auth import secret
from ctaflows.auth.oidc import GrantError
from ctaflows.auth.renewal import Keeper
from ctaflows.ctadata.errors import ClientSecretNotFound
from ctaflows.errors import printable

if TYPE_CHECKING:
    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.settings import Settings


def log_in_if_needed(settings: Settings) -> bool:
    """Log in with a browser anywhere, unless a login that can be renewed is stored.

    Returns
    -------
    bool
        Was it needed?

    Raises
    ------
    ClientSecretNotFound
        The issuer wants the client's secret, and nobody gave one.
    """
    keeper = Keeper(settings)
    stored = keeper.store.read()
    if stored is not None and stored.refresh_token is not None and stored.refused is None:
        return False
    try:
        keeper.log_in(_show)
    except GrantError as why:
        if "client" in why.code and secret.find(settings) is None:
            raise ClientSecretNotFound.of(
                why, hint="Give the client's secret: cta-data start-agent asks for it with -s."
            ) from why
        raise
    return True


def _show(login: DeviceLogin) -> None:
    address = printable(login.uri_complete or login.uri)
    lines = (
        "To log in, open this address in a browser on any device:",
        f"    {address}",
        f"and compare, or type, the code {printable(login.user_code)}",
    )
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201
