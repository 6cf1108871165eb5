"""The layout of a DL1 file, lstchain's or ctapipe's, from its table paths and root attributes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Names of event types by their code: ctapipe's `EventType` (ctapipe.containers, after the CTAO
#: data model of R1 events), which lstchain writes too. 32 and 2 have the names of LST's own plots:
#: ctapipe calls them SUBARRAY and SKY_PEDESTAL.
EVENT_TYPES: Mapping[int, str] = {
    32: "cosmic",
    2: "pedestal",
    0: "flatfield",
    1: "single_pe",
    3: "dark_pedestal",
    4: "electronic_pedestal",
    15: "other_calibration",
    16: "muon",
    17: "hardware_stereo",
    24: "daq",
    255: "unknown",
}
#: Name for codes that `EventType` does not have.
OTHER_TYPE = "other"
#: Tables of an lstchain datacheck file, each with the type of events it describes.
DATACHECK_TABLES: Mapping[str, str] = {
    "cosmics": "cosmic",
    "pedestals": "pedestal",
    "flatfield": "flatfield",
}

_DATACHECK = "/dl1datacheck/"
_TRIGGER = "/dl1/event/subarray/trigger"
_TELESCOPE = re.compile(r"/dl1/event/telescope/(parameters|images?)/([^/]+)")
_TEL_ID = re.compile(r"tel_([0-9]{3,5})")


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a DL1 file: which program's it is, and where its events are.

    Attributes
    ----------
    name : str
        ``lstchain`` or ``ctapipe``.
    level : str
        Data level, as in `DL1Summary`.
    simulated : bool
        Whether the events are simulated.
    events : str or None
        Path of the table with one row per event; None where there is no such table, or several.
    telescopes : tuple of int
        Numbers (`tel_id`) of the telescopes that have a table of their own (ctapipe).
    """

    name: str
    level: str
    simulated: bool
    events: str | None
    telescopes: tuple[int, ...] = ()


def layout_of(paths: Sequence[str], attributes: Mapping[str, str]) -> Layout | None:
    """Return a file's layout.

    Parameters
    ----------
    paths : sequence of str
        Paths of all tables, with a leading slash.
    attributes : mapping of str to str
        Attributes of the root group.

    Returns
    -------
    Layout or None
        None where it is not a DL1 file.
    """
    if any(path.startswith(_DATACHECK) for path in paths):
        return Layout("lstchain", "datacheck", simulated=False, events=None)
    found = [m for m in map(_TELESCOPE.fullmatch, paths) if m]
    if not found and _TRIGGER not in paths:
        return None
    by_telescope = [m for m in found if _TEL_ID.fullmatch(m[2])]
    if by_telescope or not found or "CTA PRODUCT DATA LEVELS" in attributes:
        return _ctapipe(paths, attributes, found)
    return _lstchain(paths, found)


def _lstchain(paths: Sequence[str], found: list[re.Match[str]]) -> Layout:
    """Return lstchain's layout: all telescopes of one type share a table."""
    parameters = [m[0] for m in found if m[1] == "parameters"]
    images = [m[0] for m in found if m[1] != "parameters"]
    level = "+".join((["DL1a"] if images else []) + (["DL1b"] if parameters else []))
    simulated = any(path.startswith("/simulation/") for path in paths)
    tables = parameters or images
    return Layout("lstchain", level, simulated, tables[0] if len(tables) == 1 else None)


def _ctapipe(
    paths: Sequence[str], attributes: Mapping[str, str], found: list[re.Match[str]]
) -> Layout:
    """Return ctapipe's layout: events in the trigger table, and a table for each telescope."""
    numbers = (_TEL_ID.fullmatch(m[2]) for m in found)
    telescopes = tuple(sorted({int(n[1]) for n in numbers if n}))
    kinds = {m[1] for m in found}
    level = attributes.get("CTA PRODUCT DATA LEVELS")
    if not level:
        words = (
            ("DL1_IMAGES", kinds & {"image", "images"}),
            ("DL1_PARAMETERS", "parameters" in kinds),
        )
        level = ",".join(word for word, is_present in words if is_present) or "DL1"
    simulated = attributes.get("CTA PRODUCT DATA CATEGORY") == "Sim" or any(
        path.startswith(("/simulation/", "/configuration/simulation/")) for path in paths
    )
    events = _TRIGGER if _TRIGGER in paths else None
    if events is None and len(telescopes) == 1:
        events = found[0][0]
    return Layout("ctapipe", level, simulated, events, telescopes)
