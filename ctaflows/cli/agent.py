"""`ctaflows start-agent`, `stop-agent` and `agent status`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from ctaflows.cli import options, output


@click.group("agent")
def command() -> None:
    """Show whether the agent runs. It renews the token in the background, without Prefect.

    `ctaflows start-agent` and `ctaflows stop-agent` start and stop it. One agent for each profile
    is enough for all machines that share a home directory.
    """


@command.command("status")
@options.as_json
@options.profile
@options.verbose
def status(*, as_json: bool, profile: str | None) -> None:
    """Show whether the agent runs, and its log file. Exit code 0 if it keeps the token, else 1."""
    from ctaflows import settings
    from ctaflows.auth import agent

    found = agent.status(settings.load(profile))
    if as_json:
        output.print_json(found.to_dict())
    else:
        since = ""
        if found.started_at is not None:
            since = f" since {datetime.fromtimestamp(found.started_at, UTC):%Y-%m-%d %H:%M:%SZ}"
        where = f", process {found.pid} on {found.host}{since}" if found.running else ""
        click.echo(f"{found.state}{where}")
        if found.message:
            click.echo(found.message)
        click.echo(f"log: {found.log_file}")
    if found.state != "ok":
        raise click.exceptions.Exit(1)


@click.command("start-agent", epilog="Example: ctaflows start-agent")
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the client secret, for a first login.",
)
@options.profile
@options.verbose
def start(*, secret_file: Path | None, profile: str | None) -> None:
    """Start the agent, which renews the token in the background. Logs in first if needed."""
    from ctaflows import settings
    from ctaflows.auth import agent
    from ctaflows.auth.prefect_blocks import store_for
    from ctaflows.cli.token import log_in

    loaded = settings.load(profile)
    stored = store_for(loaded).read()
    if stored is None or stored.refresh_token is None or stored.refused is not None:
        log_in(loaded, secret_file)
    found = agent.start(loaded)
    click.echo(f"The agent runs: process {found.pid} on {found.host}. Log: {found.log_file}")


@click.command("stop-agent", epilog="Example: ctaflows stop-agent")
@options.profile
@options.verbose
def stop(*, profile: str | None) -> None:
    """Stop the agent of this profile."""
    from ctaflows import settings
    from ctaflows.auth import agent

    click.echo("Stopped." if agent.stop(settings.load(profile)) else "There was no agent.")
