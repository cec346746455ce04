"""Tracking: how metrics, parameters and tags lie in SQLite, and how runs are found by them."""
