"""Safe access to HDF5 files, local and remote: nothing here knows gamma rays."""
