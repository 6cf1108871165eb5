"""The command line: a module for each command; what loads slowly is imported within functions."""

from __future__ import annotations

import gc

# at the default of 700 allocations the collector runs again and again while modules are imported
gc.set_threshold(50_000)

from ctaflows.cli.app import main  # noqa: E402

__all__ = ["main"]
