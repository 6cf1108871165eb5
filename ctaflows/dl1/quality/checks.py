"""Quality checks of DL1 files: each value with its bounds, their source, and a verdict.

The checks are listed in `ctaflows.dl1.quality.rules`. Bounds can be set in a TOML file::

    [flatfield_charge]
    warn = [62.1, 75.9]
    bad = [34.5, 103.5]

    [rate_flatfield]
    use = false
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import local_errors
from ctaflows.dl1.names import parse_name
from ctaflows.dl1.quality.rules import RULES, Rule
from ctaflows.errors import CtaflowsError, UsageError, error_text
from ctaflows.model import Record

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.quality.check_values import Measurement

#: From the best to the worst. ``absent``: no value, so neither good nor bad.
VERDICTS = ("absent", "ok", "warn", "bad")
READABLE = "readable"


@dataclass(frozen=True, slots=True)
class Check(Record):
    """The result of one check of a file.

    Attributes
    ----------
    name : str
        Name of the check, such as ``flatfield_charge``.
    value : float or None
        The measured value; None where the file lacks the data.
    unit : str or None
        Unit of value, bounds and tolerance.
    warn : tuple of two floats or None
        Lowest and highest value with the verdict ``ok``; None is unbounded.
    bad : tuple of two floats or None
        Lowest and highest value with the verdict ``warn`` or ``ok``, likewise.
    verdict : str
        ``ok``, ``warn``, ``bad``, or ``absent`` where there is no value.
    tolerance : float
        The bounds are widened by this: three standard deviations of the statistical fluctuations.
    said : str or None
        Details for people: names of tables, an error.
    source : str
        Source of formula and bounds.
    """

    name: str
    value: float | None
    unit: str | None
    warn: tuple[float | None, float | None]
    bad: tuple[float | None, float | None]
    verdict: str
    tolerance: float = 0.0
    said: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Bounds:
    """The checks to use, with their bounds.

    Attributes
    ----------
    rules : dict of str to Rule
        Checks by name, without those that are not to be used (default: `RULES`).
    """

    rules: Mapping[str, Rule] = field(default_factory=lambda: RULES)


def check(
    summary: DL1Summary, bounds: Bounds | None = None, datacheck: DL1Summary | None = None
) -> tuple[Check, ...]:
    """Check a file that could be read.

    Parameters
    ----------
    summary : DL1Summary
        Summary of the file by `inspect_file`, with quantities.
    bounds : Bounds, optional
        Checks and bounds (default: the built-in ones).
    datacheck : DL1Summary, optional
        Summary of the file's datacheck, to compare with.

    Returns
    -------
    tuple of Check
        ``readable``, then the checks that are meaningful for such a file, in the order of `RULES`.
    """
    checks = [_readable(None)]
    for name, rule in (bounds or Bounds()).rules.items():
        if rule.applies(summary):
            found = (
                rule.compare(summary, datacheck)
                if rule.compare and datacheck
                else rule.measure(summary)
            )
            checks.append(_judged(name, rule, found))
    return tuple(checks)


def with_datacheck(
    inspections: Iterable[Inspection], bounds: Bounds | None = None
) -> list[Inspection]:
    """Compare DL1 files with the datacheck of the same subrun, or of the same merged run.

    Parameters
    ----------
    inspections : iterable of Inspection
        Inspections with checks, of DL1 and datacheck files in any order.
    bounds : Bounds, optional
        Checks and bounds (default: the built-in ones).

    Returns
    -------
    list of Inspection
        The same in the same order; where both files were read, with the checks that compare them.
    """
    inspected = list(inspections)
    named = [parse_name(one.file) if one.summary else None for one in inspected]
    datachecks: dict[tuple[int, int, int | None], list[Inspection]] = {}
    for name, one in zip(named, inspected, strict=True):
        if name and name.kind == "datacheck":
            datachecks.setdefault((name.telescope, name.run, name.subrun), []).append(one)
    rules = {n: r for n, r in (bounds or Bounds()).rules.items() if r.compare}
    result = []
    for name, one in zip(named, inspected, strict=True):
        if name and name.kind == "dl1" and one.summary and one.checks:
            candidates = datachecks.get((name.telescope, name.run, name.subrun))
            if candidates:
                # of several versions or cleanings the one that is nearest in the directory tree
                nearest = max(candidates, key=partial(_n_shared, one))
                found = check(one.summary, Bounds(rules), nearest.summary)
                compared = {c.name: c for c in found if c.name in rules}
                checks = [compared.pop(c.name, c) for c in one.checks]
                one = replace(one, checks=(*checks, *compared.values()))
        result.append(one)
    return result


def _n_shared(one: Inspection, other: Inspection) -> int:
    """Return the number of directories that the paths of both files begin with."""
    pairs = zip(one.file.split("/"), other.file.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def check_error(error: CtaflowsError | str) -> tuple[Check, ...]:
    """Return the checks of a file that could not be read: ``readable`` alone, which is bad.

    Parameters
    ----------
    error : CtaflowsError or str
        Why it could not be read.
    """
    return (_readable(error if isinstance(error, str) else error_text(error)),)


def verdict_of(checks: Iterable[Check]) -> str:
    """Return the worst verdict of all checks, in the order of `VERDICTS`; ``absent`` of none."""
    return max((c.verdict for c in checks), key=VERDICTS.index, default="absent")


def notable(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks worth keeping of many files: ``readable``, and those that are not ok.

    The worst verdict stays the same.
    """
    return tuple(c for c in checks if c.name == READABLE or c.verdict in ("warn", "bad"))


def remarks(checks: Iterable[Check]) -> list[str]:
    """Return a sentence for each check with the verdict ``bad`` or ``warn``, the worst first."""
    worse = sorted(
        (c for c in checks if c.verdict in ("warn", "bad")),
        key=lambda c: -VERDICTS.index(c.verdict),
    )
    return [f"{c.verdict}: {_words(c)}" for c in worse]


def _words(one: Check) -> str:
    if one.name == READABLE:
        return f"can't be read, {one.said}"
    unit = f" {one.unit}" if one.unit else ""
    bounds = one.bad if one.verdict == "bad" else one.warn
    low, high = (("…" if b is None else f"{b:.4g}") for b in bounds)
    said = f" ({one.said})" if one.said else ""
    return f"{one.name} {one.value:.4g}{unit}, not within {low} to {high}{said}"


def _readable(error: str | None) -> Check:
    value, verdict = (1.0, "ok") if error is None else (0.0, "bad")
    source = "the file opens, and the tables that are inspected can be decompressed"
    return Check(READABLE, value, None, (1.0, 1.0), (1.0, 1.0), verdict, 0.0, error, source)


def _judged(name: str, rule: Rule, found: Measurement) -> Check:
    value = found.value
    if value is None or not math.isfinite(value):
        value, verdict = None, "absent"
    elif not _is_within(value, rule.bad, found.tolerance):
        verdict = "bad"
    elif not _is_within(value, rule.warn, found.tolerance):
        verdict = "warn"
    else:
        verdict = "ok"
    return Check(
        name,
        value,
        rule.unit,
        rule.warn,
        rule.bad,
        verdict,
        found.tolerance,
        found.said,
        rule.source,
    )


def _is_within(value: float, bounds: tuple[float | None, float | None], tolerance: float) -> bool:
    low, high = bounds
    return (low is None or value >= low - tolerance) and (high is None or value <= high + tolerance)


def load_bounds(path: str | os.PathLike[str]) -> Bounds:
    """Read bounds from a TOML file.

    Parameters
    ----------
    path : path
        A file with a table for each check to change: ``warn`` and ``bad``, each the lowest and the
        highest value (``-inf`` and ``inf`` for none), or ``use = false``.

    Returns
    -------
    Bounds
        The built-in checks with these changes.

    Raises
    ------
    UsageError
        The file can't be read, names an unknown check, or has bounds that are not a pair of
        numbers, the lowest first.
    """
    import tomllib

    path = Path(path)
    what = "The bounds can't be read"
    hint = "A table for each check, such as [flatfield_charge] with warn = [62.1, 75.9]."
    try:
        with local_errors(path, what, hint=hint):
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as why:
        raise UsageError(what, where=str(path), said=str(why), hint=hint) from None
    rules = dict(RULES)
    for name, table in tables.items():
        if name not in rules or not isinstance(table, dict):
            raise UsageError(
                f"There is no check “{name}”", where=str(path), hint=f"Checks: {', '.join(RULES)}."
            )
        rule = _changed(rules.pop(name), name, table, path)
        if rule is not None:
            rules[name] = rule
    # in the order of RULES
    return Bounds({name: rules[name] for name in RULES if name in rules})


def _changed(rule: Rule, name: str, table: dict[str, Any], path: Path) -> Rule | None:
    known = {"warn", "bad", "use"}
    if set(table) - known or not isinstance(table.get("use", True), bool):
        raise UsageError(
            f"The bounds of {name} can't be {table}",
            where=str(path),
            hint="They are warn and bad, each [lowest, highest], or use = false.",
        )
    if not table.get("use", True):
        return None
    warn, bad = (
        _pair(table[k], f"{name}.{k}", path) if k in table else usual
        for k, usual in (("warn", rule.warn), ("bad", rule.bad))
    )
    return replace(rule, warn=warn, bad=bad)


def _pair(value: Any, name: str, path: Path) -> tuple[float | None, float | None]:
    is_pair = (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        and value[0] <= value[1]
    )
    if not is_pair:
        raise UsageError(
            f"{name} can't be {value}",
            where=str(path),
            hint="It is the lowest and the highest value, [62.1, 75.9]; -inf and inf for none.",
        )
    low, high = (float(v) if math.isfinite(v) else None for v in value)
    return low, high


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting one file.

    Attributes
    ----------
    file : str
        Path of the file.
    summary : DL1Summary or None
        Its contents; None where it could not be read.
    error : str or None
        Why it could not be read: ``ErrorClass: message``.
    checks : tuple of Check
        Results of its checks; empty where it was not checked.
    """

    file: str
    summary: DL1Summary | None = None
    error: str | None = None
    checks: tuple[Check, ...] = ()

    @property
    def verdict(self) -> str | None:
        """The worst verdict of the checks, see `verdict_of`; None without checks."""
        from ctaflows.dl1.quality.checks import verdict_of

        return verdict_of(self.checks) if self.checks else None
