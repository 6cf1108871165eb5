"""Upload results: local files and folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.errors import NotFound, UsageError
from ctaflows.flows.batches import (
    UNTAGGED,
    files_a_batch,
    files_named,
    may_try_again,
    report_of,
    run_batches,
)
from ctaflows.reporting.artifacts import progress_shown, publish_table
from ctaflows.tasks import find_uploads, plan_uploads, upload_files
from ctaflows.tasks.tree_report import TreeReport
from ctaflows.tracking.flow import flow
from ctaflows.tracking.opaque import OpaqueSequence
from ctaflows.tracking.run_context import task_parameters
from ctaflows.transfer.decide import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.model import Entry, Transfer

#: Suffix of the manifest beside the uploaded file or folder.
ENDING = ".upload.jsonl"


def upload_name() -> str:
    """Return the name of a task run that uploads files (its ``task_run_name``)."""
    return f"upload {files_named([remote for _, remote in task_parameters()['pairs']])}"


#: A retry skips files that are already on the storage.
upload_batch = upload_files.with_options(
    task_run_name=upload_name,
    retries=2,
    retry_delay_seconds=[30, 300],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_try_again,
    **UNTAGGED,
)


@flow(name="upload-results", flow_run_name="upload-results-{path}")
def upload_results(
    local: list[str],
    path: str,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    overwrite: bool = False,
    manifest: str = "",
    dry_run: bool = False,
    profile: str = "",
) -> TreeReport:
    """Upload files and folders, each verified on the storage before it gets its final name.

    A second run skips the files that are already there.

    Parameters
    ----------
    local : list of str
        Files, and folders with all that is below them, on the machine where the flow runs.
    path : str
        Remote directory, such as lst/users/me/results: a file becomes PATH/NAME, a folder
        PATH/NAME/… It is created if needed.
    include : list of str, optional
        Shell patterns of files to upload, such as *.h5; by default all.
    exclude : list of str, optional
        Shell patterns of files or folders to leave out, such as *.log.
    overwrite : bool
        Replace remote files of the same name that differ.
    manifest : str
        File for the records; by default NAME.upload.jsonl beside the first file or folder given.
    dry_run : bool
        Only report what would be done.
    profile : str
        Profile with the settings to use; by default that of the environment.

    Returns
    -------
    TreeReport
        A record for each file.

    Raises
    ------
    NotFound
        A local file or folder does not exist, or no file is selected.
    PartialFailure
        Some files could not be uploaded; the others are in place.
    """
    # not Path.absolute, which keeps ..; not resolve, which would lose the name of a symbolic link
    sources = [Path(os.path.abspath(Path(one).expanduser())) for one in local]  # noqa: PTH100
    if not sources:
        raise UsageError("There is nothing to upload", hint="Name files or folders in local.")
    manifest_file = sources[0].with_name(sources[0].name + ENDING)
    if manifest:
        manifest_file = Path(manifest).expanduser().absolute()
    wanted = find_uploads(sources, path, include=include or (), exclude=exclude or ())
    pairs = {entry: source for source, entry in wanted if Path(source) != manifest_file}
    if not pairs:
        raise NotFound("There is no file to upload", where=", ".join(map(str, sources)))
    report = TreeReport(f"Upload to {path}", path, manifest=str(manifest_file), dry_run=dry_run)
    if dry_run:
        plain = [(source, entry.path) for entry, source in pairs.items()]
        return report.having(plan_uploads(plain, overwrite=overwrite, profile=profile))
    options = {"overwrite": overwrite, "manifest": manifest_file, "profile": profile}
    report = report.having(upload(report.title, pairs, **options))
    if rows := report.rows():
        title = f"{report.title}: {report.verdict()}."
        publish_table(f"upload-{path}", title, rows, rest=report.manifest)
    report.raise_if_failed()
    return report


def upload(title: str, pairs: dict[Entry, str], **options: Any) -> list[Transfer]:
    """Upload files in batches, and show the progress."""
    done: list[Transfer] = []
    n_bytes = sum(entry.size_bytes or 0 for entry in pairs)

    def begin(batch: Sequence[Entry]) -> Any:
        files = OpaqueSequence((pairs[entry], entry.path) for entry in batch)
        return upload_batch.submit(files, **options)

    todo = batches(pairs, max_files=files_a_batch(len(pairs)))
    with progress_shown(title, len(pairs), n_bytes) as progress:
        for _, result in run_batches(begin, todo):
            done += progress.arrived(report_of(result)).transfers
    return done
