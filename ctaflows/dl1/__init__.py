"""DL1 files: their names, the nights they belong to, their contents and their quality."""
