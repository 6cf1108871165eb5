"""`ctaflows verify`."""

from __future__ import annotations

from pathlib import Path

import click

from ctaflows.cli import console, options, output


@click.command("verify", epilog="Example: ctaflows verify 20241114")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@options.as_json
@options.verbose
def command(folder: Path, *, as_json: bool) -> None:
    """Check fetched files against the sizes and checksums in their manifest.

    Reads each manifest.jsonl in DIR and below, and checks every file that it lists. DIR may also be
    a manifest itself. The exit code is 7 if a file is damaged or missing. Damaged files are
    recorded in the manifest, so that the next fetch fetches them again.
    """
    from ctaflows.errors import IntegrityError
    from ctaflows.tasks import verify_dir

    verdicts = verify_dir(folder, progress=console.progress_bar())
    bad = [v for v in verdicts if not v.ok]
    if as_json:
        output.print_json([v.to_dict() for v in verdicts])
    else:
        for v in bad:
            click.echo(output.one_line(f"{v.verdict:<10} {v.local}  ({v.said})"))
    click.echo(f"{len(verdicts) - len(bad)} of {len(verdicts)} files intact", err=True)
    if bad:
        raise IntegrityError(
            f"{len(bad)} of {len(verdicts)} files do not agree with their manifest",
            where=str(folder),
            hint="The command that fetched them will fetch these again, and only these.",
        )
