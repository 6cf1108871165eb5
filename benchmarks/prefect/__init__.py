"""The cost of Prefect, and its limits: see docs/scaling.md."""
