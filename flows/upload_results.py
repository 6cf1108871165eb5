"""Upload results: files and folders from here to the door."""

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

#: Ending of the manifest that lies beside what was uploaded.
ENDING = ".upload.jsonl"


def upload_name() -> str:
    """Name a task run after the files it uploads."""
    return f"upload {files_named([there for _, there in task_parameters()['pairs']])}"


#: A retry looks first what is there already.
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
    """Upload files and folders to the door, each compared there before it gets its name.

    Run again it moves nothing that is there already.

    Parameters
    ----------
    local : list of str
        Files, and folders with all that is below them, on the machine where the flow runs.
    path : str
        Directory at the door, such as lst/users/me/results: a file becomes PATH/NAME, a folder
        PATH/NAME/… It is made if need be.
    include : list of str, optional
        Shell patterns of files to upload, such as *.h5; all if not given.
    exclude : list of str, optional
        Shell patterns of files or folders to leave out, such as *.log.
    overwrite : bool
        Replace other files of the same name that are there.
    manifest : str
        File for the proofs; without it, NAME.upload.jsonl beside the first of what is uploaded.
    dry_run : bool
        Only say what would be done.
    profile : str
        Settings to use; those of the environment if not given.

    Returns
    -------
    TreeReport
        One record a file.

    Raises
    ------
    NotFound
        Something is not here, or no file is wanted.
    PartialFailure
        Some files could not be uploaded; the others are in place.
    """
    # not Path.absolute, which leaves .. in; not resolve, since a link's own name counts
    sources = [Path(os.path.abspath(Path(one).expanduser())) for one in local]  # noqa: PTH100
    if not sources:
        raise UsageError("What is to be uploaded?", hint="Name files or folders in local.")
    proofs = sources[0].with_name(sources[0].name + ENDING)
    if manifest:
        proofs = Path(manifest).expanduser().absolute()
    wanted = find_uploads(sources, path, include=include or (), exclude=exclude or ())
    pairs = {entry: here for here, entry in wanted if Path(here) != proofs}
    if not pairs:
        raise NotFound("There is no file to upload", where=", ".join(map(str, sources)))
    tally = TreeReport(f"Upload to {path}", path, manifest=str(proofs), dry_run=dry_run)
    if dry_run:
        plain = [(here, entry.path) for entry, here in pairs.items()]
        return tally.having(plan_uploads(plain, overwrite=overwrite, profile=profile))
    options = {"overwrite": overwrite, "manifest": proofs, "profile": profile}
    tally = tally.having(upload(tally.title, pairs, **options))
    if rows := tally.rows():
        title = f"{tally.title}: {tally.verdict()}."
        publish_table(f"upload-{path}", title, rows, rest=tally.manifest)
    tally.raise_if_failed()
    return tally


def upload(title: str, pairs: dict[Entry, str], **options: Any) -> list[Transfer]:
    """Upload files in batches, and show how far they are."""
    done: list[Transfer] = []
    n_bytes = sum(entry.size_bytes or 0 for entry in pairs)

    def begin(batch: Sequence[Entry]) -> Any:
        files = OpaqueSequence((pairs[entry], entry.path) for entry in batch)
        return upload_batch.submit(files, **options)

    cut = batches(pairs, max_files=files_a_batch(len(pairs)))
    with progress_shown(title, len(pairs), n_bytes) as gauge:
        for _, result in run_batches(begin, cut):
            done += gauge.arrived(report_of(result)).transfers
    return done
