"""`ctaflows token`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ctaflows.cli import options, render

if TYPE_CHECKING:
    from ctaflows.auth.token import TokenInfo


@click.group("token")
def command() -> None:
    """Show and renew the token with which the door is asked.

    A token is looked for in BEARER_TOKEN, in the file named in BEARER_TOKEN_FILE, in
    $XDG_RUNTIME_DIR/bt_u<uid>, in /tmp/bt_u<uid>, then in our own store.
    """


@command.command("status")
@options.as_json
@options.profile
@options.verbose
def status(*, as_json: bool, profile: str | None) -> None:
    """Tell whose token would be used, where it was found, and how long it lives."""
    from ctaflows.tasks import get_token_info

    _print(get_token_info(profile=profile), as_json=as_json)


@command.command("refresh")
@options.as_json
@options.profile
@options.verbose
def refresh(*, as_json: bool, profile: str | None) -> None:
    """Renew the stored token now."""
    from ctaflows.tasks import refresh_token

    _print(refresh_token(profile=profile), as_json=as_json)


def _print(info: TokenInfo, *, as_json: bool) -> None:
    record = info.to_dict()
    if as_json:
        render.print_json(record)
        return
    for key, value in record.items():
        shown = " ".join(value) if isinstance(value, list) else value
        click.echo(f"{key:>12}: {'-' if shown in (None, '') else shown}")
