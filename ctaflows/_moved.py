"""Modules by the names that the documentation of 0.1 taught, found where they are now.

Whoever imports one gets a `DeprecationWarning` that says the new name.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

#: Old name to new name, and names in it that have changed.
MOVED: dict[str, tuple[str, dict[str, str]]] = {
    "ctaflows.artifacts": ("ctaflows.reporting.artifacts", {}),
    "ctaflows.dl1.checks": ("ctaflows.dl1.quality.checks", {}),
    "ctaflows.dl1.figures": ("ctaflows.dl1.report.plots", {}),
    "ctaflows.dual": ("ctaflows.tracking.tracked", {"Dual": "Tracked"}),
    "ctaflows.flow": ("ctaflows.tracking.flow", {}),
    "ctaflows.sealed": ("ctaflows.tracking.opaque", {"Sealed": "OpaqueSequence"}),
    "ctaflows.storage.door": ("ctaflows.storage.webdav", {"Door": "WebDAVStorage"}),
    "ctaflows.task": ("ctaflows.tracking.task", {}),
}


class _Finder:
    """Finds modules by their old names; asked last, after all that finds modules on disk."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, _Finder) if name in MOVED else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Leave it to Python."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        new, names = MOVED[module.__name__]
        renamed = "".join(f", and {old} in it {name}" for old, name in names.items())
        message = f"{module.__name__} is {new} now{renamed}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        there = importlib.import_module(new)

        def get(name: str) -> Any:
            return getattr(there, names.get(name, name))

        known = [*dir(there), *names]
        public = [name for name in known if not name.startswith("_")]
        vars(module).update(__getattr__=get, __dir__=lambda: known, __all__=public)


def install() -> None:
    """Let the old names be found, once."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
