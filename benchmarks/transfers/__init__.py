"""Transfers side by side with other tools: `python -m benchmarks.transfers --help`."""
