"""Tuning: trials of a step that look for the best parameters, each of them a task."""
