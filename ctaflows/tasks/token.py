"""Tasks that keep the token alive."""

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
        Whose it is and how long it lives; never the token.

    Raises
    ------
    TokenMissing
        Nothing is stored for this profile.
    LoginNeeded
        The issuer will not renew it: a person must log in again.
    """
    return _provider(profile).refresh()


@task(name="keep-token", tags=["ctaflows"])
def keep_token(*, profile: str | None = None) -> TokenInfo:
    """Renew the stored token if half of its life is over, or less than five minutes are left.

    Parameters
    ----------
    profile : str, optional
        Settings to use.

    Returns
    -------
    TokenInfo
        Whose it is and how long it lives; never the token.

    Raises
    ------
    TokenMissing, LoginNeeded
        As for `refresh_token`.
    CtaflowsError
        The issuer could not be asked; the old token may still hold.
    """
    from ctaflows.auth.agent import FRACTION, MARGIN_S

    provider = _provider(profile)
    provider.ensure_valid(MARGIN_S, fraction=FRACTION, quiet=False)
    return provider.stored_info()


@task(name="share-token", tags=["ctaflows"])
def share_token(block: str, *, profile: str | None = None) -> None:
    """Keep a copy of the access token in a Prefect Secret block, never the refresh token.

    For workers that share no home; they set ``token_source`` to ``block:NAME``. Every client of the
    Prefect API can read the block.

    Parameters
    ----------
    block : str
        Name of the block; it is made, or replaced.
    profile : str, optional
        Settings to use.
    """
    from ctaflows.auth import prefect_blocks as _prefect_blocks

    _prefect_blocks.write_token_block(block, _provider(profile).token())


@task(name="get-token-info", tags=["ctaflows"])
def get_token_info(*, profile: str | None = None) -> TokenInfo:
    """Tell whose token would be used, where it was found and how long it lives.

    Parameters
    ----------
    profile : str, optional
        Settings to use.

    Raises
    ------
    TokenMissing
        None was found.
    """
    return _provider(profile).info()


def _provider(profile: str | None) -> TokenProvider:
    from ctaflows import settings
    from ctaflows.auth.renewal import TokenProvider

    return TokenProvider(settings.load(profile))
