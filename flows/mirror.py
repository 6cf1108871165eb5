"""Keep a local directory in step with one on the storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctaflows.flows.batches import (
    UNTAGGED,
    fetch_name,
    files_a_batch,
    may_try_again,
    report_of,
    run_batches,
)
from ctaflows.reporting.artifacts import progress_shown, publish_table
from ctaflows.reporting.events import files_fetched
from ctaflows.tasks import fetch_files, list_tree, plan_fetch, prune_tree
from ctaflows.tasks.transfers import warn_of_links
from ctaflows.tasks.tree_report import TreeReport
from ctaflows.tracking.flow import flow
from ctaflows.tracking.opaque import OpaqueSequence
from ctaflows.transfer.decide import batches
from ctaflows.transfer.manifest import NAME
from ctaflows.transfer.standing import proven

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.model import Entry, Transfer

#: A retry skips files that are already present and verified, and resumes partial ones.
fetch_batch = fetch_files.with_options(
    task_run_name=fetch_name,
    retries=2,
    retry_delay_seconds=[30, 300],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_try_again,
    **UNTAGGED,
)


@flow(name="mirror", flow_run_name="mirror-{path}")
def mirror(
    path: str,
    dest: str = ".",
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    delete: bool = False,
    check: Literal["proof", "checksum", "size"] = "proof",
    manifest: str = "",
    dry_run: bool = False,
    follow: bool = False,
    profile: str = "",
) -> TreeReport:
    """Fetch what is new or changed below a remote directory, resumed and verified.

    A second run skips the files that are already present and verified.

    Parameters
    ----------
    path : str
        Remote directory, such as cta/DL1/20241114.
    dest : str
        Folder in which a folder with the directory's name is created, on the machine where the flow
        runs.
    include : list of str, optional
        Shell patterns of files to fetch, such as *.h5; by default all.
    exclude : list of str, optional
        Shell patterns of files or directories to leave out, such as datacheck.
    delete : bool
        Delete local files that are not on the storage, after all others were fetched. Nothing is
        deleted if a file failed, below a remote directory that can't be read, or below a symbolic
        link that was not followed.
    check : {"proof", "checksum", "size"}
        When to skip a local file: if the manifest has a record of its verification (or else its
        checksum matches); if its checksum, computed again, matches; or if its size alone matches.
    manifest : str
        File for the records; by default manifest.jsonl in the folder that is created.
    dry_run : bool
        Only report what would be done.
    follow : bool
        Fetch what symbolic links to directories lead to, too, into folders with the links' names.
        Without, the log names these links. A link to a file is always fetched as that file.
    profile : str
        Profile with the settings to use; by default that of the environment.

    Returns
    -------
    TreeReport
        A record for each file, and what was deleted.

    Raises
    ------
    NotFound
        There is no such directory.
    PartialFailure
        Some files could not be fetched, or directories not be read; the other files are in place.
    """
    patterns: dict[str, Any] = {"include": tuple(include or ()), "exclude": tuple(exclude or ())}
    tree = list_tree(path, **patterns, follow=follow, profile=profile)
    warn_of_links(tree.links)
    folder = Path(dest).expanduser().absolute() / tree.path.rpartition("/")[2]
    manifest_file = folder / NAME if NAME not in tree.names else None
    if manifest:
        manifest_file = Path(manifest).expanduser().absolute()
    extra: list[str] = []
    if delete:  # what comes while files are fetched stays
        extra, _ = prune_tree.fn(tree, folder, **patterns, spare=manifest_file, dry_run=True)
    report = TreeReport(
        f"Mirror of {tree.path}",
        str(folder),
        manifest=str(manifest_file) if manifest_file else None,
        dry_run=dry_run,
    )
    if dry_run:
        planned = plan_fetch(
            tree.files, folder, base=tree.path, manifest=manifest_file, check=check, profile=profile
        )
        report = report.having(planned)
    else:
        in_place: list[Transfer] = []
        rest = list(tree.files)
        if manifest_file and check == "proof":
            in_place, rest = proven(tree.files, folder, base=tree.path, manifest=manifest_file)
        options = {"base": tree.path, "manifest": manifest_file, "check": check, "profile": profile}
        report = report.having(in_place + fetch(report.title, rest, folder, **options))
    if delete and not report.failed:
        deleted, kept = prune_tree(
            tree,
            folder,
            **patterns,
            spare=manifest_file,
            only=OpaqueSequence(extra),
            dry_run=dry_run,
        )
        report = report.having(report.transfers, deleted=tuple(deleted), kept=tuple(kept))
    report = report.having([*report.transfers, *tree.unread_report(folder).transfers])
    if (rows := report.rows()) and not dry_run:
        title = f"{report.title}: {report.verdict()}."
        publish_table(f"mirror-{tree.path}", title, rows, rest=report.manifest)
    report.raise_if_failed()
    return report


def fetch(title: str, entries: Sequence[Entry], folder: Path, **options: Any) -> list[Transfer]:
    """Fetch files in batches, and show the progress."""
    if not entries:
        return []
    done: list[Transfer] = []
    n_bytes = sum(entry.size_bytes or 0 for entry in entries)
    with progress_shown(title, len(entries), n_bytes) as progress:
        for _, result in run_batches(
            lambda batch: fetch_batch.submit(OpaqueSequence(batch), folder, **options),
            batches(entries, max_files=files_a_batch(len(entries))),
        ):
            report = progress.arrived(report_of(result))
            files_fetched(report)
            done += report.transfers
    return done
