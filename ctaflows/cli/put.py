"""`ctaflows put`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import console, options, output
from ctaflows.cli.several import tell

if TYPE_CHECKING:
    from ctaflows.errors import CtaflowsError
    from ctaflows.model import Report
    from ctaflows.tasks.namespace import RemovalPlan

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
    pairs, folders, remote = _wanted(paths, wanted)
    surplus = _extraneous(folders, remote, wanted) if wanted["delete"] else None
    if wanted["dry_run"]:
        _print_plan(pairs, surplus, wanted)
        return
    report, failure = _upload(pairs, wanted)
    if failure is None and surplus:
        failure = _delete(surplus, wanted)
    elif failure is not None and wanted["manifest"] and len(pairs) > 1:
        failure.hint = f"Just these again: ctaflows put --retry {wanted['manifest']}"
    if wanted["as_json"]:
        output.print_json([t.to_dict() for t in report.transfers])
    else:
        output.print_report(report)
    if failure is not None:
        raise failure


def _wanted(paths: tuple[str, ...], wanted: dict[str, Any]) -> tuple[_Pairs, list[Path], str]:
    """Return which file goes where, which folders are among them, and where these go."""
    from ctaflows.errors import UsageError
    from ctaflows.tasks import failed_transfers, find_uploads

    if wanted["retry"]:
        if paths:
            raise UsageError("--retry takes its paths from the manifest", hint="Leave them out.")
        wanted["manifest"] = wanted["manifest"] or wanted["retry"]
        return [(Path(t.local), t.path) for t in failed_transfers(wanted["retry"])], [], ""
    sources, remote = _split(paths, wanted)
    patterns = {"include": wanted["include"], "exclude": wanted["exclude"]}
    folders = [source for source in sources if source.is_dir()]
    if folders and not wanted["recursive"]:
        raise UsageError("That is a directory", where=str(folders[0]), hint="Upload it with -r.")
    pairs = [(Path(local), to.path) for local, to in find_uploads(sources, remote, **patterns)]
    if not folders and not remote.endswith("/"):  # the new name of a single file
        pairs = [(local, remote) for local, _ in pairs]
    return pairs, folders, remote


def _split(paths: tuple[str, ...], wanted: dict[str, Any]) -> tuple[list[Path], str]:
    """Part what is to be uploaded from where it goes, or refuse what can be read in two ways."""
    from ctaflows.errors import UsageError

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
    return [Path(source) for source in sources], remote


def _upload(pairs: _Pairs, wanted: dict[str, Any]) -> tuple[Report, CtaflowsError | None]:
    from ctaflows.model import Report, Transfer
    from ctaflows.tasks import upload_file, upload_files

    how: dict[str, Any] = {
        "overwrite": wanted["overwrite"],
        "progress": console.progress_bar(),
        "profile": wanted["profile"],
    }
    if len(pairs) == 1 and not wanted["manifest"]:
        local, remote = pairs[0]
        untold = Report((Transfer(remote, str(local)),))
        return output.settle(untold, lambda: upload_file(local, remote, **how))
    done = upload_files(
        pairs,
        manifest=wanted["manifest"],
        on_error="report",
        second_process=not wanted["bwlimit"],
        **how,
    )
    return output.settle(done)


def _extraneous(folders: list[Path], remote: str, wanted: dict[str, Any]) -> RemovalPlan:
    """List the remote files that are not here; none goes because it can't be seen here."""
    from ctaflows.tasks import find_extraneous

    plan, kept = find_extraneous(
        folders,
        remote,
        include=wanted["include"],
        exclude=wanted["exclude"],
        profile=wanted["profile"],
    )
    if kept:
        click.echo(
            f"ctaflows: {len(kept)} files stay at the door, since their folder here is empty "
            f"or a link, the first: {output.one_line(kept[0])}. "
            f"To delete them all the same: ctaflows rm",
            err=True,
        )
    return plan


def _delete(surplus: RemovalPlan, wanted: dict[str, Any]) -> CtaflowsError | None:
    """Delete remote files, and return the error of those that are still there."""
    from ctaflows.tasks.namespace import failure, iter_remove

    batches = iter_remove(surplus, profile=wanted["profile"])
    results = [result for batch in batches for result in batch]
    failed = [result for result in results if not result.ok]
    for result in failed:
        tell(result, among=len(results))
    click.echo(f"{len(results) - len(failed)} files deleted at the door", err=True)
    return failure(failed, len(results), "deleted") if failed else None


def _print_plan(pairs: _Pairs, surplus: RemovalPlan | None, wanted: dict[str, Any]) -> None:
    from ctaflows.tasks import plan_uploads

    planned = plan_uploads(pairs, overwrite=wanted["overwrite"], profile=wanted["profile"])
    if wanted["as_json"]:
        output.print_json([t.to_dict() for t in planned])
        return
    for transfer in planned:
        click.echo(f"{transfer.local} -> {transfer.path}  ({transfer.note})")
    for result in surplus.all() if surplus else ():
        click.echo(f"{'delete' if result.ok else 'keep'} {output.one_line(result.path)}")
