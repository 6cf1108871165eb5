"""The console scripts `ctadata`, `cta-data` and `cta-data-direct`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ctaflows.cli import console, options, output

if TYPE_CHECKING:
    from ctaflows.ctadata.direct.api import APIClient
    from ctaflows.ctadata.direct.api import APIClient as DirectClient

_HELP = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Source:
    """Where a script gets its files from.

    Attributes
    ----------
    prefers : {"service", "storage", "storage only"}
        The platform's download service, or the storage itself.
    dev : bool
        Whether to use the storage's development instance.
    """

    prefers: Literal["service", "storage", "storage only"]
    dev: bool = False

    def client(self) -> Any:
        """Return the client for the download service or for the storage."""
        if self.dev or self.prefers == "storage only":
            return self.direct()
        from ctaflows.ctadata import service_selection

        if self.prefers == "service":
            return service_selection.client({})
        if service_selection.has_hub_token() and not service_selection.has_door_token():
            client = service_selection.platform_client({})
            click.echo(f"cta-data: asking the download service {client.downloadservice}", err=True)
            return client
        return self.direct()

    def direct(self) -> DirectClient:
        """Return the client for the storage."""
        from ctaflows.ctadata.direct.api import APIClient

        return APIClient(dev_instance=self.dev)


@click.group("ctadata", context_settings=_HELP)
@click.version_option(package_name="ctaflows")
@click.pass_context
def ctadata(ctx: click.Context) -> None:
    """Files of the CTAO-CH data centre, through the download service of its JupyterHub platform.

    The download service is used where JUPYTERHUB_API_TOKEN is set (CTADS_URL is its address), else
    the storage itself.
    """
    ctx.obj = Source("service")


@click.group("cta-data", context_settings=_HELP)
@click.option("-d", "--dev", is_flag=True, help="Use the development instance.")
@click.version_option(package_name="ctaflows")
@click.pass_context
def cta_data(ctx: click.Context, *, dev: bool) -> None:
    """Files of the CTAO-CH data centre, from its storage.

    Without a login to the storage, but with JUPYTERHUB_API_TOKEN, the platform's download service
    is used. `cta-data-direct` always uses the storage, `ctadata` prefers the service.
    """
    ctx.obj = Source("storage", dev)


# -- files -----------------------------------------------------------------------------------------


@click.command("list")
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="All below, too.")
@options.verbose
@click.pass_obj
def list_(source: Source, *, path: str, recursive: bool) -> None:
    """List contents of a directory."""
    for entry in source.client().list_dir(path, recursive):
        click.echo(output.one_line(str(entry)))


@click.command("get")
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="A directory with all that is below it.")
@options.verbose
@click.pass_obj
def get(source: Source, *, path: str, recursive: bool) -> None:
    """Download a file or directory."""
    from ctaflows.errors import PartialFailure

    with console.progress_shown():
        report = source.client().fetch(path, recursive=recursive)
    output.print_report(report)
    if report.failed:
        raise PartialFailure.of(report)


@click.command("put")
@click.argument("local_path", type=click.Path(exists=True))
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="A directory with all that is below it.")
@options.verbose
@click.pass_obj
def put(source: Source, *, local_path: str, path: str, recursive: bool) -> None:
    """Upload a file or directory, and print the answer for each file as JSON."""
    from ctaflows.errors import UsageError

    is_dir = Path(local_path).is_dir()
    if is_dir and not recursive:
        raise UsageError("That is a directory", where=local_path, hint="Upload it with -r.")
    client = source.client()
    with console.progress_shown():
        answers = (
            client.upload_dir(local_path, path)
            if is_dir
            else [client.upload_file(local_path, path)]
        )
    for answer in answers:
        click.echo(json.dumps(answer, ensure_ascii=False))


# -- certificates ----------------------------------------------------------------------------------


@click.command("upload-shared-certificate")
@click.argument("local_cert_path", type=click.Path(exists=True, dir_okay=False))
@options.verbose
def upload_shared_certificate(*, local_cert_path: str) -> None:
    """Replace the platform's shared certificate (administrators)."""
    from ctaflows.ctadata.api import APIClient

    click.echo(json.dumps(APIClient().upload_shared_certificate(local_cert_path)))


@click.command("upload-personal-certificate")
@click.argument("local_cert_path", type=click.Path(exists=True, dir_okay=False))
@click.argument("certificate_key")
@click.option("-u", "--user", help="Somebody else (administrators).")
@options.verbose
def upload_personal_certificate(
    *, local_cert_path: str, certificate_key: str, user: str | None
) -> None:
    """Delegate your proxy certificate to the platform."""
    from ctaflows.ctadata.api import APIClient

    answer = APIClient().upload_personal_certificate(local_cert_path, certificate_key, user)
    click.echo(json.dumps(answer))


# -- scripts ---------------------------------------------------------------------------------------

for _command in (list_, get, put, upload_shared_certificate, upload_personal_certificate):
    ctadata.add_command(_command)
    cta_data.add_command(_command)


def ctadata_main() -> None:
    """Run the console script `ctadata`."""
    from ctaflows.cli.app import run

    run(ctadata, "ctadata")


def cta_data_main() -> None:
    """Run the console script `cta-data`."""
    from ctaflows.cli.app import run

    for command in (start, stop, print_token):
        cta_data.add_command(command)
    run(cta_data, "cta-data")


# -- the agent's commands --------------------------------------------------------------------------
#
# The console script `cta-data-direct`, and the agent's commands of `cta-data`.


@click.command("start-agent")
@click.option(
    "-s", "--reset_secret", "--reset-secret", is_flag=True, help="Ask for the client's secret."
)
@options.verbose
@click.pass_obj
def start(source: Source, *, reset_secret: bool) -> None:
    """Start the token refresh agent; asks you to log in first if needed."""
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
    """Print the token, for other tools, and on stderr how long it is valid."""
    source.direct().print_token()


@click.group("cta-data-direct", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-d", "--dev", is_flag=True, help="Use the development instance.")
@click.version_option(package_name="ctaflows")
@click.pass_context
def cta_data_direct(ctx: click.Context, *, dev: bool) -> None:
    """Files of the CTAO-CH data centre, from its storage."""
    ctx.obj = Source("storage only", dev)


@cta_data_direct.command("start-agent")
@click.option("-s", "--secret", help="The client's secret, the first time; visible in `ps`.")
@options.verbose
@click.pass_obj
def start_direct(source: Source, *, secret: str | None) -> None:
    """Start the token refresh agent; asks you to log in first if needed."""
    client = source.direct()
    _keep(client, secret)
    _start(client)


@cta_data_direct.command("get-token")
@click.option("-s", "--secret", help="The client's secret, the first time; visible in `ps`.")
@options.verbose
@click.pass_obj
def get_token(source: Source, *, secret: str | None) -> None:
    """Log in if needed, so that there is a token; `cta-data print-token` prints it."""
    client = source.direct()
    _keep(client, secret)
    client.init_agent()
    assert client.token  # noqa: S101  raises where there is none
    click.echo("There is a token: see `ctaflows token status`.", err=True)


def main() -> None:
    """Run the console script `cta-data-direct`."""
    from ctaflows.cli.app import run

    for command in (list_, get, put, stop, print_token):
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
