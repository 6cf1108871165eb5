"""Modules under the names that the documentation of 0.1 gave, found under their present names.

Importing an old name issues a `DeprecationWarning` with the new one.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

#: Old module name to new module name, and old to new names in the module.
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
    """A meta path finder (and loader) of the old names, after the finders of modules on disk."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, _Finder) if name in MOVED else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Return None: Python creates the module."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        new, names = MOVED[module.__name__]
        renamed = "".join(f", and {old} in it {name}" for old, name in names.items())
        message = f"{module.__name__} is {new} now{renamed}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        moved = importlib.import_module(new)

        def get(name: str) -> Any:
            return getattr(moved, names.get(name, name))

        known = [*dir(moved), *names]
        public = [name for name in known if not name.startswith("_")]
        vars(module).update(__getattr__=get, __dir__=lambda: known, __all__=public)


def install() -> None:
    """Make the old names importable. May be called again."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
