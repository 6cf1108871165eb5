"""What a person sees in Prefect's UI: artifacts, events and assets."""
