"""The quality of DL1 files: the checks, their bounds and the sources of these."""
