"""The outcomes as Markdown tables, and docs/trust.md with them between its markers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.trust.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.trust.trial import Kind
    from benchmarks.trust.verdicts import Outcome

_BAD = (Verdict.ACCEPTED, Verdict.LEFT)
_COUNTED = (Verdict.ACCEPTED, Verdict.LEFT, Verdict.ENDLESS, Verdict.DOUBTED, Verdict.REFUSED,
            Verdict.RIGHT)  # fmt: skip


def cell(outcome: Outcome | None) -> str:
    """Return what a table says of an outcome, with exit codes and number of requests."""
    if outcome is None or outcome.verdict is Verdict.UNTOLD:
        return "–"
    said = f"**{outcome.verdict}**" if outcome.verdict in _BAD else str(outcome.verdict)
    said = f"{said}: {outcome.note}" if outcome.note and _is_telling(outcome) else said
    if outcome.went_clear:
        said += ", in clear"
    if outcome.has_leaked_token:
        said += ", **+token**"
    codes = ", ".join("…" if code is None else str(code) for code in outcome.exit_codes)
    return f"{said} ({codes}; {outcome.n_requests})"


def _is_telling(outcome: Outcome) -> bool:
    return outcome.verdict is not Verdict.REFUSED or outcome.note != "nothing"


def tables(outcomes: Sequence[Outcome], kinds: Sequence[Kind]) -> str:
    """Return the summary, and a table for each kind and size."""
    made = [_summary(outcomes)]
    for kind in kinds:
        for size in sorted({o.size_bytes for o in outcomes if o.kind == kind.key}):
            title = f"### {kind.title}, {_size(size)}"
            these = [o for o in outcomes if (o.kind, o.size_bytes) == (kind.key, size)]
            made.append(f"{title}\n\n{_of_kind(these, kind)}")
    return "\n".join(made)


def _of_kind(outcomes: Sequence[Outcome], kind: Kind) -> str:
    by = {(o.case, o.tool): o for o in outcomes}
    tools = _tools(outcomes)
    sentences = {lie.name: lie.sentence for lie in kind.lies}
    return rows(
        ["lie", *tools],
        (
            [f"`{case}` {sentences[case]}", *(cell(by.get((case, tool))) for tool in tools)]
            for case in dict.fromkeys(o.case for o in outcomes)
        ),
    )


def _summary(outcomes: Sequence[Outcome]) -> str:
    """Count the verdicts of each tool."""
    body = []
    for tool in _tools(outcomes):
        these = [o for o in outcomes if o.tool == tool and o.verdict is not Verdict.UNTOLD]
        count = Counter(o.verdict for o in these)
        tokens = sum(o.has_leaked_token for o in these)
        body.append([tool, *(str(count[v]) for v in _COUNTED), str(tokens), str(len(these))])
    return rows(["tool", *_COUNTED, "token elsewhere", "all"], body)


def _tools(outcomes: Iterable[Outcome]) -> list[str]:
    return list(dict.fromkeys(o.tool for o in outcomes))


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _size(n_bytes: int) -> str:
    return f"{n_bytes // 1_000_000:,} MB" if n_bytes >= 1_000_000 else f"{n_bytes // 1000:,} kB"
