"""`ctaflows flows`."""

from __future__ import annotations

import click

from ctaflows.cli import options, output


@click.command("flows")
@options.as_json
@options.verbose
def command(*, as_json: bool) -> None:
    """List the flows that `ctaflows run` finds.

    Other packages add flows by the entry-point group `ctaflows.flows`.
    """
    from ctaflows.cli import flow_registry

    found = [
        {
            "name": name,
            "entry_point": point.value,
            "package": point.dist.name if point.dist else None,
            "summary": flow_registry.first_line(flow_registry.load(name)),
        }
        for name, point in flow_registry.entry_points().items()
    ]
    if as_json:
        output.print_json(found)
        return
    for flow in found:
        click.echo(f"{flow['name']:<20} {flow['summary']}  [{flow['package']}]")
