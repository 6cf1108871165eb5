"""Cache of inspections in ``inspections.jsonl``, so that no file of a night is inspected twice.

The file is in the night's folder, beside the manifest. A line is valid as long as the file is the
one that was inspected, see `Entry.same_file_as`. Left out are tables and columns (shown by
``ctaflows inspect --tables``), checks that are ok (``ctaflows check --all``), and files that could
not be read: these are inspected again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import append_ours, read_ours
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.quality.checks import Check, Inspection, notable, with_datacheck
from ctaflows.errors import CtaflowsError
from ctaflows.model import Checksum, Entry, json_line, utc_text, utc_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ctaflows.model import Transfer

NAME = "inspections.jsonl"
_ENDINGS = (".h5", ".hdf5")
_KEYS = {"local", "of", "summary", "checks"}
_FIELDS = set(DL1Summary.__dataclass_fields__)  # a line of a version with other fields is ignored

log = logging.getLogger("ctaflows.dl1")


class InspectionCache:
    """The inspections of the files in a night's folder.

    Parameters
    ----------
    folder : path
        The night's folder.

    Attributes
    ----------
    file : Path
        The file with the cache.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.file = Path(folder) / NAME
        self._prefix = os.path.join(os.fspath(folder), "")  # noqa: PTH118
        self._records = _read(self.file)
        self._unreadable: dict[str, Inspection] = {}

    def unknown(self, transfers: Iterable[Transfer]) -> list[str]:
        """Return the local paths of HDF5 files that are in place and not inspected yet."""
        return [
            t.local
            for t in transfers
            if t.ok and t.local.endswith(_ENDINGS) and self._record(t) is None
        ]

    def add(self, found: Iterable[Inspection], transfers: Iterable[Transfer]) -> None:
        """Add inspections to the cache.

        Where the cache can't be written, a warning is logged, and the files are inspected again
        next time.

        Parameters
        ----------
        found : iterable of Inspection
            The inspections.
        transfers : iterable of Transfer
            The transfers of these files, and of others.
        """
        identities = {t.local: _identity(t) for t in transfers}
        lines = []
        for inspection in found:
            if inspection.summary is None:
                self._unreadable[inspection.file] = inspection
                continue
            name = inspection.file.removeprefix(self._prefix)
            summary = replace(inspection.summary, file=name, tables=()).to_dict()
            record = {
                "local": name,
                "of": identities[inspection.file],
                "summary": summary,
                "checks": [one.to_dict() for one in notable(inspection.checks)],
            }
            self._records[name] = record
            lines.append(json_line(record))
        if not lines:
            return
        try:
            append_ours(self.file, b"".join(lines))
        except (OSError, CtaflowsError) as why:
            log.warning("The results of inspecting files can't be saved: %s", why)

    def of(self, transfers: Iterable[Transfer]) -> list[Inspection]:
        """Return the inspections of these files, with the error where one could not be read.

        Files that have not been inspected are left out.
        """
        found = []
        for transfer in transfers:
            record = self._record(transfer)
            if record is not None:
                values = {**record["summary"], "file": transfer.local}
                checks = tuple(map(Check.from_dict, record["checks"]))
                found.append(
                    Inspection(transfer.local, DL1Summary.from_dict(values), checks=checks)
                )
            elif transfer.local in self._unreadable:
                found.append(self._unreadable[transfer.local])
        # compared only now: a file and its datacheck may have arrived in different batches
        return with_datacheck(found)

    def _record(self, transfer: Transfer) -> dict[str, Any] | None:
        """Return the cached record of a file, None if it has changed or has none."""
        record = self._records.get(transfer.local.removeprefix(self._prefix))
        if record is None or _looked_into(record).same_file_as(transfer.source) is False:
            return None
        return record


class CachedInspection(Mapping[str, Inspection]):
    """Read-only mapping of local paths to inspections.

    Not a dict, on purpose: Prefect searches the dicts, lists and dataclasses in a flow's result for
    futures (prefect 3.9.1, futures.py: _resolve_futures), which are half a million objects for a
    thousand files.
    """

    def __init__(self, found: Iterable[Inspection] = ()) -> None:
        self._found = {inspection.file: inspection for inspection in found}

    def __getitem__(self, local: str) -> Inspection:
        return self._found[local]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._found.values())!r})"


def _identity(transfer: Transfer) -> list[Any]:
    """Return size, modification time and checksum of a file, by which a change is recognised."""
    checksum = str(transfer.checksum) if transfer.checksum else None
    return [transfer.size_bytes, utc_text(transfer.mtime), checksum]


def _looked_into(record: dict[str, Any]) -> Entry:
    """Make the file that a record is of, from what `_identity` gave."""
    size_bytes, mtime, checksum = record["of"]
    checksums = () if checksum is None else (Checksum.parse(checksum),)
    return Entry(record["local"], size_bytes=size_bytes, mtime=utc_time(mtime), checksums=checksums)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """Return the valid records of a cache file by their path; none where it can't be read."""
    known: dict[str, dict[str, Any]] = {}
    try:
        content = read_ours(file)
    except (OSError, CtaflowsError):
        return known
    for line in content.split(b"\n"):
        try:
            record = json.loads(line.decode("utf-8", "surrogateescape"))
            if record.keys() >= _KEYS and record["summary"].keys() >= _FIELDS:
                _looked_into(record)
                known[record["local"]] = record
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    return known
