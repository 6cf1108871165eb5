"""inspections.jsonl: what was found in each file, so that no file is looked into twice.

It lies beside the manifest. A line counts as long as the file is the one that was looked into: of
the same size, time and checksum. Left out are tables and columns (`ctaflows inspect --tables` has
them), checks that are good (`ctaflows check --all` has them), and files that could not be read:
they are looked into again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import open_ours, read_ours
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.quality.checks import Check, Inspection, notable, with_datacheck
from ctaflows.errors import UsageError
from ctaflows.model import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ctaflows.model import Transfer

NAME = "inspections.jsonl"
_ENDINGS = (".h5", ".hdf5")
_KEYS = {"local", "of", "summary", "checks"}
_FIELDS = set(DL1Summary.__dataclass_fields__)  # a line of another version is no record

log = logging.getLogger("ctaflows.dl1")


class InspectionCache:
    """What is known of the files in a folder.

    Parameters
    ----------
    folder : path
        The night's folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.file = Path(folder) / NAME
        self._prefix = os.path.join(os.fspath(folder), "")  # noqa: PTH118
        self._records = _read(self.file)
        self._unreadable: dict[str, Inspection] = {}

    def unknown(self, transfers: Iterable[Transfer]) -> list[str]:
        """Name the HDF5 files in place that are still to be looked into."""
        return [
            t.local
            for t in transfers
            if t.ok and t.local.endswith(_ENDINGS) and self._record(t) is None
        ]

    def add(self, found: Iterable[Inspection], transfers: Iterable[Transfer]) -> None:
        """Keep what was found in files. Where it can't be written it is found again next time."""
        identities = {t.local: _identity(t) for t in transfers}
        lines = []
        for looked in found:
            if looked.summary is None:
                self._unreadable[looked.file] = looked
                continue
            name = looked.file.removeprefix(self._prefix)
            summary = replace(looked.summary, file=name, tables=()).to_dict()
            record = {
                "local": name,
                "of": identities[looked.file],
                "summary": summary,
                "checks": [one.to_dict() for one in notable(looked.checks)],
            }
            self._records[name] = record
            lines.append(json.dumps(record, ensure_ascii=False) + "\n")
        if not lines:
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with os.fdopen(open_ours(self.file, flags, may_be_linked=True), "ab") as file:
                file.write("".join(lines).encode("utf-8", "surrogateescape"))
        except (OSError, UsageError) as why:
            log.warning("What was found in files can't be kept: %s", why)

    def of(self, transfers: Iterable[Transfer]) -> list[Inspection]:
        """Give what is known of files, those that could not be read with their error."""
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
        # now that both are there: data and their datacheck may have come in different batches
        return with_datacheck(found)

    def _record(self, transfer: Transfer) -> dict[str, Any] | None:
        """Give the record of a file, if it is still the same file."""
        record = self._records.get(transfer.local.removeprefix(self._prefix))
        return record if record is not None and record["of"] == _identity(transfer) else None


class CachedInspection(Mapping[str, Inspection]):
    """Local path to what was found in the file; read only.

    It is no dict on purpose: Prefect goes through all that is in dicts, lists and dataclasses of a
    flow's result in search of futures (prefect 3.9.1, futures.py: _resolve_futures), here half a
    million objects for each thousand files.
    """

    def __init__(self, found: Iterable[Inspection] = ()) -> None:
        self._found = {looked.file: looked for looked in found}

    def __getitem__(self, local: str) -> Inspection:
        return self._found[local]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._found.values())!r})"


def _identity(transfer: Transfer) -> list[Any]:
    """Say which file it is, by what its proof says."""
    checksum = str(transfer.checksum) if transfer.checksum else None
    return [transfer.size_bytes, utc_text(transfer.mtime), checksum]


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """Read what is there; what is no record is passed over."""
    known: dict[str, dict[str, Any]] = {}
    try:
        content = read_ours(file)
    except (OSError, UsageError):
        return known
    for line in content.split(b"\n"):
        try:
            record = json.loads(line.decode("utf-8", "surrogateescape"))
            if record.keys() >= _KEYS and record["summary"].keys() >= _FIELDS:
                known[record["local"]] = record
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    return known
