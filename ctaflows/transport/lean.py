"""httpx without its own command line.

httpx 0.28 imports that with itself, and with it rich and pygments: a quarter of the time that
`ctaflows ls` needs to begin. In this process nobody asks for it.
"""

from __future__ import annotations

import sys
import types


def _no_command_line() -> None:
    sys.exit("This is ctaflows' process; run httpx in one of its own.")


_stub = types.ModuleType("httpx._main")
_stub.main = _no_command_line  # type: ignore[attr-defined]
sys.modules.setdefault("httpx._main", _stub)

import httpx  # noqa: E402

__all__ = ["httpx"]
