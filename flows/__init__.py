"""Flows: compositions of the tasks in `ctaflows.tasks`."""
