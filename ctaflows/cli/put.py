"""`ctaflows put`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctaflows.cli import console, options, output
from ctaflows.cli.several import print_failure

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
@click.option(
    "-o", "--dest", metavar="REMOTE", help="Destination: all arguments are then uploaded."
)
@click.option("-r", "--recursive", is_flag=True, help="Upload directories with everything below.")
@click.option("--overwrite", is_flag=True, help="Replace remote files that differ.")
@options.patterns
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be done; do nothing.")
@click.option(
    "--delete",
    is_flag=True,
    help="With -r: delete remote files that the local folder does not have; none below a local "
    "folder that is empty.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File that records the result for each file.",
)
@click.option(
    "--retry",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="MANIFEST",
    help="Upload only the files that failed according to this manifest.",
)
@options.rate_options
@options.as_json
@options.profile
@options.verbose
def command(paths: tuple[str, ...], **opts: Any) -> None:
    """Upload files and verify their checksums.

    REMOTE is the new name of a single file, or, with a slash at the end, a directory, which is made
    if it does not exist. With -o REMOTE all arguments are uploaded.

    A file is uploaded under a temporary name, and gets its own when it is verified. A file that is
    there already is not uploaded again. The exit code is 10 if some files of many failed.
    """
    opts["manifest"] = opts["manifest"] or opts["retry"]
    pairs, folders, remote = _files(paths, opts)
    extraneous = _extraneous(folders, remote, opts) if opts["delete"] else None
    if opts["dry_run"]:
        _print_plan(pairs, extraneous, opts)
        return
    report, failure = _upload(pairs, opts)
    if failure is None and extraneous:
        failure = _delete(extraneous, opts)
    elif failure is not None and opts["manifest"] and len(pairs) > 1:
        failure.hint = f"To upload only these: ctaflows put --retry {opts['manifest']}"
    output.end(report, failure, as_json=opts["as_json"])


def _files(paths: tuple[str, ...], opts: dict[str, Any]) -> tuple[_Pairs, list[Path], str]:
    """Return the files with their remote paths, the folders that are uploaded, and REMOTE."""
    from ctaflows.errors import UsageError
    from ctaflows.tasks import failed_transfers, find_uploads

    if opts["retry"]:
        if paths:
            raise UsageError("--retry takes its paths from the manifest", hint="Leave them out.")
        return [(Path(t.local), t.path) for t in failed_transfers(opts["retry"])], [], ""
    sources, remote = _split(paths, opts)
    patterns = {"include": opts["include"], "exclude": opts["exclude"]}
    folders = [source for source in sources if source.is_dir()]
    if folders and not opts["recursive"]:
        raise UsageError("That is a directory", where=str(folders[0]), hint="Upload it with -r.")
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise UsageError(
            "Two directories would become the same one there",
            where=", ".join(map(str, folders)),
            hint="Upload them into different directories.",
        )
    pairs = [(Path(local), to.path) for local, to in find_uploads(sources, remote, **patterns)]
    if not folders and not remote.endswith("/"):  # the new name of a single file
        pairs = [(local, remote) for local, _ in pairs]
    return pairs, folders, remote


def _split(paths: tuple[str, ...], opts: dict[str, Any]) -> tuple[list[Path], str]:
    """Return the local paths and REMOTE; raise if the last path may be either."""
    from ctaflows.errors import UsageError

    dest = opts["dest"]
    if dest == "":
        raise UsageError("-o is empty", hint="Write: -o REMOTE, or -o / for the root")
    if len(paths) + (dest is not None) < 2:
        raise UsageError("No destination is given", hint="Write: ctaflows put LOCAL... REMOTE")
    if opts["delete"] and not opts["recursive"]:
        raise UsageError("--delete goes with -r", hint="Only a whole directory can be mirrored.")
    *sources, remote = paths if dest is None else (*paths, dest)
    if dest is None and not remote.endswith("/") and Path(remote).exists():
        raise UsageError(
            f"Is {remote}, which exists locally, to be uploaded too, or the remote destination?",
            hint=f"To upload all of them, into a remote directory:\n"
            f"              ctaflows put {' '.join(paths)} REMOTE/\n"
            f"          To upload what is before it, as the remote {remote}:\n"
            f"              ctaflows put {' '.join(sources)} -o {remote}",
        )
    if len(sources) > 1 and not remote.endswith("/"):
        raise UsageError("Several files need a directory", hint=f"Write it as {remote}/")
    return [Path(source) for source in sources], remote


def _upload(pairs: _Pairs, opts: dict[str, Any]) -> tuple[Report, CtaflowsError | None]:
    from ctaflows.tasks import upload_file, upload_files

    how: dict[str, Any] = {
        "overwrite": opts["overwrite"],
        "progress": console.progress_bar(),
        "profile": opts["profile"],
    }
    if len(pairs) == 1 and not opts["manifest"]:
        local, remote = pairs[0]
        return output.transfer_alone(remote, local, lambda: upload_file(local, remote, **how))
    report = upload_files(
        pairs,
        manifest=opts["manifest"],
        on_error="report",
        **how,
    )
    return report, output.failure_of(report)


def _extraneous(folders: list[Path], remote: str, opts: dict[str, Any]) -> RemovalPlan:
    """Return the remote files to delete, and print how many more stay."""
    from ctaflows.tasks import find_extraneous

    plan, kept = find_extraneous(
        folders,
        remote,
        include=opts["include"],
        exclude=opts["exclude"],
        profile=opts["profile"],
    )
    if kept:
        click.echo(
            f"ctaflows: {len(kept)} files stay at the door, since their local folder is empty "
            f"or a link, the first: {output.one_line(kept[0])}. "
            f"To delete them nevertheless: ctaflows rm",
            err=True,
        )
    return plan


def _delete(extraneous: RemovalPlan, opts: dict[str, Any]) -> CtaflowsError | None:
    """Delete remote files, and return the error of those that could not be deleted."""
    from ctaflows.tasks.namespace import failure, iter_remove

    batches = iter_remove(extraneous, profile=opts["profile"])
    results = [result for batch in batches for result in batch]
    failed = [result for result in results if not result.ok]
    if len(results) > 1:
        for result in failed:
            print_failure(result)
    click.echo(f"{len(results) - len(failed)} remote files deleted", err=True)
    return failure(failed, len(results), "deleted") if failed else None


def _print_plan(pairs: _Pairs, extraneous: RemovalPlan | None, opts: dict[str, Any]) -> None:
    from ctaflows.tasks import plan_uploads

    planned = plan_uploads(pairs, overwrite=opts["overwrite"], profile=opts["profile"])
    if opts["as_json"]:
        output.print_json([t.to_dict() for t in planned])
        return
    for transfer in planned:
        click.echo(output.one_line(f"{transfer.local} -> {transfer.path}  ({transfer.note})"))
    for result in extraneous.all() if extraneous else ():
        click.echo(f"{'delete' if result.ok else 'keep'} {output.one_line(result.path)}")
