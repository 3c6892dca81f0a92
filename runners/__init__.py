"""Doing the work: taking assignments, executors, workspaces, output."""
