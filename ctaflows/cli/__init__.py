"""The command line: one file a command, heavy imports inside the command."""

from __future__ import annotations

import gc

# a short-lived process: at the default of 700 the collector runs all the time while modules load
gc.set_threshold(50_000)

from ctaflows.cli.app import main  # noqa: E402

__all__ = ["main"]
