"""Monitors: questions asked of the Log."""
