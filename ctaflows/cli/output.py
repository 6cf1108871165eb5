"""Output on stdout: JSON, tables, a line for each file; and the error that a command ends with."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ctaflows.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ctaflows.errors import CtaflowsError, PartialFailure
    from ctaflows.model import Report, Transfer


def print_json(values: Any) -> None:
    """Print values as JSON."""
    click.echo(_encoder(indent=2).encode(values))


def print_json_batches(batches: Iterable[Iterable[Any]]) -> int:
    """Print a JSON array, batch by batch as its items arrive, and return their number."""
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
    """Return an encoder that escapes what is not ASCII, unless stdout is UTF-8."""
    is_utf8 = (sys.stdout.encoding or "ascii").lower().replace("-", "") == "utf8"
    return json.JSONEncoder(indent=indent, ensure_ascii=not is_utf8)


def print_rich(thing: Any) -> None:
    """Print a rich renderable, as wide as the terminal; 160 columns into a file or pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False, soft_wrap=False).print(thing)


def transfer_alone(
    path: str, local: Path, transfer: Callable[[], Transfer]
) -> tuple[Report, CtaflowsError | None]:
    """Transfer a single file, and return its report, and its error if it failed.

    Parameters
    ----------
    path, local
        Remote and local path, for the report of a file that fails.
    transfer : Callable
        Transfers the file.
    """
    from ctaflows.errors import CtaflowsError, error_text
    from ctaflows.model import Report, Transfer

    try:
        done = transfer()
    except CtaflowsError as why:
        return Report((Transfer(path, str(local), error=error_text(why)),)), why
    return Report((done,), done.seconds), None


def failure_of(report: Report) -> PartialFailure | None:
    """Return the error of the files that failed, if any did."""
    from ctaflows.errors import PartialFailure

    return PartialFailure.of(report) if report.failed else None


def end(report: Report, failure: CtaflowsError | None, *, as_json: bool) -> None:
    """Print a report, and raise the error that the command ends with."""
    if as_json:
        print_json([t.to_dict() for t in report.transfers])
    else:
        print_report(report)
    if failure is not None:
        raise failure


def print_report(report: Report) -> None:
    """Print a line for each file, and the totals on stderr."""
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
    """Print lines in one call, since each call flushes, and clear the list."""
    click.echo("".join(lines), nl=False)
    lines.clear()


def one_line(text: str) -> str:
    """Return a text, perhaps from a server or a file's name, without line breaks and controls."""
    return printable(text.replace("\n", "\ufffd"))


def _outcome(transfer: Transfer) -> str:
    if transfer.error:
        return "failed"
    if transfer.skipped:
        return "in place" if transfer.verified else "in place, unverified"
    return "verified" if transfer.verified else "unverified"
