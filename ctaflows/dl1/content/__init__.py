"""The contents of DL1 files: layout, tables, times, pointing, events and images."""
