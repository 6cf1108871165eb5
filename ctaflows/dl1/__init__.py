"""DL1 files: their names, the night they belong to, what is in them."""
