"""The README's flow, run as it stands there, is tracked."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nights import make_night

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox


def test_a_flow_of_your_own(prefect_server: Any, box: Sandbox, here: Path) -> None:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(2, 2))
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = [
        b
        for b in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        if "from prefect import flow" in b
    ]
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    run = max(prefect_server.flow_runs(auto_scheduled=False), key=lambda r: r.created)
    assert run.state.is_completed()
    names = [t.name.rpartition("-")[0] for t in prefect_server.task_runs(run.id, 3)]
    assert names == ["fetch-files", "find", "inspect-dl1-files"]
    assert len(list((here / "data").rglob("*.h5"))) == 2
