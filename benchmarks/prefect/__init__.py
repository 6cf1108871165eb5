"""What Prefect costs, and how far it goes: see docs/scaling.md."""
