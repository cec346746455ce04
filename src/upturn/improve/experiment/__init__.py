"""Experiments: arms compared on metrics, and what may be concluded so far."""
