"""httpx without what a process of ours never asks of it.

httpx 0.28 imports its own command line with itself, and with it rich and pygments; httpcore 1.0
imports h2 where that is installed, though HTTP/2 is off: together a third of the time that
`ctaflows ls` needs to begin. Who wants HTTP/2 in the same process (Prefect's client may) still gets
it: httpcore imports that module again when a connection speaks it.
"""

from __future__ import annotations

import sys
import types


def _no_command_line() -> None:
    sys.exit("This is ctaflows' process; run httpx in one of its own.")


_stub = types.ModuleType("httpx._main")
_stub.main = _no_command_line  # type: ignore[attr-defined]
sys.modules.setdefault("httpx._main", _stub)

_HTTP2 = {
    "httpcore._sync.http2": "HTTP2Connection",
    "httpcore._async.http2": "AsyncHTTP2Connection",
}
if "httpcore" not in sys.modules:
    for _module, _name in _HTTP2.items():
        _stub = types.ModuleType(_module)
        setattr(_stub, _name, type(_name, (), {}))
        sys.modules[_module] = _stub
try:
    import httpcore  # noqa: F401
finally:
    for _module in _HTTP2:
        if not hasattr(sys.modules.get(_module), "__file__"):
            sys.modules.pop(_module, None)

import httpx  # noqa: E402

__all__ = ["httpx"]
