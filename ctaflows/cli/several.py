"""Doing the same to several paths, on past those that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ctaflows.cli import output
from ctaflows.errors import CtaflowsError, error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ctaflows.tasks.namespace import PathResult


def for_each(
    paths: Sequence[str], act: Callable[[str], PathResult], done: str, *, as_json: bool
) -> list[PathResult]:
    """Act on each path, tell of it, and end with the right error.

    Parameters
    ----------
    paths : sequence of str
        As they were given.
    act : Callable
        Acts on one path and says what became of it, or raises.
    done : str
        What was to be done to them, such as ``made``.
    as_json : bool
        Print the outcomes as JSON.

    Raises
    ------
    CtaflowsError
        A single path's own; of several that of all that failed.
    """
    from ctaflows.tasks.namespace import PathResult, failure

    outcomes: list[PathResult] = []
    single: CtaflowsError | None = None
    for path in paths:
        try:
            outcomes.append(act(path))
        except CtaflowsError as why:
            outcomes.append(PathResult(path, error=error_text(why)))
            single = why
            tell(outcomes[-1], among=len(paths))
    if as_json:
        output.print_json([outcome.to_dict() for outcome in outcomes])
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if single is not None and len(paths) == 1:
        raise single
    if failed:
        raise failure(failed, len(paths), done)
    return outcomes


def tell(outcome: PathResult, *, among: int) -> None:
    """Say on stderr what failed, if there is more to come after it."""
    if among > 1 and outcome.error:
        click.echo(f"ctaflows: {output.one_line(outcome.error)}", err=True)
