"""`ctaflows get --tables` and `--drop`: some tables of files, not the files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import console, output
from ctaflows.storage.namespace import refuse_undescribed

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.model import Entry, Report, Transfer
    from ctaflows.storage.webdav import WebDAVStorage
    from ctaflows.transfer.manifest import Manifest

_HDF5_ENDINGS = (".h5", ".hdf5", ".hdf")
#: Options of `get` that have no meaning for a part of a file, and what they are when not given.
_NOT_ALONG = {"delete": False, "retry": None, "check": "proof"}


def refuse_others(wanted: dict[str, Any]) -> None:
    """Refuse options that don't go with --tables and --drop."""
    from ctaflows.errors import UsageError

    for name, usual in _NOT_ALONG.items():
        if wanted[name] != usual:
            raise UsageError(f"--{name} doesn't go with --tables and --drop")


def carry_out(
    door: WebDAVStorage,
    trees: list[tuple[list[tuple[Entry, Path]], Manifest | None]],
    wanted: dict[str, Any],
) -> None:
    """Copy the tables, or say what would be copied; then report.

    Parameters
    ----------
    door : WebDAVStorage
        Where from.
    trees : list of (list of (Entry, Path), Manifest or None)
        For each argument the files with the names that `get` would give them, and its manifest.
    wanted : dict
        The command's options.
    """
    from ctaflows.dl1.hdf5.partial_copy import TableSelection
    from ctaflows.model import Report, Transfer
    from ctaflows.tasks import remote as tasks

    choice = TableSelection(_words(wanted["tables"]), _words(wanted["drop"]))
    is_single = len(trees) == 1 and len(trees[0][0]) == 1 and not wanted["recursive"]
    report, failure = Report(), None
    with console.progress_shown():
        for files, manifest in trees:
            jobs = [
                (entry, tasks.partial_name(entry, local))
                for entry, local in files
                if is_single or entry.error is not None or entry.name.endswith(_HDF5_ENDINGS)
            ]
            if wanted["dry_run"]:
                planned = (Transfer(e.path, str(local), e.size_bytes) for e, local in jobs)
                report += Report(tuple(planned))
            elif is_single and manifest is None:
                entry, local = jobs[0]
                copy = partial(tasks.copy_part, door, entry, local, choice)
                report, failure = output.settle(Report((Transfer(entry.path, str(local)),)), copy)
            else:
                report += tasks.copy_parts(door, jobs, choice, manifest)
    if failure is None:
        report, failure = output.settle(report)
    _print(report, choice, wanted)
    if wanted["dry_run"]:
        refuse_undescribed(entry for files, _ in trees for entry, _ in files)
    if failure is not None:
        raise failure


def _words(values: tuple[str, ...]) -> tuple[str, ...]:
    """Take several names in one value too, with commas between."""
    return tuple(word for value in values for word in value.split(",") if word)


def _print(report: Report, choice: object, wanted: dict[str, Any]) -> None:
    from ctaflows.text import human_bytes

    if wanted["as_json"]:
        output.print_json([t.to_dict() for t in report.transfers])
        return
    if wanted["dry_run"]:
        for transfer in report.transfers:
            click.echo(f"{transfer.path} -> {transfer.local}  ({choice})")
        return
    for transfer in report.transfers:
        click.echo(f"{_outcome(transfer):<10} {output.one_line(transfer.local)}")
        if transfer.error and len(report.transfers) > 1:
            click.secho(f"           {output.one_line(transfer.error)}", fg="red", err=True)
    made = [t for t in report.transfers if t.ok and not t.skipped]
    n_here = sum(_outcome(t) == "in place" for t in report.transfers)
    click.echo(
        f"{len(made)} partial copies ({human_bytes(sum(t.size_bytes or 0 for t in made))}, "
        f"{human_bytes(report.moved_bytes)} read), {n_here} in place, {len(report.failed)} failed",
        err=True,
    )


def _outcome(transfer: Transfer) -> str:
    from ctaflows.tasks.remote import NO_TABLE

    if transfer.error:
        return "failed"
    if transfer.note == NO_TABLE:
        return "no table"
    return "in place" if transfer.skipped else "partial"
