"""`ctaflows du`."""

from __future__ import annotations

import click

from ctaflows.cli import options, output


@click.command("du", epilog="Example: ctaflows du --depth 1 cta/DL1/20241114")
@click.argument("path")
@click.option("-s", "--summarize", is_flag=True, help="Show only the total, as --depth 0.")
@click.option(
    "--depth", type=click.IntRange(min=0), help="Show only so many levels of directories."
)
@options.follow
@options.as_json
@options.profile
@options.verbose
def command(
    path: str,
    *,
    summarize: bool,
    depth: int | None,
    follow: bool,
    as_json: bool,
    profile: str | None,
) -> None:
    """Show the number and total size of the files below each directory.

    Each directory comes after its sub-directories, PATH itself last. A symbolic link to a file
    counts as that file, one to a directory only with --follow.
    """
    from ctaflows.cli.listing import Unseen
    from ctaflows.tasks import disk_usage
    from ctaflows.text import human_bytes

    unseen = Unseen(path, profile)
    usages = disk_usage(
        path,
        depth=0 if summarize else depth,
        follow=follow,
        on_empty=unseen.add_empty,
        on_link=unseen.add_link,
        on_undescribed=unseen.add_undescribed,
        profile=profile,
    )
    if as_json:
        output.print_json([usage.to_dict() for usage in usages])
    else:
        for usage in usages:
            unknown = f"  ({usage.n_unknown:,} of unknown size)" if usage.n_unknown else ""
            click.echo(
                f"{human_bytes(usage.size_bytes):>8}  {usage.n_files:>9,} files  "
                f"{output.one_line(usage.path)}{unknown}"
            )
    unseen.report()
