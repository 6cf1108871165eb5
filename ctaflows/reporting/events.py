"""Prefect events of files, nights and tokens, on which automations can act.

============================ ======================================== ============================
event                        emitted                                  resource
============================ ======================================== ============================
``ctaflows.file.fetched``    once per batch, with a list of files     ``ctaflows.night.DATE``
``ctaflows.file.arrived``    once per file, by watch-night            ``ctaflows.file.PROFILE.PATH``
``ctaflows.night.complete``  once per night, when it is complete      ``ctaflows.night.DATE``
``ctaflows.token.failing``   once, when renewal begins to fail        ``ctaflows.token.PROFILE``
``ctaflows.token.recovered`` once, when renewal succeeds again        ``ctaflows.token.PROFILE``
============================ ======================================== ============================

The resource of ``ctaflows.file.fetched`` is ``ctaflows.files`` where files are of no night. Events
are emitted within flow and task runs only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import append_ours, read_ours, remove_private, write_private
from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night_snapshots import COMPLETE
from ctaflows.dl1.report.totals import totals_by_run
from ctaflows.errors import CtaflowsError, error_text
from ctaflows.tracking.task import get_logger
from ctaflows.tracking.tracked import in_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctaflows.dl1.report.night_report import NightReport
    from ctaflows.model import Report, Transfer
    from ctaflows.settings import Settings

#: Files in one event, which may have up to 1.5 MB (prefect 3.9.1,
#: server.events.maximum_size_bytes).
_FILES_PER_EVENT = 1000
#: File beside the manifest with the fingerprints of nights that were reported as complete.
_MARKER = ".complete"


# files and nights


def files_fetched(report: Report, *, date: str | None = None, version: str | None = None) -> int:
    """Emit ``ctaflows.file.fetched`` with the files of a batch that were transferred.

    Files that were in place already are left out. There is one event for each 1000 files.

    Parameters
    ----------
    report : Report
        Report of the batch.
    date, version : str, optional
        Date (``YYYYMMDD``) and version of the night that the files belong to (default: no night).

    Returns
    -------
    int
        Number of files reported; 0 outside a run.
    """
    moved = [t for t in report.transfers if t.ok and not t.skipped]
    if not in_run():
        return 0
    resource = _night(date, version) if date else {"prefect.resource.id": "ctaflows.files"}
    for start in range(0, len(moved), _FILES_PER_EVENT):
        some = moved[start : start + _FILES_PER_EVENT]
        _emit(
            "ctaflows.file.fetched",
            resource,
            date=date,
            version=version,
            n_files=len(some),
            size_bytes=sum(t.size_bytes or 0 for t in some),
            files=[_file(t) for t in some],
        )
    return len(moved)


def files_arrived(
    transfers: Iterable[Transfer],
    *,
    settings: Settings,
    date: str | None = None,
    version: str | None = None,
) -> int:
    """Emit ``ctaflows.file.arrived`` for each file that is in place.

    Parameters
    ----------
    transfers : iterable of Transfer
        The transfers; failed ones are left out.
    settings : Settings
        Settings with the profile that the files were fetched with.
    date, version : str, optional
        Date (``YYYYMMDD``) and version of the night that the files belong to (default: no night).

    Returns
    -------
    int
        Number of files reported; 0 outside a run.
    """
    n_reported = 0
    for transfer in transfers:
        if not transfer.ok or not in_run():
            continue
        name = parse_name(transfer.path)
        labels = {
            "ctaflows.night": date,
            "ctaflows.kind": name.kind if name else None,
            "ctaflows.run": str(name.run) if name else None,
            "ctaflows.subrun": f"{name.subrun:04d}" if name and name.subrun is not None else None,
        }
        resource = {
            "prefect.resource.id": f"ctaflows.file.{settings.profile}.{transfer.path}",
            "prefect.resource.name": transfer.path.rpartition("/")[2],
            **{label: value for label, value in labels.items() if value is not None},
        }
        numbers = {"run": name.run if name else None, "subrun": name.subrun if name else None}
        _emit(
            "ctaflows.file.arrived",
            resource,
            date=date,
            version=version,
            **numbers,
            **_file(transfer),
        )
        n_reported += 1
    return n_reported


def night_complete(report: NightReport) -> bool:
    """Emit ``ctaflows.night.complete`` if all files are in place, and none is missing or growing.

    It is emitted once for the same files, whose fingerprint is kept in the file ``.complete``
    beside the manifest. Delete that file to have the event emitted again.

    Parameters
    ----------
    report : NightReport
        Report of the night, or of the part of it that was asked for.

    Returns
    -------
    bool
        Whether the event was emitted now.
    """
    if report.state != COMPLETE or not report.transfers or not in_run():
        return False
    marker = Path(report.dest) / _MARKER
    fingerprint = _fingerprint(report)
    if _is_marked(marker, fingerprint):
        return False
    runs = totals_by_run(report.rows())
    is_emitted = _emit(
        "ctaflows.night.complete",
        _night(report.date, report.version),
        date=report.date,
        version=report.version,
        versions_used=list(report.versions_used),
        path=report.path,
        dest=report.dest,
        manifest=report.manifest,
        verdict=report.verdict(),
        n_files=len(report.transfers),
        size_bytes=sum(t.size_bytes or 0 for t in report.transfers),
        runs=[run.run for run in runs if run.run is not None],
        n_events=sum(run.n_events for run in runs) if report.inspections else None,
    )
    if not is_emitted:
        return False
    try:
        append_ours(marker, f"{fingerprint}\n".encode())
    except (OSError, CtaflowsError) as why:
        get_logger("events").warning("The night may be reported as complete again: %s", why)
    return True


def _fingerprint(report: NightReport) -> str:
    """Return the SHA-256 of paths, sizes and checksums of a night's files, in hexadecimal."""
    files = sorted(f"{t.path}\0{t.size_bytes}\0{t.checksum}" for t in report.transfers)
    return hashlib.sha256("\n".join(files).encode("utf-8", "surrogateescape")).hexdigest()


def _is_marked(marker: Path, fingerprint: str) -> bool:
    try:
        return fingerprint in read_ours(marker).decode("utf-8").split()
    except (OSError, CtaflowsError, UnicodeDecodeError):
        return False


def _night(date: str, version: str | None) -> dict[str, str]:
    resource = {
        "prefect.resource.id": f"ctaflows.night.{date}",
        "prefect.resource.name": f"{date} {version}" if version else date,
        "ctaflows.night": date,
    }
    return {**resource, "ctaflows.version": version} if version else resource


def _file(transfer: Transfer) -> dict[str, Any]:
    return {
        "path": transfer.path,
        "local": transfer.local,
        "size_bytes": transfer.size_bytes,
        "checksum": str(transfer.checksum) if transfer.checksum else None,
        "verified": transfer.verified,
    }


# the token


def token_failing(settings: Settings, why: CtaflowsError) -> bool:
    """Emit ``ctaflows.token.failing`` at the first of several failures in a row.

    Parameters
    ----------
    settings : Settings
        Settings with the profile of the token.
    why : CtaflowsError
        Why the token can't be renewed.

    Returns
    -------
    bool
        Whether it was the first failure.
    """
    marker = _marker(settings)
    if marker.exists():
        return False
    try:
        write_private(marker, error_text(why))
    except CtaflowsError as unkept:  # `why` is worse
        get_logger("events").warning("This may be told of again: %s", unkept)
    _emit(
        "ctaflows.token.failing", _token(settings), reason=error_text(why), next_step=why.hint or ""
    )
    return True


def token_recovered(settings: Settings) -> bool:
    """Emit ``ctaflows.token.recovered`` at the first success after failures.

    Parameters
    ----------
    settings : Settings
        Settings with the profile of the token.

    Returns
    -------
    bool
        Whether there were failures before.
    """
    marker = _marker(settings)
    if not marker.exists():
        return False
    remove_private(marker)
    _emit("ctaflows.token.recovered", _token(settings))
    return True


def _marker(settings: Settings) -> Path:
    return settings.config_dir / "tokens" / f"{settings.profile}.failing"


def _token(settings: Settings) -> dict[str, str]:
    return {
        "prefect.resource.id": f"ctaflows.token.{settings.profile}",
        "prefect.resource.name": settings.profile,
        "issuer": settings.issuer_url,
    }


def _emit(event: str, resource: dict[str, str], **payload: Any) -> bool:
    """Emit an event within a run; return whether that worked. A failure is logged as a warning."""
    if not in_run():
        return False
    from prefect.events import emit_event

    try:
        emit_event(event=event, resource=resource, payload=payload)
    except Exception as why:  # noqa: BLE001  EventTooLarge, a server that is away
        get_logger("events").warning(
            "The event %s was not sent to Prefect: %s", event, error_text(why)
        )
        return False
    return True
