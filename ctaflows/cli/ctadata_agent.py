"""The console script `cta-data-direct`, and the agent's commands of `cta-data`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ctaflows.cli import ctadata, options

if TYPE_CHECKING:
    from ctaflows.cli.ctadata import Source
    from ctaflows.ctadata.direct.api import APIClient


@click.command("start-agent")
@click.option(
    "-s", "--reset_secret", "--reset-secret", is_flag=True, help="Ask for the client's secret."
)
@options.verbose
@click.pass_obj
def start(source: Source, *, reset_secret: bool) -> None:
    """Start the token refresh agent; asks you to log in first if need be."""
    client = source.direct()
    if reset_secret or (not _has_secret(client) and sys.stdin.isatty()):
        client.secret = _asked_secret(client)
    _start(client)


@click.command("stop-agent")
@options.verbose
@click.pass_obj
def stop(source: Source) -> None:
    """Stop the token refresh agent."""
    click.echo("Stopped." if source.direct().request_stop_agent() else "There was no agent.")


@click.command("print-token")
@options.verbose
@click.pass_obj
def print_token(source: Source) -> None:
    """Print the token, for other tools, and on stderr how long it is good."""
    source.direct().print_token()


@click.group("cta-data-direct", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-d", "--dev", is_flag=True, help="Use the development instance.")
@click.version_option(package_name="ctaflows")
@click.pass_context
def cta_data_direct(ctx: click.Context, *, dev: bool) -> None:
    """Files of the CTAO-CH data centre, from its storage."""
    ctx.obj = ctadata.Source("storage only", dev)


@cta_data_direct.command("start-agent")
@click.option("-s", "--secret", help="The client's secret, the first time; visible in `ps`.")
@options.verbose
@click.pass_obj
def start_direct(source: Source, *, secret: str | None) -> None:
    """Start the token refresh agent; asks you to log in first if need be."""
    client = source.direct()
    _keep(client, secret)
    _start(client)


@cta_data_direct.command("get-token")
@click.option("-s", "--secret", help="The client's secret, the first time; visible in `ps`.")
@options.verbose
@click.pass_obj
def get_token(source: Source, *, secret: str | None) -> None:
    """Log in if need be, so that there is a token; `cta-data print-token` prints it."""
    client = source.direct()
    _keep(client, secret)
    client.init_agent()
    assert client.token  # noqa: S101  raises where there is none
    click.echo("There is a token: see `ctaflows token status`.", err=True)


def main() -> None:
    """Be `cta-data-direct`."""
    from ctaflows.cli.app import run

    for command in (ctadata.list_, ctadata.get, ctadata.put, stop, print_token):
        cta_data_direct.add_command(command)
    run(cta_data_direct, "cta-data-direct")


def _start(client: APIClient) -> None:
    client.start_agent_daemon()
    click.echo("The agent runs; `ctaflows agent status` tells how it is.")


def _keep(client: APIClient, secret: str | None) -> None:
    if secret is not None:
        client.secret = secret
        click.echo(
            "The secret is kept, -s is not needed again. What stands on a command line can be seen "
            "by others on this machine.",
            err=True,
        )


def _has_secret(client: APIClient) -> bool:
    from ctaflows.ctadata.errors import ClientSecretNotFound

    try:
        return bool(client.secret)
    except ClientSecretNotFound:
        return False


def _asked_secret(client: APIClient) -> str:
    from ctaflows.errors import UsageError

    question = f"Enter client secret of {client.settings.client_id}"
    if sys.stdin.isatty():
        secret: str = click.prompt(question, hide_input=True, err=True)
    else:
        click.echo(question, err=True)
        secret = sys.stdin.readline().strip()
    if not secret:
        raise UsageError("No secret was given")
    return secret
