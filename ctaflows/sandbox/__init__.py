"""A dCache-like door, an OpenID Connect issuer and a sample night, all on loopback.

::

    with Sandbox(quirks=Quirks(redirect_reads=False), faults=["503:2@*.h5"]) as box:
        box.put("/lst/a.h5", b"...")
        settings = box.settings()

Importing this package is cheap: the server modules are imported when `Sandbox` is first accessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.sandbox.faults import Fault, parse
from ctaflows.sandbox.quirks import Quirks

if TYPE_CHECKING:
    from ctaflows.sandbox.sandbox import Sandbox

__all__ = ["Fault", "Quirks", "Sandbox", "parse"]


def __getattr__(name: str) -> Any:
    if name != "Sandbox":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from ctaflows.sandbox.sandbox import Sandbox
    except ModuleNotFoundError as why:
        from ctaflows.errors import UsageError

        if (why.name or "").startswith("ctaflows"):
            raise
        raise UsageError(
            "The sandbox needs packages that are not installed",
            said=str(why),
            hint="pip install 'ctaflows[sandbox]'",
        ) from why
    return Sandbox
