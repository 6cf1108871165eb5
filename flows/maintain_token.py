"""Renew the token on a schedule, and send an event when that is no longer possible.

``python -m ctaflows.flows.maintain_token`` serves the flow on this machine every four minutes.
"""

from __future__ import annotations

from ctaflows import settings as _settings
from ctaflows.auth.tokens import TokenInfo  # noqa: TC001  its name is looked up at run time
from ctaflows.errors import CtaflowsError
from ctaflows.reporting.events import token_failing, token_recovered
from ctaflows.tasks import keep_token, share_token
from ctaflows.tracking.flow import flow


@flow(name="maintain-token", flow_run_name="maintain-token")
def maintain_token(profile: str | None = None, block: str | None = None) -> TokenInfo:
    """Renew the stored token if it expires within five minutes.

    Commands and tasks also renew a token that is about to expire. This flow renews it earlier, and
    its state and events show when someone must log in again.

    Parameters
    ----------
    profile : str, optional
        Profile with the settings to use.
    block : str, optional
        Prefect Secret block in which to store a copy of the access token, for workers that do not
        share the home directory. Every client of the Prefect API can read it.

    Returns
    -------
    TokenInfo
        Owner and lifetime of the token, without the token itself.

    Raises
    ------
    LoginNeeded
        The issuer does not renew the token: someone must log in again.
    """
    settings = _settings.load(profile)
    try:
        info = keep_token(profile=profile)
        if block:
            share_token(block, profile=profile)
    except CtaflowsError as why:
        token_failing(settings, why)
        raise
    token_recovered(settings)
    return info


if __name__ == "__main__":
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

    maintain_token.serve(
        name="here",
        interval=240,
        # after a pause Prefect starts all missed runs at once: one is enough
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        pause_on_shutdown=False,
    )
