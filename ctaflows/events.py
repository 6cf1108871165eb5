"""What Prefect is told of: events that an automation can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.auth.private import write_private
from ctaflows.dual import in_run
from ctaflows.errors import CtaflowsError, error_text

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.settings import Settings


def _marker(settings: Settings) -> Path:
    return settings.config_dir / "tokens" / f"{settings.profile}.failing"


def token_failing(settings: Settings, why: CtaflowsError) -> bool:
    """Say once that the token can't be kept: the first of several failures in a row.

    Parameters
    ----------
    settings : Settings
        Whose token.
    why : CtaflowsError
        The failure.

    Returns
    -------
    bool
        Was it the first?
    """
    marker = _marker(settings)
    if marker.exists():
        return False
    write_private(marker, error_text(why))
    _emit("ctaflows.token.failing", settings, reason=error_text(why), next_step=why.hint or "")
    return True


def token_recovered(settings: Settings) -> bool:
    """Say once that the token is kept again after failures."""
    try:
        _marker(settings).unlink()
    except FileNotFoundError:
        return False
    _emit("ctaflows.token.recovered", settings)
    return True


def _emit(event: str, settings: Settings, **payload: Any) -> None:
    """Tell Prefect; outside a run there is nobody to tell."""
    if not in_run():
        return
    from prefect.events import emit_event

    resource = {
        "prefect.resource.id": f"ctaflows.token.{settings.profile}",
        "prefect.resource.name": settings.profile,
        "issuer": settings.issuer_url,
    }
    emit_event(event=event, resource=resource, payload=payload)
