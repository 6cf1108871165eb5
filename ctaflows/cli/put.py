"""`ctaflows put`."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import console, options, output
from ctaflows.cli.several import tell

if TYPE_CHECKING:
    from ctaflows.errors import CtaflowsError
    from ctaflows.model import Transfer
    from ctaflows.storage.namespace import RemovalPlan
    from ctaflows.storage.webdav import WebDAVStorage
    from ctaflows.transfer.beside import Beside
    from ctaflows.transfer.cargo import Lading
    from ctaflows.transfer.manifest import Manifest

_Pairs = list[tuple[Path, str]]


@click.command(
    "put",
    epilog="""\b
Examples:
  ctaflows put dl2_LST-1.Run11111.h5 lst/users/me/results/
  ctaflows put -r results lst/users/me --exclude '*.log' --manifest put.jsonl""",
)
@click.argument("paths", nargs=-1, metavar="LOCAL... REMOTE")
@click.option("-o", "--dest", metavar="REMOTE", help="Where to: all paths are then uploaded.")
@click.option("-r", "--recursive", is_flag=True, help="Upload directories with all below them.")
@click.option("--overwrite", is_flag=True, help="Replace other files that are there.")
@options.patterns
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--delete",
    is_flag=True,
    help="With -r: delete files there that are not here; none below a folder that is empty here.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the proofs there.",
)
@click.option(
    "--retry",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="MANIFEST",
    help="Upload just the files that failed, says the manifest.",
)
@options.rate_options
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], **wanted: Any) -> None:
    """Upload files to the door.

    REMOTE is the new name of a single file; one that ends in a slash is a directory, which is made
    if need be. With -o REMOTE all arguments are uploaded. Each file goes up under a temporary name,
    is compared there, and then gets its own. The same file is not moved twice. Ends with 10 if some
    files of many failed.
    """
    from ctaflows.storage.connect import connect
    from ctaflows.transfer.progress import limited_to

    pairs, folders = _wanted(paths, wanted)
    door = connect(wanted["profile"], transfers=wanted["transfers"])
    with limited_to(wanted["bwlimit"]):
        _carry_out(door, pairs, folders, wanted)


def _wanted(paths: tuple[str, ...], wanted: dict[str, Any]) -> tuple[_Pairs, list[str]]:
    """Say which file goes where, and which directories at the door are mirrored."""
    from ctaflows.errors import UsageError
    from ctaflows.transfer.manifest import Manifest

    if wanted["retry"]:
        if paths:
            raise UsageError("--retry takes its paths from the manifest", hint="Leave them out.")
        proofs = Manifest(wanted["retry"]).proofs.values()
        wanted["manifest"] = wanted["manifest"] or wanted["retry"]
        return [(Path(proof.local), proof.path) for proof in proofs if proof.error], []
    dest = wanted["dest"]
    if dest == "":
        raise UsageError("-o names nothing", hint="Write: -o REMOTE, or -o / for the root")
    if len(paths) + (dest is not None) < 2:
        raise UsageError("Where to?", hint="Write: ctaflows put LOCAL... REMOTE")
    if wanted["delete"] and not wanted["recursive"]:
        raise UsageError("--delete goes with -r", hint="Only a whole directory can be mirrored.")
    *sources, remote = paths if dest is None else (*paths, dest)
    if dest is None and not remote.endswith("/") and Path(remote).exists():
        raise UsageError(
            f"Is {remote}, which is here, to be uploaded too, or is it where the rest goes?",
            hint=f"To upload all of them, into a directory at the door:\n"
            f"              ctaflows put {' '.join(paths)} REMOTE/\n"
            f"          To upload what is before it, as {remote} at the door:\n"
            f"              ctaflows put {' '.join(sources)} -o {remote}",
        )
    if len(sources) > 1 and not remote.endswith("/"):
        raise UsageError("Several files need a directory to go to", hint=f"Write it as {remote}/")
    pairs: _Pairs = []
    folders: list[str] = []
    for source in map(Path, sources):
        _add(source, remote, pairs, folders, wanted)
    return pairs, folders


def _add(
    source: Path, remote: str, pairs: _Pairs, folders: list[str], wanted: dict[str, Any]
) -> None:
    from ctaflows.errors import NotFound, UsageError
    from ctaflows.storage.paths import selected
    from ctaflows.transfer.uploads import files_of

    patterns = wanted["include"], wanted["exclude"]
    if not source.exists():
        raise NotFound("There is no such file here", where=str(source))
    if not source.is_dir():
        if selected(source.name, *patterns):
            pairs.append((source, remote + source.name if remote.endswith("/") else remote))
    elif wanted["recursive"]:
        base = f"{remote.rstrip('/')}/{source.resolve().name}"
        if base in folders:
            raise UsageError("Two directories would become the same one there", where=base)
        folders.append(base)
        unseen = wanted.setdefault("unseen", {}).setdefault(base, [])
        found = files_of(source, remote, unseen)
        wanted.setdefault("here", {})[base] = [p.removeprefix(base + "/") for _, p in found]
        pairs += [(f, p) for f, p in found if selected(p.removeprefix(base + "/"), *patterns)]
    else:
        raise UsageError("That is a directory", where=str(source), hint="Upload it with -r.")


def _carry_out(
    door: WebDAVStorage, pairs: _Pairs, folders: list[str], wanted: dict[str, Any]
) -> None:
    from ctaflows.model import Report, Transfer
    from ctaflows.storage.namespace import RemovalPlan
    from ctaflows.transfer.manifest import Manifest
    from ctaflows.transfer.uploads import lading_of, plan, upload_alone, upload_lading

    overwrite: bool = wanted["overwrite"]
    surplus = _superfluous(door, folders, wanted) if wanted["delete"] else RemovalPlan()
    if wanted["dry_run"]:
        _print_plan(plan(door, pairs, overwrite=overwrite), surplus, as_json=wanted["as_json"])
        return
    manifest = Manifest(wanted["manifest"]) if wanted["manifest"] else None
    if len(pairs) == 1 and manifest is None:
        local, remote = pairs[0]
        untold = Report((Transfer(remote, str(local)),))
        with console.progress_shown():
            report, failure = output.settle(
                untold, lambda: upload_alone(door, local, remote, overwrite=overwrite)
            )
    else:
        lading = lading_of(door, pairs)
        # before there is a thread to show the progress
        with _beside(door, lading, manifest, wanted) as other, console.progress_shown():
            done = upload_lading(door, lading, overwrite=overwrite, manifest=manifest, beside=other)
            report, failure = output.settle(done)
    if failure is None and len(surplus):
        failure = _delete(door, surplus)
    elif failure is not None and manifest is not None and len(pairs) > 1:
        failure.hint = f"Just these again: ctaflows put --retry {manifest.file}"
    if wanted["as_json"]:
        output.print_json([t.to_dict() for t in report.transfers])
    else:
        output.print_report(report)
    if failure is not None:
        raise failure


def _beside(
    door: WebDAVStorage, lading: Lading, manifest: Manifest | None, wanted: dict[str, Any]
) -> contextlib.AbstractContextManager[Beside | None]:
    """Let a second process stand ready."""
    from ctaflows.storage.connect import reconnect
    from ctaflows.transfer.cargo import beside

    if wanted["bwlimit"]:
        return contextlib.nullcontext()
    return beside(
        door,
        lading,
        manifest=manifest,
        overwrite=wanted["overwrite"],
        afresh=partial(reconnect, door),
    )


def _superfluous(door: WebDAVStorage, folders: list[str], wanted: dict[str, Any]) -> RemovalPlan:
    """Find the files there that are not here; nothing is deleted because it can't be seen here."""
    from ctaflows.storage.links import refuse_linked_directory
    from ctaflows.storage.namespace import RemovalPlan
    from ctaflows.storage.walk import walk
    from ctaflows.transfer.decide import extraneous

    found = RemovalPlan()
    for folder in folders:
        base = door.normalise(folder) + "/"
        there_now = door.exists(folder)
        if there_now is None:
            continue
        if there_now.is_dir:
            refuse_linked_directory(door, there_now, must_be_listed=True)
        there = {e.path.removeprefix(base): e for e in walk(door, folder) if not e.is_dir}
        here, unseen = wanted["here"][folder], wanted["unseen"][folder]
        extra, kept = extraneous(there, here, unseen, wanted["include"], wanted["exclude"])
        found.add(there[name] for name in extra)
        if kept:
            click.echo(
                f"ctaflows: {len(kept)} files stay at the door, since their folder here is empty "
                f"or a link, the first: {output.one_line(base + kept[0])}. "
                f"To delete them all the same: ctaflows rm",
                err=True,
            )
    return found


def _delete(door: WebDAVStorage, surplus: RemovalPlan) -> CtaflowsError | None:
    """Delete files at the door, and give the error of those that are still there."""
    from ctaflows.storage.namespace import failure, remove_all

    outcomes = [outcome for batch in remove_all(door, surplus) for outcome in batch]
    failed = [outcome for outcome in outcomes if not outcome.ok]
    for outcome in failed:
        tell(outcome, among=len(outcomes))
    click.echo(f"{len(outcomes) - len(failed)} files deleted at the door", err=True)
    return failure(failed, len(outcomes), "deleted") if failed else None


def _print_plan(planned: list[Transfer], surplus: RemovalPlan, *, as_json: bool) -> None:
    if as_json:
        output.print_json([t.to_dict() for t in planned])
        return
    for transfer in planned:
        click.echo(f"{transfer.local} -> {transfer.path}  ({transfer.note})")
    for outcome in surplus.all():
        click.echo(f"{'delete' if outcome.ok else 'keep'} {output.one_line(outcome.path)}")
