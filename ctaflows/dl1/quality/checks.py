"""Is a DL1 file good? Each quantity beside its bounds, with the source of its formula. Pure.

The rules stand in `ctaflows.dl1.quality.rules`. Bounds can be set in a TOML file::

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

from ctaflows.dl1.names import parse_name
from ctaflows.dl1.quality.rules import RULES, Rule
from ctaflows.errors import CtaflowsError, UsageError, error_text
from ctaflows.model import Record

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.quality.check_values import Measurement

#: From the best to the worst; what is absent says nothing.
VERDICTS = ("absent", "ok", "warn", "bad")
READABLE = "readable"


@dataclass(frozen=True, slots=True)
class Check(Record):
    """One quantity beside its bounds.

    Attributes
    ----------
    name : str
        Such as ``flatfield_charge``.
    value : float or None
        None where the file does not tell it.
    unit : str or None
        Unit of value and bounds.
    warn, bad : tuple of two floats or None
        Lowest and highest value that is good, and that is not bad; None has no bound.
    verdict : str
        ``ok``, ``warn``, ``bad``, or ``absent`` where there is no value.
    tolerance : float
        Bounds are wider by this: three standard deviations of what chance does to so few events.
    said : str or None
        What is behind the value: names of tables, an error.
    source : str
        Where formula and bounds come from.
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
    """Bounds that are set in place of the built-in ones.

    Attributes
    ----------
    rules : dict of str to Rule
        By the check's name; those that are not to be used are not in it.
    """

    rules: Mapping[str, Rule] = field(default_factory=lambda: RULES)


def check(
    summary: DL1Summary, bounds: Bounds | None = None, datacheck: DL1Summary | None = None
) -> tuple[Check, ...]:
    """Check a file that could be read.

    Parameters
    ----------
    summary : DL1Summary
        What `inspect_file` told, with quantities.
    bounds : Bounds, optional
        In place of the built-in ones.
    datacheck : DL1Summary, optional
        What is in the file's datacheck, to be compared with.

    Returns
    -------
    tuple of Check
        Those that have a meaning for such a file, in the order of `RULES`.
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
    """Compare data with the datacheck of the same subrun, or of the same whole run.

    Parameters
    ----------
    inspections : iterable of Inspection
        Checked ones, data and datacheck files in any order.
    bounds : Bounds, optional
        In place of the built-in ones.

    Returns
    -------
    list of Inspection
        The same, with these checks where both were read.
    """
    looked = list(inspections)
    named = [parse_name(one.file) if one.summary else None for one in looked]
    datachecks: dict[tuple[int, int, int | None], list[Inspection]] = {}
    for name, one in zip(named, looked, strict=True):
        if name and name.kind == "datacheck":
            datachecks.setdefault((name.telescope, name.run, name.subrun), []).append(one)
    rules = {n: r for n, r in (bounds or Bounds()).rules.items() if r.compare}
    done = []
    for name, one in zip(named, looked, strict=True):
        if name and name.kind == "dl1" and one.summary and one.checks:
            beside = datachecks.get((name.telescope, name.run, name.subrun))
            if beside:
                # of several versions or cleanings the one that lies nearest
                nearest = max(beside, key=partial(_n_shared, one))
                found = check(one.summary, Bounds(rules), nearest.summary)
                some = {c.name: c for c in found if c.name in rules}
                kept = [some.pop(c.name, c) for c in one.checks]
                one = replace(one, checks=(*kept, *some.values()))
        done.append(one)
    return done


def _n_shared(one: Inspection, other: Inspection) -> int:
    """Count the folders above both files."""
    pairs = zip(one.file.split("/"), other.file.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def check_error(error: CtaflowsError | str) -> tuple[Check, ...]:
    """Check a file that could not be read.

    Parameters
    ----------
    error : CtaflowsError or str
        Why not.
    """
    return (_readable(error if isinstance(error, str) else error_text(error)),)


def verdict_of(checks: Iterable[Check]) -> str:
    """Give the worst verdict of many: ``ok``, ``warn`` or ``bad``; ``absent`` of none at all."""
    return max((c.verdict for c in checks), key=VERDICTS.index, default="absent")


def notable(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Give what is worth keeping of many files: what is not good, and that the file was readable.

    The verdict stays the same.
    """
    return tuple(c for c in checks if c.name == READABLE or c.verdict in ("warn", "bad"))


def remarks(checks: Iterable[Check]) -> list[str]:
    """Say in words what is not good, the worst first."""
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
    source = "the file opens, and the tables that are looked at can be unpacked"
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
        A table for each check: ``warn`` and ``bad``, each the lowest and the highest value
        (``-inf`` and ``inf`` for none), or ``use = false``.

    Raises
    ------
    UsageError
        It can't be read, names no check, or bounds are no pair of numbers.
    """
    import tomllib

    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as why:
        raise UsageError(
            "The bounds can't be read",
            where=str(path),
            said=getattr(why, "strerror", None) or str(why),
            hint="A table for each check, such as [flatfield_charge] with warn = [62.1, 75.9].",
        ) from None
    rules = dict(RULES)
    for name, table in tables.items():
        if name not in rules or not isinstance(table, dict):
            raise UsageError(
                f"There is no check “{name}”", where=str(path), hint=f"Checks: {', '.join(RULES)}."
            )
        rule = _changed(rules.pop(name), name, table, path)
        if rule is not None:
            rules[name] = rule
    # in the usual order
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
    """The result of looking into one file.

    Attributes
    ----------
    file : str
        The file.
    summary : DL1Summary or None
        What is in it, or None where it can't be told.
    error : str or None
        Why not: ``ErrorClass: message``.
    checks : tuple of Check
        What the checks say; empty where none were made.
    """

    file: str
    summary: DL1Summary | None = None
    error: str | None = None
    checks: tuple[Check, ...] = ()

    @property
    def verdict(self) -> str | None:
        """The worst of the checks' verdicts, ``ok``, ``warn`` or ``bad``; None without checks."""
        from ctaflows.dl1.quality.checks import verdict_of

        return verdict_of(self.checks) if self.checks else None
