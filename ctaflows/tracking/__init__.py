"""All that knows Prefect and nothing of CTA: tasks, flows, runs, cancellation, task runners."""
