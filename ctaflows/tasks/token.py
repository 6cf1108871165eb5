"""Tasks that renew, share and describe the token."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ctaflows.tracking.task import task

if TYPE_CHECKING:
    from ctaflows.auth.renewal import TokenProvider
    from ctaflows.auth.tokens import TokenInfo

StrPath = str | os.PathLike[str]


@task(name="refresh-token", tags=["ctaflows"])
def refresh_token(*, profile: str | None = None) -> TokenInfo:
    """Renew the stored token now.

    Parameters
    ----------
    profile : str, optional
        Settings to use.

    Returns
    -------
    TokenInfo
        Its owner, scopes and remaining lifetime; never the token itself.

    Raises
    ------
    TokenMissing
        No token is stored for this profile.
    LoginNeeded
        The issuer does not accept the refresh token: log in again.
    """
    return _provider(profile).refresh()


@task(name="keep-token", tags=["ctaflows"])
def keep_token(*, profile: str | None = None) -> TokenInfo:
    """Renew the stored token if it expires within five minutes.

    A token whose lifetime is less than ten minutes is renewed once half of that is over.

    Parameters
    ----------
    profile : str, optional
        Settings to use.

    Returns
    -------
    TokenInfo
        Its owner, scopes and remaining lifetime; never the token itself.

    Raises
    ------
    TokenMissing, LoginNeeded
        As for `refresh_token`.
    CtaflowsError
        The issuer could not be reached; the old token may still be valid.
    """
    from ctaflows.auth.agent import FRACTION, MARGIN_S

    provider = _provider(profile)
    provider.ensure_valid(MARGIN_S, fraction=FRACTION, quiet=False)
    return provider.stored_info()


@task(name="share-token", tags=["ctaflows"])
def share_token(block: str, *, profile: str | None = None) -> None:
    """Store a copy of the access token, never of the refresh token, in a Prefect Secret block.

    For workers that do not share a home directory: set their ``token_source`` to ``block:NAME``.
    Every client of the Prefect API can read the block.

    Parameters
    ----------
    block : str
        Name of the block; an existing block of that name is overwritten.
    profile : str, optional
        Settings to use.

    Raises
    ------
    TokenMissing
        No token was found.
    """
    from ctaflows.auth import prefect_blocks as _prefect_blocks

    _prefect_blocks.write_token_block(block, _provider(profile).token())


@task(name="get-token-info", tags=["ctaflows"])
def get_token_info(*, profile: str | None = None) -> TokenInfo:
    """Return a description of the token that would be used: where it was found, owner, lifetime.

    Parameters
    ----------
    profile : str, optional
        Settings to use.

    Returns
    -------
    TokenInfo
        Its source, owner, scopes and remaining lifetime; never the token itself.

    Raises
    ------
    TokenMissing
        No token was found.
    """
    return _provider(profile).info()


def _provider(profile: str | None) -> TokenProvider:
    from ctaflows import settings
    from ctaflows.auth.renewal import TokenProvider

    return TokenProvider(settings.load(profile))
