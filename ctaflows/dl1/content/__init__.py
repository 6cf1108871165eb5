"""What is in a DL1 file: its layout, tables, times, pointing, events and images."""
