"""The command line: one file a command, heavy imports inside the command."""

from __future__ import annotations

from ctaflows.cli.app import main

__all__ = ["main"]
