"""How results look on stdout: JSON, tables, one line a file."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ctaflows.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ctaflows.errors import CtaflowsError
    from ctaflows.model import Report, Transfer


def print_json(values: Any) -> None:
    """Print values as JSON."""
    click.echo(_encoder(indent=2).encode(values))


def print_json_batches(batches: Iterable[Iterable[Any]]) -> int:
    """Print a JSON array, each list of its items at once when it comes, and say how many came."""
    encode = _encoder().encode
    n_items = 0
    for batch in batches:
        lines = [encode(item) for item in batch]
        if lines:
            click.echo((",\n" if n_items else "[\n") + ",\n".join(lines), nl=False)
        n_items += len(lines)
    click.echo("\n]" if n_items else "[]")
    return n_items


def _encoder(indent: int | None = None) -> json.JSONEncoder:
    """Write JSON with all letters where the output has them, else with escapes that JSON knows."""
    has_letters = (sys.stdout.encoding or "ascii").lower().replace("-", "") == "utf8"
    return json.JSONEncoder(indent=indent, ensure_ascii=not has_letters)


def print_rich(thing: Any) -> None:
    """Print what rich can render: as wide as the terminal, or as wide as it needs for a file."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False, soft_wrap=False).print(thing)


def settle(
    report: Report, single: Callable[[], Transfer] | None = None
) -> tuple[Report, CtaflowsError | None]:
    """Say which error a command ends with: a single file's own, or that of many.

    Parameters
    ----------
    report : Report
        The results; of a single file that is still to be moved, what is told if it fails.
    single : Callable, optional
        Moves the single file.
    """
    from ctaflows.errors import CtaflowsError, PartialFailure, error_text
    from ctaflows.model import Report

    if single is None:
        return report, PartialFailure.of(report) if report.failed else None
    try:
        done = single()
    except CtaflowsError as why:
        return Report((replace(report.transfers[0], error=error_text(why)),)), why
    return Report((done,), done.seconds), None


def print_report(report: Report) -> None:
    """Print one line a file, and on stderr what it came to."""
    from ctaflows.text import human_bytes

    lines: list[str] = []
    for transfer in report.transfers:
        lines.append(f"{_outcome(transfer):<10} {one_line(transfer.local or transfer.path)}\n")
        if transfer.error and len(report.transfers) > 1:
            _echo_all(lines)
            click.secho(f"           {one_line(transfer.error)}", fg="red", err=True)
    _echo_all(lines)
    if len(report.transfers) == 1 and report.failed:
        return
    n_failed = len(report.failed)
    n_new = len(report.transfers) - n_failed - len(report.skipped)
    rate = f", {human_bytes(report.moved_bytes / report.seconds)}/s" if report.moved_bytes else ""
    click.echo(
        f"{n_new} moved ({human_bytes(report.moved_bytes)}{rate}), "
        f"{len(report.skipped)} in place, {n_failed} failed",
        err=True,
    )


def _echo_all(lines: list[str]) -> None:
    """Print lines and forget them: one call, since each flushes."""
    click.echo("".join(lines), nl=False)
    lines.clear()


def one_line(text: str) -> str:
    """Make a text that a server or a file's name may have shaped fit for one line."""
    return printable(text.replace("\n", "\ufffd"))


def _outcome(transfer: Transfer) -> str:
    if transfer.error:
        return "failed"
    if transfer.skipped:
        return "in place"
    return "verified" if transfer.verified else "unverified"
