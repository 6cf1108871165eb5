"""What came of a lie: decided from exit codes and bytes alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class Found(StrEnum):
    """What is there at the end."""

    RIGHT = "right"
    WRONG = "wrong"
    ABSENT = "absent"


class Verdict(StrEnum):
    """What a tool made of a lie, the worst first."""

    ACCEPTED = "accepted"
    LEFT = "left"
    ENDLESS = "endless"
    DOUBTED = "right, fails"
    REFUSED = "refused"
    RIGHT = "right"
    UNTOLD = "not told"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one lie told to one tool.

    Attributes
    ----------
    tool, kind, case : str
        Name of the tool, of the kind of job and of the lie.
    size_bytes : int
        Size of the file.
    verdict : Verdict
        What it comes to.
    found : Found
        What is there at the end.
    note : str
        More of that.
    exit_codes : list of int or None
        Those of its calls; None if it was ended at the limit.
    n_requests : int
        Requests at all origins.
    has_leaked_token : bool
        Whether the token was seen at another origin.
    went_clear : bool
        Whether anything was requested without TLS.
    seconds : float
        Wall time of all calls.
    said : str
        Last line that it printed.
    """

    tool: str
    kind: str
    case: str
    size_bytes: int
    verdict: Verdict
    found: Found
    note: str = ""
    exit_codes: list[int | None] = field(default_factory=list)
    n_requests: int = 0
    has_leaked_token: bool = False
    went_clear: bool = False
    seconds: float = 0
    said: str = ""


def judge(exit_code: int | None, found: Found, *, was_lied_to: bool = True) -> Verdict:
    """Return the verdict.

    Parameters
    ----------
    exit_code : int or None
        That of the last call; None if it did not end within the limit.
    found : Found
        What is there at the end.
    was_lied_to : bool
        Whether the tool sent a request of the kind that is lied to.
    """
    if not was_lied_to:
        return Verdict.UNTOLD
    if exit_code is None:
        return Verdict.ENDLESS
    if exit_code == 0:
        return Verdict.RIGHT if found is Found.RIGHT else Verdict.ACCEPTED
    kinds = {Found.RIGHT: Verdict.DOUBTED, Found.WRONG: Verdict.LEFT, Found.ABSENT: Verdict.REFUSED}
    return kinds[found]


def compare(
    got: Mapping[str, bytes],
    right: Mapping[str, Collection[bytes]],
    *,
    optional: Mapping[str, bytes] | None = None,
    unwanted: Sequence[str] = (),
) -> tuple[Found, str]:
    """Compare what is there with what should be.

    Parameters
    ----------
    got : dict of str to bytes
        Content of the files, by relative path; other files than those below do not matter: a tool
        may leave part files and notes of its own.
    right : dict of str to collection of bytes
        What must be there, and what its content may be.
    optional : dict of str to bytes
        What may be there.
    unwanted : sequence of str
        Paths at which nothing may be.

    Returns
    -------
    Found, str
        ``WRONG`` if any content is wrong or any file unwanted; else ``ABSENT`` if any is missing;
        with what is wrong in words.
    """
    optional = optional or {}
    wrong = [name for name in right if name in got and got[name] not in right[name]]
    wrong += [name for name, data in optional.items() if got.get(name, data) != data]
    if foreign := [name for name in unwanted if name not in optional]:
        return Found.WRONG, f"foreign file {foreign[0]}"
    if wrong:
        sizes = {len(data) for data in right.get(wrong[0], ())}
        said = _described(got[wrong[0]], is_size_right=len(got[wrong[0]]) in sizes)
        return Found.WRONG, said if len(right) == 1 else f"{wrong[0]}: {said}"
    missing = [name for name in right if name not in got]
    if not missing:
        return Found.RIGHT, ""
    if len(missing) == len(right):
        return Found.ABSENT, "nothing"
    return Found.ABSENT, f"{', '.join(missing)} missing"


def _described(data: bytes, *, is_size_right: bool) -> str:
    if not data:
        return "empty"
    if data[:2] == b"\x1f\x8b":
        return "gzip"
    if data.startswith(b"<html"):
        return "begins with a page" if is_size_right else "a page"
    if is_size_right:
        return "other bytes"
    return f"{len(data):,} B"
