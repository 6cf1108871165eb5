"""Reports to Prefect's server: artifacts, events and assets."""
