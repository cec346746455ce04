"""Measures: what metrics are made of, as pure functions of arrays."""
