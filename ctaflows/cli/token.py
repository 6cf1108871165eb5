"""`ctaflows token`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctaflows.cli import options, output

if TYPE_CHECKING:
    from ctaflows.auth.oidc import DeviceLogin
    from ctaflows.auth.renewal import TokenProvider
    from ctaflows.auth.tokens import TokenInfo
    from ctaflows.settings import Settings


@click.group("token", epilog="Example: ctaflows token login && ctaflows token status")
def command() -> None:
    """Log in; show, print, renew and remove the token for the storage.

    A token is looked for in BEARER_TOKEN, in the file that BEARER_TOKEN_FILE names, in
    $XDG_RUNTIME_DIR/bt_u<uid>, in /tmp/bt_u<uid>, in ctaflows' own store (where `login` puts it),
    in the files of ctadata, and in JUPYTERHUB_API_TOKEN.
    """


@command.command("login")
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the client secret [default: $CTAFLOWS_CLIENT_SECRET, a stored one, or asked].",
)
@options.profile
@options.verbose
def login(*, secret_file: Path | None, profile: str | None) -> None:
    """Log in with a browser on any device (RFC 8628), and store the token.

    From then on every command that uses the token renews it when needed, until the issuer ends the
    login.
    """
    from ctaflows import settings

    _print(log_in(settings.load(profile), secret_file), as_json=False)


@command.command("status")
@options.as_json
@options.profile
@options.verbose
def status(*, as_json: bool, profile: str | None) -> None:
    """Show the token that would be used: where it was found, its owner, when it expires."""
    from ctaflows.tasks import get_token_info

    _print(get_token_info(profile=profile), as_json=as_json)


@command.command("print")
@click.option("--file", "as_file", is_flag=True, help="Print the path of a file with the token.")
@options.profile
@options.verbose
def print_(*, as_file: bool, profile: str | None) -> None:
    """Print a valid token, for other tools.

    With --file, print the path of a private file with the stored token, for BEARER_TOKEN_FILE; the
    file is replaced whenever the token is renewed.
    """
    provider = _provider(profile)
    if as_file:
        provider.ensure_valid(60.0)
        click.echo(provider.store.bare_file)
    else:
        click.echo(provider.token())


@command.command("refresh")
@options.as_json
@options.profile
@options.verbose
def refresh(*, as_json: bool, profile: str | None) -> None:
    """Renew the stored token now."""
    from ctaflows.tasks import refresh_token

    _print(refresh_token(profile=profile), as_json=as_json)


@command.command("logout")
@options.profile
@options.verbose
def logout(*, profile: str | None) -> None:
    """Revoke the login at the issuer, stop the agent, and remove the stored token and secret."""
    from ctaflows import settings
    from ctaflows.auth import agent

    agent.stop(settings.load(profile))
    if _provider(profile).log_out():
        click.echo("Logged out on this machine and at the issuer.")
    else:
        click.echo(
            "Removed on this machine; the issuer could not be told, and ends the login by itself."
        )


def log_in(settings: Settings, secret_file: Path | None = None) -> TokenInfo:
    """Log in with the client secret of a file, the environment, the store, or a prompt."""
    from ctaflows.auth import secret
    from ctaflows.auth.renewal import TokenProvider

    given: str | None = None
    if secret_file is not None:
        given = secret.read_file(secret_file)
    elif secret.find(settings) is None and sys.stdin.isatty():
        question = f"Secret of the client {settings.client_id} (empty if it has none)"
        given = click.prompt(question, default="", show_default=False, hide_input=True, err=True)
    return TokenProvider(settings).log_in(_show, client_secret=given or None)


def _show(login: DeviceLogin) -> None:
    """Print on stderr the address to open and the code to type there."""
    from ctaflows.errors import printable

    address = printable(login.uri_complete or login.uri)
    click.echo("To log in, open this address in a browser on any device:\n", err=True)
    click.echo(f"    {address}\n", err=True)
    if login.uri_complete:
        click.echo("and compare the code; or open", err=True)
        click.echo(f"    {printable(login.uri)}", err=True)
    click.echo("and type the code\n", err=True)
    click.secho(f"    {printable(login.user_code)}\n", bold=True, err=True)
    if picture := _qr(address):
        click.echo(picture, err=True)
    minutes = max(1, round(login.expires_in_s / 60))
    click.echo(f"Waiting; the code is good for {minutes} min. Ctrl-C gives up.", err=True)


def _qr(text: str) -> str | None:
    """Return a QR code of a text, or None where stderr is not a terminal with room for it."""
    if not sys.stderr.isatty():
        return None
    import io

    import segno

    code = segno.make(text, error="l")
    out = io.StringIO()
    code.terminal(out, border=2, compact=True)
    width, height = os.get_terminal_size(sys.stderr.fileno())
    fits = code.symbol_size(border=2)[0] < width and out.getvalue().count("\n") + 12 < height
    return out.getvalue() if fits else None


def _provider(profile: str | None) -> TokenProvider:
    from ctaflows import settings
    from ctaflows.auth.renewal import TokenProvider

    return TokenProvider(settings.load(profile))


def _print(info: TokenInfo, *, as_json: bool) -> None:
    record = info.to_dict()
    if as_json:
        output.print_json(record)
        return
    for key, value in record.items():
        shown = " ".join(value) if isinstance(value, list) else value
        click.echo(f"{key:>12}: {'-' if shown in (None, '') else shown}")
