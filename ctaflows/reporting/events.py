"""What Prefect is told of: events that an automation can act on.

=========================== ===================================== =========================
event                       told                                  resource
=========================== ===================================== =========================
``ctaflows.file.fetched``   once a batch, with a list of files    ``ctaflows.night.DATE``
``ctaflows.file.arrived``   once a file, by watch-night           ``ctaflows.file.PROFILE.PATH``
``ctaflows.night.complete`` once a night, when all is in place    ``ctaflows.night.DATE``
``ctaflows.token.failing``  once, when it can't be renewed        ``ctaflows.token.PROFILE``
``ctaflows.token.recovered`` once, when it can again              ``ctaflows.token.PROFILE``
=========================== ===================================== =========================

Outside a run there is nobody to tell.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import open_ours, read_ours, write_private
from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night_snapshots import COMPLETE
from ctaflows.dl1.report.totals import totals_by_run
from ctaflows.errors import CtaflowsError, UsageError, error_text
from ctaflows.tracking.task import get_logger
from ctaflows.tracking.tracked import in_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctaflows.dl1.report.night_report import NightReport
    from ctaflows.model import Report, Transfer
    from ctaflows.settings import Settings

#: A server takes events of 1.5 MB at most (prefect 3.9.1, server.events.maximum_size_bytes).
_FILES_AN_EVENT = 1000
#: Beside the manifest: of which files it was told that the night is complete.
_MARKER = ".complete"


# files and nights


def files_fetched(report: Report, *, date: str | None = None, version: str | None = None) -> int:
    """Tell which files of a batch came, in one event; files that were in place are no news.

    Parameters
    ----------
    report : Report
        The batch.
    date, version : str, optional
        The night they are of.

    Returns
    -------
    int
        How many files were told of.
    """
    moved = [t for t in report.transfers if t.ok and not t.skipped]
    if not in_run():
        return 0
    resource = _night(date, version) if date else {"prefect.resource.id": "ctaflows.files"}
    for start in range(0, len(moved), _FILES_AN_EVENT):
        some = moved[start : start + _FILES_AN_EVENT]
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
    """Tell of each file that has come and is in place, in an event of its own.

    Parameters
    ----------
    transfers : iterable of Transfer
        Those that failed are passed over.
    settings : Settings
        Whose door they are of.
    date, version : str, optional
        The night they are of.

    Returns
    -------
    int
        How many files were told of.
    """
    n_told = 0
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
        n_told += 1
    return n_told


def night_complete(report: NightReport) -> bool:
    """Tell that a night is complete: all files in place, none missing or growing at the door.

    It is told once for the same files: a marker beside the manifest remembers. Delete ``.complete``
    to have it told again.

    Parameters
    ----------
    report : NightReport
        The night, or the part of it that was asked for.

    Returns
    -------
    bool
        Was it told now?
    """
    if report.state != COMPLETE or not report.transfers or not in_run():
        return False
    marker = Path(report.dest) / _MARKER
    fingerprint = _fingerprint(report)
    if _is_marked(marker, fingerprint):
        return False
    runs = totals_by_run(report.rows())
    told = _emit(
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
    if not told:
        return False
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(open_ours(marker, flags, may_be_linked=True), "a", encoding="utf-8") as file:
            file.write(fingerprint + "\n")
    except (OSError, UsageError) as why:
        get_logger("events").warning("The night may be told of again: %s", why)
    return True


def _fingerprint(report: NightReport) -> str:
    """Give a short name for exactly these files with these contents."""
    files = sorted(f"{t.path}\0{t.size_bytes}\0{t.checksum}" for t in report.transfers)
    return hashlib.sha256("\n".join(files).encode("utf-8", "surrogateescape")).hexdigest()


def _is_marked(marker: Path, fingerprint: str) -> bool:
    try:
        return fingerprint in read_ours(marker).decode("utf-8").split()
    except (OSError, UsageError, UnicodeDecodeError):
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
    """Say once that the token can't be kept: the first of several failures in a row.

    Parameters
    ----------
    settings : Settings
        Whose token.
    why : CtaflowsError
        The failure.

    Returns
    -------
    bool
        Was it the first?
    """
    marker = _marker(settings)
    if marker.exists():
        return False
    write_private(marker, error_text(why))
    _emit(
        "ctaflows.token.failing", _token(settings), reason=error_text(why), next_step=why.hint or ""
    )
    return True


def token_recovered(settings: Settings) -> bool:
    """Say once that the token is kept again after failures."""
    try:
        _marker(settings).unlink()
    except FileNotFoundError:
        return False
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
    """Tell Prefect; outside a run there is nobody to tell, and a failure is no failure of a run."""
    if not in_run():
        return False
    from prefect.events import emit_event

    try:
        emit_event(event=event, resource=resource, payload=payload)
    except Exception as why:  # noqa: BLE001  EventTooLarge, a server that is away
        get_logger("events").warning("Prefect was not told of %s: %s", event, why)
        return False
    return True
