"""Safe reading of HDF5 files, local and remote, without knowledge of gamma-ray data."""
