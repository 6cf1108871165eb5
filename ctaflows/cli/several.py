"""Acting on several remote paths; a failure does not end the work on the others."""

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
    """Act on each path, print what fails, and return the results.

    Parameters
    ----------
    paths : sequence of str
        The paths, as given on the command line.
    act : Callable
        Acts on one path and returns the result, or raises.
    done : str
        Participle of the action for messages, such as ``made``.
    as_json : bool
        Print the results as JSON.

    Raises
    ------
    CtaflowsError
        The error of a single path; of several paths a PartialFailure.
    """
    from ctaflows.tasks.namespace import PathResult, failure

    results: list[PathResult] = []
    error: CtaflowsError | None = None
    for path in paths:
        try:
            results.append(act(path))
        except CtaflowsError as why:
            error = why
            results.append(PathResult(path, error=error_text(why)))
            if len(paths) > 1:
                print_failure(results[-1])
    if as_json:
        output.print_json([result.to_dict() for result in results])
    if error is not None and len(paths) == 1:
        raise error
    if failed := [result for result in results if not result.ok]:
        raise failure(failed, len(paths), done)
    return results


def print_failure(result: PathResult) -> None:
    """Print a path, and why nothing was done with it, on stderr."""
    click.echo(f"ctaflows: {output.one_line(f'{result.path}: {result.reason}')}", err=True)
