"""`ctaflows sandbox`."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import options, output
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Quirks, Sandbox

EPILOG = """\b
Examples:
  ctaflows sandbox
  ctaflows sandbox --fault 503:2@*.h5 --fault reset --quirk redirect_reads=false
  ctaflows sandbox -- ctaflows get -r cta/DL1/20241114 /tmp/night
"""


@click.command("sandbox", epilog=EPILOG)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--night", "date", default="20241114", show_default=True, metavar="DATE",
              help="Date of the sample night.")  # fmt: skip
@click.option(
    "--events", type=click.IntRange(min=1), help="Events in each subrun, for larger files."
)
@click.option("--subruns", default="4,3", show_default=True, metavar="N,N",
              help="Subruns of each run; runs count from 11111 in steps of 2.")  # fmt: skip
@click.option("--fault", "faults", multiple=True, metavar="NAME[:TIMES][@GLOB]",
              help="Make requests fail; TIMES * is always; see --list-faults.")  # fmt: skip
@click.option("--dcache", type=click.Choice(["9.2", "10.2", "11.2", "12.1"]),
              help="Release of dCache to behave like.  [default: 11.2]")  # fmt: skip
@click.option("--door", "kind", type=click.Choice(["dcache", "storm"]), default="dcache",
              show_default=True, help="Kind of server to behave like.")  # fmt: skip
@click.option("--quirk", "quirks", multiple=True, metavar="NAME=VALUE",
              help="Behave differently from that; see --list-quirks.")  # fmt: skip
@click.option("--list-faults", is_flag=True, help="Print the faults and exit.")
@click.option("--list-quirks", is_flag=True, help="Print the quirks with their defaults and exit.")
@click.option("--dir", "folder", type=click.Path(file_okay=False),
              help="Folder for all files [default: a temporary one].")  # fmt: skip
@click.option("--token-lifetime", "lifetime_s", default=3600.0, show_default=True,
              metavar="SECONDS", help="Lifetime of an access token.")  # fmt: skip
@options.as_json
@options.verbose
def command(
    words: tuple[str, ...], *, date: str, events: int | None, subruns: str,
    faults: tuple[str, ...], dcache: str | None, kind: str, quirks: tuple[str, ...],
    list_faults: bool, list_quirks: bool, folder: str | None, lifetime_s: float, as_json: bool,
) -> None:  # fmt: skip
    """Start a storage like dCache and a token issuer on this machine, with a sample night.

    It runs until Ctrl-C; or, with COMMAND, until that ends. COMMAND finds the sandbox by
    CTAFLOWS_CONFIG_DIR, which is set for it.
    """
    from ctaflows.sandbox import Quirks, Sandbox
    from ctaflows.sandbox.faults import NAMES
    from ctaflows.sandbox.hub import Hub

    if list_faults:
        click.echo("\n".join(sorted(NAMES)))
        return
    if kind == "storm" and dcache:
        raise UsageError("A door of StoRM is no release of dCache", hint="Leave --dcache out.")
    usual = Quirks.storm() if kind == "storm" else Quirks.of(dcache or "11.2")
    if list_quirks:
        values = dataclasses.asdict(usual)
        click.echo("\n".join(f"{name}={str(v).lower()}" for name, v in values.items()))
        return
    with (
        Sandbox(
            folder, quirks=parse_quirks(quirks, usual), faults=faults, token_lifetime_s=lifetime_s
        ) as box,
        Hub(box) as hub,
    ):
        files = fill(box, date, subruns, events)
        if words:
            raise click.exceptions.Exit(_with_command(box, words))
        platform = hub.environment(hub.add_user("you@example.org"))
        _present(box, date, files, platform, as_json=as_json)
        _until_stopped()


def fill(box: Sandbox, date: str, subruns: str = "4,3", events: int | None = None) -> list[Path]:
    """Write a sample night into the storage of a sandbox, and return its files."""
    from ctaflows.dl1.names import parse_date
    from ctaflows.errors import UsageError
    from ctaflows.sandbox.night import make_night

    try:
        counts = tuple(int(n) for n in subruns.split(","))
    except ValueError:
        raise UsageError(
            f"“{subruns}” is not a list of numbers of subruns", hint="Write 4,3."
        ) from None
    runs = tuple(range(11111, 11111 + 2 * len(counts), 2))
    return make_night(box.storage, parse_date(date), runs=runs, subruns=counts, events=events)


def parse_quirks(texts: tuple[str, ...], usual: Quirks) -> Quirks:
    """Return the usual quirks with the values of texts ``NAME=VALUE``.

    Raises
    ------
    UsageError
        There is no quirk of a name, or a value has the wrong type.
    """
    from ctaflows.errors import UsageError

    known = dataclasses.asdict(usual)
    changes: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise UsageError(f"There is no quirk “{name}”", hint=f"Quirks: {', '.join(known)}.")
        try:
            changes[name] = _value(value, known[name])
        except ValueError:
            hint = f"By default it is {str(known[name]).lower()}."
            raise UsageError(f"The quirk {name} can't be “{value}”", hint=hint) from None
    return dataclasses.replace(usual, **changes)


def _value(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text.lower()) if text else True
    return type(default)(text)


def environment(box: Sandbox) -> dict[str, str]:
    """Return the environment variables for commands that are to use the sandbox."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("CTAFLOWS_", "BEARER_TOKEN"))}
    return {**ours, "CTAFLOWS_CONFIG_DIR": str(box.config_dir)}


def _with_command(box: Sandbox, words: tuple[str, ...]) -> int:
    import signal

    from ctaflows.atomic_files import local_errors

    # Ctrl-C reaches the command too; the sandbox ends when the command does
    signal.signal(signal.SIGINT, lambda *_: None)
    with local_errors(words[0], "The command can't be run", hint=None):
        return subprocess.run(words, env=environment(box), check=False).returncode  # noqa: S603


def _present(
    box: Sandbox, date: str, files: list[Path], platform: dict[str, str], *, as_json: bool
) -> None:
    size = sum(file.stat().st_size for file in files)
    if as_json:
        output.print_json(
            {
                "door_url": box.door_url,
                "pool_url": box.pool_url,
                "issuer_url": box.issuer_url,
                "ca_file": str(box.ca_file),
                "config_dir": str(box.config_dir),
                "storage": str(box.storage),
                "platform": platform,
                "n_files": len(files),
                "size_bytes": size,
            }
        )
    else:
        click.echo(f"door     {box.door_url}  (pool {box.pool_url})")
        click.echo(f"issuer   {box.issuer_url}")
        click.echo(f"storage  {box.storage}")
        click.echo(f"night    cta/DL1/{date}: {len(files)} files, {size:,} bytes")
        click.echo("\nIn another shell:")
        click.echo(f"  export CTAFLOWS_CONFIG_DIR={box.config_dir}")
        click.echo(f"  ctaflows ls -r cta/DL1/{date}")
        click.echo(f"  ctaflows run fetch-dl1 --date {date}")
        click.echo("\nAs in a session of the JupyterHub platform, for `ctadata`:")
        for name, value in platform.items():
            click.echo(f"  export {name}={value}")
        click.echo("\nCtrl-C ends it.")
    sys.stdout.flush()


def _until_stopped() -> None:
    import signal
    import threading

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
