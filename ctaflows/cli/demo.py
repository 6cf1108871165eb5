"""`ctaflows demo`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import click

from ctaflows.cli import options

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox

_DATE = "20241114"


@click.command("demo")
@click.option("--dest", type=click.Path(file_okay=False),
              help="Local folder to fetch into [default: a new temporary one].")  # fmt: skip
@options.verbose
def command(*, dest: str | None) -> None:
    """Fetch a sample night from a sandbox, tracked by a temporary Prefect server.

    It needs no account and no configuration, and connects to this machine only. The files and their
    manifest are kept.
    """
    from ctaflows.cli.sandbox import fill
    from ctaflows.sandbox import Sandbox

    dest = dest or tempfile.mkdtemp(prefix="ctaflows-demo-")
    with (
        Sandbox() as box,
        tempfile.TemporaryDirectory(prefix="ctaflows-prefect-") as prefect_home,
    ):
        files = fill(box, _DATE)
        click.echo(f"A storage at {box.door_url} with a night of {len(files)} files.\n")
        words = ["run", "fetch-dl1", "--date", _DATE, "--dest", dest]
        code = _run(box, [*words, "--track"], prefect_home)
        if code == 0:
            click.echo("\nThe data files again: verified files are not fetched a second time.\n")
            code = _run(box, [*words, "--exclude", "datacheck"], prefect_home)
    if code == 0:
        click.echo(
            f"\nThe files are in {dest}, with a record of each in {dest}/{_DATE}/manifest.jsonl"
        )
    raise click.exceptions.Exit(code)


def _run(box: Sandbox, words: list[str], prefect_home: str) -> int:
    """Run `ctaflows` in a child process, with a temporary Prefect home; return its exit code."""
    from ctaflows.cli.sandbox import environment

    ours = environment(box)
    env = {k: v for k, v in ours.items() if not k.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": prefect_home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    click.echo(f"$ ctaflows {' '.join(words)}")
    sys.stdout.flush()
    done = subprocess.run([sys.executable, "-m", "ctaflows", *words], env=env, check=False)  # noqa: S603
    return done.returncode if done.returncode >= 0 else 128 - done.returncode
