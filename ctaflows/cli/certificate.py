"""`ctaflows certificate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ctaflows.cli import options, output


@click.group("certificate", epilog="Example: ctaflows certificate upload /tmp/x509up_u1000")
def command() -> None:
    """Delegate a proxy certificate to the JupyterHub platform, whose services read data with it."""


@command.command("upload", epilog="Example: ctaflows certificate upload --personal cta proxy.pem")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--personal", "key", metavar="KEY", help="For one purpose only: cta, lst or arc.")
@click.option("--shared", is_flag=True, help="For all users without one (administrators).")
@click.option("--user", metavar="NAME", help="With --personal: for another user (administrators).")
@options.as_json
@options.verbose
def upload(*, file: Path, key: str | None, shared: bool, user: str | None, as_json: bool) -> None:
    """Delegate a certificate or proxy chain, for all purposes unless one is named.

    The file is checked first: it is not sent if it has expired, can't be parsed, or holds a private
    key of another certificate. JUPYTERHUB_API_TOKEN authenticates you; CTACS_URL is the address of
    the service.
    """
    from ctaflows.ctadata.api import APIClient
    from ctaflows.errors import UsageError

    if (shared and (key or user)) or (user and not key):
        raise UsageError("These options exclude each other", hint="See --help.")
    client = APIClient()
    answer: dict[str, Any]
    if shared:
        answer = client.upload_shared_certificate(file)
    elif key:
        answer = client.upload_personal_certificate(file, key, user)
    else:
        answer = client.upload_certificate(file)
    if as_json:
        output.print_json(answer)
        return
    until = f", good until {answer['validity']}" if "validity" in answer else ""
    click.echo(f"{answer.get('message', 'Stored')}{until}")
