"""Keep the token warm on a schedule, and raise the alarm when it can't be kept.

``python -m ctaflows.flows.maintain_token`` serves it on this machine every four minutes.
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
    """Renew the stored token when half of its life is over.

    Who uses the token renews it too when it is short; this flow keeps it warm, and its state and
    events tell when a person must log in again.

    Parameters
    ----------
    profile : str, optional
        Settings to use.
    block : str, optional
        Prefect Secret block to keep a copy of the access token in, for workers that share no home.
        Every client of the Prefect API can read it.

    Returns
    -------
    TokenInfo
        Whose token it is and how long it lives; never the token.

    Raises
    ------
    LoginNeeded
        The issuer will not renew it: a person must log in again.
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
        # missed runs come all at once after a pause: one is enough
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        pause_on_shutdown=False,
    )
