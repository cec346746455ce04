"""Alerts: who is told of what, once."""
