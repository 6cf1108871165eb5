"""Prefect, without anything about CTA: tasks, flows, runs, cancellation, task runners."""
