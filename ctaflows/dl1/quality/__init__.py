"""Whether a DL1 file is good: the checks, their limits and where these come from."""
