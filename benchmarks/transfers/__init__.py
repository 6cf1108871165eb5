"""Transfers compared with other tools: `python -m benchmarks.transfers --help`."""
