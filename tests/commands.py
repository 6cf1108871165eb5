"""`ctaflows` as a person runs it, in this process: quick, where nothing is about processes."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from ctaflows.cli import app


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def ctaflows(*words: str) -> Done:
    """Run a command, without a terminal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = app.exit_code(app.cli, "ctaflows", list(words))
    assert "Traceback" not in err.getvalue(), err.getvalue()
    return Done(code, out.getvalue(), err.getvalue())
