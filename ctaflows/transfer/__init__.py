"""Moving files: planned by pure functions, carried out by thin ones, proven."""
