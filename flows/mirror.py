"""Keep a directory here in step with one at the door."""

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
from ctaflows.tasks.tree_report import TreeReport
from ctaflows.tracking.flow import flow
from ctaflows.tracking.opaque import OpaqueSequence
from ctaflows.transfer.decide import batches
from ctaflows.transfer.manifest import NAME
from ctaflows.transfer.standing import proven

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.model import Entry, Transfer

#: A retry leaves alone what is in place and proven, and resumes what was begun.
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
    profile: str = "",
) -> TreeReport:
    """Fetch what is new or changed below a directory at the door, resumed and verified.

    Run again it moves nothing that is here and proven.

    Parameters
    ----------
    path : str
        Directory at the door, such as cta/DL1/20241114.
    dest : str
        Folder in which a folder of the directory's name is made, on the machine that runs this.
    include : list of str, optional
        Shell patterns of files to fetch, such as *.h5; all if not given.
    exclude : list of str, optional
        Shell patterns of files or directories to leave out, such as datacheck.
    delete : bool
        Delete files here that are not at the door, after all others have come. None goes if a file
        failed, or where the door shows a directory empty, as it shows one that it can't read.
    check : {"proof", "checksum", "size"}
        What spares a file that is here: a proof in the manifest (or else its checksum), its
        checksum computed again, or its size alone.
    manifest : str
        File for the proofs; without it, manifest.jsonl in the folder that is made.
    dry_run : bool
        Only say what would be done.
    profile : str
        Settings to use; those of the environment if not given.

    Returns
    -------
    TreeReport
        One record a file, and what was deleted.

    Raises
    ------
    NotFound
        There is no such directory.
    PartialFailure
        Some files could not be fetched; the others are in place.
    """
    patterns: dict[str, Any] = {"include": tuple(include or ()), "exclude": tuple(exclude or ())}
    tree = list_tree(path, **patterns, profile=profile)
    folder = Path(dest).expanduser().absolute() / tree.path.rpartition("/")[2]
    proofs = folder / NAME if NAME not in tree.names else None
    if manifest:
        proofs = Path(manifest).expanduser().absolute()
    tally = TreeReport(
        f"Mirror of {tree.path}",
        str(folder),
        manifest=str(proofs) if proofs else None,
        dry_run=dry_run,
    )
    if dry_run:
        planned = plan_fetch(
            tree.files, folder, base=tree.path, manifest=proofs, check=check, profile=profile
        )
        tally = tally.having(planned)
    else:
        in_place: list[Transfer] = []
        rest = list(tree.files)
        if proofs and check == "proof":
            in_place, rest = proven(tree.files, folder, base=tree.path, manifest=proofs)
        options = {"base": tree.path, "manifest": proofs, "check": check, "profile": profile}
        tally = tally.having(in_place + fetch(tally.title, rest, folder, **options))
        if rows := tally.rows():
            title = f"{tally.title}: {tally.verdict()}."
            publish_table(f"mirror-{tree.path}", title, rows, rest=tally.manifest)
        tally.raise_if_failed()
    if delete:
        deleted, kept = prune_tree(tree, folder, **patterns, spare=proofs, dry_run=dry_run)
        tally = tally.having(tally.transfers, deleted=tuple(deleted), kept=tuple(kept))
    return tally


def fetch(title: str, entries: Sequence[Entry], folder: Path, **options: Any) -> list[Transfer]:
    """Fetch files in batches, and show how far they are."""
    if not entries:
        return []
    done: list[Transfer] = []
    n_bytes = sum(entry.size_bytes or 0 for entry in entries)
    with progress_shown(title, len(entries), n_bytes) as gauge:
        for _, result in run_batches(
            lambda batch: fetch_batch.submit(OpaqueSequence(batch), folder, **options),
            batches(entries, max_files=files_a_batch(len(entries))),
        ):
            report = gauge.arrived(report_of(result))
            files_fetched(report)
            done += report.transfers
    return done
